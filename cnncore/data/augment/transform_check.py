"""The check of a user's transform by the plan, in a process of its own; loads no torch here."""

from __future__ import annotations

import json
import subprocess

from cnncore.error_text import printable
from cnncore.fresh_process import fresh_process

# A transform that gives no answer for so long, in seconds, is taken to hang.
HANG_S = 60.0
# Images that a transform is tried on.
TRIED = 5


def transform_problem(name: str, options: str, side: int) -> str | None:
    """Return why a transform cannot be used on images of a side, or None.

    `options` is JSON. It is tried in a process of its own, because the user's code may change the
    process, hang or die.
    """
    request = json.dumps({"name": name, "options": json.loads(options), "side": side})
    command = fresh_process("cnncore.data.augment.own_transform:try_transform", request)
    try:
        done = subprocess.run(command, capture_output=True, timeout=HANG_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{name}: gave no answer to {TRIED} images within {HANG_S:g} s"
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode == 0 and lines and lines[-1].startswith("{"):
        problem: str | None = json.loads(lines[-1])["problem"]
        return problem
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = f": {printable(said[-1])[:300]}" if said else ""
    return f"{name}: its code ended the process with exit code {done.returncode}{last}"
