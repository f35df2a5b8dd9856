"""Values of a sweep as plain data: Python's own converted, those that no file can hold named."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from cnncore.spelling import as_written
from grid.sweep.yaml_source import KeyPath


def plain_value(value: Any) -> Any:
    """Convert NumPy's numbers and arrays, ranges, tuples and paths to what YAML gives."""
    if hasattr(value, "tolist"):  # arrays and numbers of NumPy, and of others such as torch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain_value(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def form_problems(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield what no config can hold: keys that are not text, infinities, a function, NUL."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from form_problems(item, (*path, key))
            else:
                got = as_written(key)
                quoted = "" if isinstance(key, (list, tuple)) else f'; write it in quotes: "{got}"'
                yield path, f"keys are text, but got {got}{quoted}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from form_problems(item, (*path, index))
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"must be a finite number, but got {value}"
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            yield path, f"holds a character that is not text, in {as_written(value)}"
    elif callable(value):
        yield path, f"give a function by its name, 'module:function', but got {as_written(value)}"
    elif not (value is None or isinstance(value, (int, BaseModel))):
        yield path, f"is no number, text or list, but got a {type(value).__name__}"
