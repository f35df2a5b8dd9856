"""A data set of the user's own: `package.module:function`."""

from __future__ import annotations

import importlib
from typing import Any

from cnncore.data.errors import DataError


def call(target: str) -> Any:
    """What the function returns, unchecked; it is called without arguments.

    Raises `DataError` where the module or the function cannot be had, or the function raises.
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
