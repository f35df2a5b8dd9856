"""An exception of the user's code as a line of text: whatever it is, this raises nothing."""

from __future__ import annotations

import inspect
import os
import sysconfig
import traceback
from pathlib import Path

# Folders of installed packages, of this or another environment.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
# The longest line that is kept of a message.
LONGEST = 500
# Code that is not the user's: Python and installed packages, and the packages of this project.
_LIBRARIES = tuple(
    sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
)
_OURS = tuple(
    str(Path(__file__).parent.parent / name) for name in ("analysis", "cluster", "cnncore", "grid")
)


def error_line(error: BaseException) -> str:
    """Return an exception's type and the first line of its message."""
    name, lines = type(error).__name__, error_message(error).strip().splitlines()
    return printable(f"{name}: {lines[0]}" if lines else name)[:LONGEST]


def error_message(error: BaseException) -> str:
    """Return an exception's message, also if its own `__str__` fails."""
    try:
        return str(error)
    except BaseException:
        return "(its message cannot be shown)"


def error_report(error: BaseException) -> str:
    """Return an exception with its traceback."""
    try:
        return printable("".join(traceback.format_exception(error)))
    except BaseException:  # attributes of its own that fail
        return f"{error_line(error)}\n"


def printable(text: str) -> str:
    """Return text that any encoding of Unicode takes: lone surrogates as `\\udce9`.

    Python reads such a surrogate for each byte of a file's name that is not UTF-8.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def own_line(error: BaseException) -> str | None:
    """Return `file.py:12`, the last line of the user's own code that an exception passed."""
    if isinstance(error, SyntaxError) and error.filename and is_own_file(error.filename):
        return _place(error.filename, error.lineno)
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_own_file(frame.f_code.co_filename)
    ]
    return _place(*frames[-1]) if frames else None


def defined_at(function: object) -> str | None:
    """Return `file.py:12`, where a function or class of the user's own is defined, else None."""
    try:
        inner = inspect.unwrap(function)  # type: ignore[arg-type]  # a partial has no own line
        file, line = inspect.getsourcefile(inner), inspect.getsourcelines(inner)[1]
    except BaseException:  # the message that the place is for matters more
        return None
    return _place(file, line) if file and is_own_file(file) else None


def is_own_file(name: str) -> bool:
    """Check whether a file is the user's own code."""
    path = os.path.abspath(name)
    inside = any(path.startswith(folder + os.sep) for folder in (*_LIBRARIES, *_OURS))
    return not (inside or name.startswith("<")) and not _INSTALLED & set(Path(path).parts)


def _place(file: str, line: int | None) -> str:
    return printable(f"{Path(file).name}:{line}")
