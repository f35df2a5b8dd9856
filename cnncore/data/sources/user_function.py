"""A data set that a user's function returns: `package.module:function`."""

from __future__ import annotations

from typing import Any

from cnncore.data.errors import DataError
from cnncore.error_text import error_line, own_line
from cnncore.functions import import_function


def call(target: str) -> Any:
    """Call the function without arguments and return its result, unchecked.

    Raises `DataError` if the module cannot be imported, has no such function, or the call fails.
    """
    if target.startswith("__main__:"):
        raise DataError(
            f"data set {target}: the processes that train cannot import what a script or notebook "
            "defines; write the function into a file, such as my_data.py, and name it "
            f"my_data:{target.partition(':')[2]}"
        )
    try:
        function = import_function(target)
    except ValueError as problem:
        raise DataError(f"data set {problem}") from problem
    try:
        return function()
    except (Exception, SystemExit) as error:
        place = f" ({line})" if (line := own_line(error)) else ""
        raise DataError(f"data set {target}: {error_line(error)}{place}") from error
