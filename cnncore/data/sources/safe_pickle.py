"""Pickles of plain data (containers, text, numbers, NumPy arrays), loaded without running code."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that Python 3 pickled for Python 2 as Latin-1 text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


# Functions and classes that pickled bytes and arrays refer to, by their names in NumPy 1 and 2.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None


def load_safe_pickle(content: bytes) -> Any:
    """Return the value pickled in `content`; strings of Python 2 become bytes.

    Raises `pickle.UnpicklingError` if it refers to anything but arrays and bytes. Nothing else is
    looked up, so no code can run. Damaged content raises this or another exception.
    """
    return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
