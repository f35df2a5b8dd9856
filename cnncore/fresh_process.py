"""A fresh Python process that finds the same modules as this one."""

from __future__ import annotations

import json
import sys


def fresh_process(function: str, *arguments: str) -> list[str]:
    """Return the command that calls `package.module:function` with text arguments.

    The process looks for modules where this one does, and first of all nowhere else.
    """
    module, _, name = function.partition(":")
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        f"from {module} import {name}; {name}(*sys.argv[2:])"
    )
    return [sys.executable, "-P", "-c", program, json.dumps(sys.path), *arguments]
