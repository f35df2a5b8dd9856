"""A data set that a user's function returns: `package.module:function`."""

from __future__ import annotations

from typing import Any

from cnncore.data.errors import DataError
from cnncore.error_text import error_line, own_line
from cnncore.functions import check_call, import_function


def call(target: str) -> Any:
    """Call the function without arguments and return its result, unchecked.

    Raises `DataError` if the module cannot be imported, has no such function, or anything at all
    is raised, with the line of the user's file that raised it.
    """
    try:
        function = import_function(target)
        check_call(target, function)
    except ValueError as problem:
        raise DataError(f"data set {problem}") from problem
    except BaseException as error:
        raise DataError(_describe(target, error)) from error
    try:
        return function()
    except BaseException as error:
        raise DataError(_describe(target, error)) from error


def _describe(target: str, error: BaseException) -> str:
    place = f" ({line})" if (line := own_line(error)) else ""
    return f"data set {target}: {error_line(error)}{place}"
