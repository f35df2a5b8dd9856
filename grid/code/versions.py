"""Versions of the libraries that can change a number."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata

RECORDED = ("cnngrid", "torch", "torchvision", "ray", "optuna", "pyarrow", "numpy")


@cache
def versions(*packages: str | None) -> str:
    """Return the versions of Python and of the libraries that can change a number, as JSON.

    `packages` are others that networks are taken from, or that the user's own code imports; None
    stands for none. Imports none of them.
    """
    versions_of = {"python": platform.python_version()}
    for name in (*RECORDED, *filter(None, packages)):
        if name in sys.stdlib_module_names or name in versions_of:
            continue
        with suppress(metadata.PackageNotFoundError):
            versions_of[name] = metadata.version(name)
            continue
        for distribution in _distributions().get(name, ()) if name not in RECORDED else ():
            versions_of[distribution] = metadata.version(distribution)
    return json.dumps(versions_of)


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the distributions that bring each importable name."""
    return metadata.packages_distributions()
