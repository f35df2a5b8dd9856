"""A data set that a user's function returns: `package.module:function`."""

from __future__ import annotations

import importlib
from typing import Any

from cnncore.data.errors import DataError


def call(target: str) -> Any:
    """Call the function without arguments and return its result, unchecked.

    Raises `DataError` if the module cannot be imported, has no such function, or the call fails.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise DataError(
            f"data set {target}: cannot import {module_name} ({error}); "
            "the module must be installed or on PYTHONPATH"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"data set {target}: {module_name} has no function {name}")
    try:
        return function()
    except Exception as error:
        raise DataError(f"data set {target}: {type(error).__name__}: {error}") from error
