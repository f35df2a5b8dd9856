"""Pickles that hold plain data: containers, text, numbers and NumPy arrays, and nothing to run."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


# What pickled arrays and bytes refer to, arrays under the names of NumPy 1 and 2.
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


def load_plain(content: bytes) -> Any:
    """The value pickled in `content`; strings of Python 2 come as bytes.

    Raises `pickle.UnpicklingError` where it refers to anything but arrays and bytes: nothing
    else is looked up, so nothing can be run. Damaged content raises that or other exceptions.
    """
    return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
