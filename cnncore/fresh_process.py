"""A fresh Python process that finds the same modules as this one."""

from __future__ import annotations

import json
import sys

from cnncore.own_modules import in_use


def fresh_process(function: str, *arguments: str) -> list[str]:
    """Return the command that calls `package.module:function` with text arguments.

    The process looks for modules where this one does, and first of all nowhere else. The user's own
    come from the same stored copy.
    """
    module, _, name = function.partition(":")
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from cnncore.own_modules import use; use(sys.argv[2]); "
        f"from {module} import {name}; {name}(*sys.argv[3:])"
    )
    stored = str(in_use() or "")
    return [sys.executable, "-P", "-c", program, json.dumps(sys.path), stored, *arguments]
