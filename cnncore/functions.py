"""Functions by their name `package.module:function`, as a sweep file writes them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from cnncore.error_text import error_line, own_line


def import_function(name: str) -> Callable[..., Any]:
    """Import a function. Raises `ValueError` if its module or the function itself is missing."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{name}: {error}; the module must be installed or on PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:
        place = f" ({line})" if (line := own_line(error)) else ""
        raise ValueError(
            f"{name}: its module cannot be imported: {error_line(error)}{place}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{name}: module {module_name} has no function {attribute}")
    return function  # type: ignore[no-any-return]  # callable, seen one line above
