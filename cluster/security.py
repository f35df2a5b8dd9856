"""Files nobody else may read: a job's script, and the token without which nobody joins its Ray.

In a job: `python3 -P -m cluster.security FILE` makes a token.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def write_token(path: Path) -> None:
    """Write a fresh token to a new file that only its owner may read.

    Raises `FileExistsError` where there is a file or link already: it may be somebody else's.
    """
    write_private(path, secrets.token_hex(32), mode=0o600)


def write_private(path: Path, text: str, *, mode: int) -> None:
    """Write a new file with exactly this mode, whatever the umask; it never had a wider one."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


if __name__ == "__main__":
    write_token(Path(sys.argv[1]))
