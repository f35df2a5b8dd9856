"""Files that only their owner may read: a job's script, and the token that its Ray requires.

A job runs `python3 -P -m cluster.security FILE` to make its token.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def write_token(path: Path) -> None:
    """Write a random token to a new file that only its owner may read.

    Raises `FileExistsError` if the path exists, as a file or link: another user may have made it.
    """
    write_private(path, secrets.token_hex(32), mode=0o600)


def write_private(path: Path, text: str, *, mode: int) -> None:
    """Write a new file with exactly this mode, whatever the umask; at no time is it wider."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


if __name__ == "__main__":
    write_token(Path(sys.argv[1]))
