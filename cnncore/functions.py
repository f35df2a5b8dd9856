"""Functions by their name `package.module:function`, as a sweep file writes them."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

from cnncore.error_text import error_line, own_line

# Names before a colon that are no module of the user's: libraries of networks and kinds of data.
RESERVED = ("csv", "imagefolder", "parquet", "timm", "torchvision")
# The digits of a version: hexadecimal, in lower case.
VERSION = re.compile(r"[0-9a-f]{4,16}")


def check_function_name(name: str) -> str | None:
    """Return the problem with the name of a user's function, or None; import nothing."""
    module, attribute = _parts(name)
    if "@" in name and not VERSION.fullmatch(name.partition("@")[2]):
        return (
            f"{name}: no such version; after the @ come the first 4 to 16 digits of an earlier "
            "version's fingerprint, which `cnngrid code RESULTS TRIAL` prints"
        )
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        return f"{name!r} must be a known name or package.module:function"
    if module == "__main__":
        return (
            f"{name}: the processes that train cannot import what a script or notebook defines; "
            f"write {attribute} into a file, such as my_code.py, and name it my_code:{attribute}"
        )
    if module in RESERVED:
        return (
            f"{name}: before a colon {', '.join(RESERVED)} are reserved for libraries and kinds of "
            f"data; rename your module, such as my_{module}.py, and name it my_{module}:{attribute}"
        )
    if _is_standard(module):
        return (
            f"{name}: {module} is a module of Python's standard library; name a function of your "
            "own, in a module with another name"
        )
    return None


def import_function(name: str) -> Callable[..., Any]:
    """Import a function. Raises `ValueError` if it is missing or of the standard library.

    Nothing of the standard library is imported or returned, because its functions do other things
    than to build a network or to return images: some start a server, some end the process.
    """
    if problem := check_function_name(name):
        raise ValueError(problem)
    module_name, attribute = _parts(name)
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
    found = getattr(module, attribute, None)
    if found is None:
        kind = "class" if attribute[:1].isupper() else "function"
        raise ValueError(f"{name}: module {module_name} has no {kind} {attribute}")
    if not callable(found):
        raise ValueError(
            f"{name}: {attribute} of module {module_name} is of the type {type(found).__name__}, "
            "neither a function nor a class"
        )
    function: Callable[..., Any] = found
    if _is_standard(getattr(_innermost(function), "__module__", None) or ""):
        raise ValueError(
            f"{name}: is a function of Python's standard library; name one of your own"
        )
    return function


def check_call(name: str, function: Callable[..., Any], *arguments: str) -> None:
    """Raise `ValueError` if a function cannot be called with these keyword arguments."""
    call = f"{name.partition(':')[2]}({', '.join(f'{key}=...' for key in arguments)})"
    try:
        signature = inspect.signature(function)
        signature.bind(**dict.fromkeys(arguments))
    except ValueError:
        raise ValueError(
            f"{name}: it is called as {call}, but has no readable parameters"
        ) from None
    except TypeError as error:
        raise ValueError(f"{name}: it is called as {call}, but {error}") from None


def _parts(name: str) -> tuple[str, str]:
    """Return the module and the name in it; an earlier version's digits (`@3fa2`) say only which.

    The process that trains imports from that version's stored copy.
    """
    module, _, attribute = name.partition("@")[0].partition(":")
    return module, attribute


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _innermost(function: Any) -> Any:
    """Return the function inside `functools.partial` objects, whose own module says nothing."""
    while isinstance(function, functools.partial):
        function = function.func
    return function
