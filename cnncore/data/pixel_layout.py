"""Arrays of any usual dtype and layout as 8-bit images, with a word on what was understood.

One rule holds for all splits of a data set: a range per split would tell the splits apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncore.data.errors import DataError

Array = npt.NDArray[Any]
# Floats above 1 by rounding alone still lie in 0 to 1.
ROUNDING = 1e-3
# Floats whose largest is between 1 and this may be of 0 to 1, of 0 to 16 or of 0 to 255.
CLEARLY_BYTES = 64
CHANNELS = (1, 3)
LEAST_BITS = 8


@dataclass(frozen=True)
class Understood:
    """Images by name as uint8, channels last, and what was done to them, in words; "" if nothing.

    Images in another number of dimensions stay as they are, for `checked` to name.
    """

    images: dict[str, Any]
    how: str


def understand(name: str, images: Mapping[str, Any]) -> Understood:
    """Return the images of all splits as uint8 and channels last, by one rule for all.

    Floats lie in 0 to 1 or in 0 to 255; whole numbers in 0 to 2^b - 1, where b is the number of
    bits of the largest, at least 8; booleans are black and white. Raises `DataError` for what could
    be meant in two ways.
    """
    arrays = {key: as_array(name, key, value) for key, value in images.items()}
    if not arrays or any(array.ndim not in (3, 4) or not array.size for array in arrays.values()):
        return Understood(dict(arrays), "")
    first = next(iter(arrays.values()))
    parts = [str(first.dtype)]
    moved = [key for key, array in arrays.items() if _channels_first(name, key, array)]
    for key in moved:
        arrays[key] = np.moveaxis(arrays[key], 1, 3)
    scale = _scale(name, arrays)
    if scale is not None:
        low_high, scaled = scale
        parts[0] += f" {low_high}"
        arrays = {key: scaled_to_bytes(array, scaled) for key, array in arrays.items()}
    if moved:
        parts.append("channels first")
    if scale is not None and scale[1] != 255:
        parts.append("scaled to 0..255")
    understood = len(moved) > 0 or scale is not None
    return Understood(dict(arrays), f"images are {', '.join(parts)}" if understood else "")


def as_array(name: str, key: str, value: Any) -> Array:
    """Return a value as an array; a tensor of PyTorch by way of the CPU."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        # NumPy has no such type.
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    if array.dtype == object:
        raise DataError(
            f"data set {name}: {key} must be one array of images of one size, got "
            f"{type(value).__name__} of images that differ; bring them to one size"
        )
    return array


def _channels_first(name: str, key: str, array: Array) -> bool:
    """Tell `(images, channels, side, side)` from `(images, side, side, channels)`."""
    if array.ndim != 4:
        return False
    _, a, b, c = array.shape
    first, last = a in CHANNELS and b == c, c in CHANNELS and a == b
    if first and last:
        raise DataError(
            f"data set {name}: {key} of shape {array.shape} may have its channels first or last; "
            "return grey images as (images, side, side), or larger ones"
        )
    return first


def _scale(name: str, arrays: Mapping[str, Array]) -> tuple[str, float] | None:
    """Return the range in words and the value that becomes 255; None for uint8."""
    kinds = {array.dtype for array in arrays.values()}
    if kinds == {np.dtype(np.uint8)}:
        return None
    if len(kinds) > 1:
        raise DataError(
            f"data set {name}: {' and '.join(arrays)} must have the same dtype, got "
            f"{' and '.join(str(array.dtype) for array in arrays.values())}"
        )
    kind = kinds.pop()
    if kind == np.bool_:
        return "(false is black, true is white)", 1
    if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
        raise DataError(f"data set {name}: images must be numbers or booleans, got {kind}")
    low = min(float(array.min()) for array in arrays.values())
    high = max(float(array.max()) for array in arrays.values())
    if not np.isfinite([low, high]).all():
        raise DataError(f"data set {name}: its images have pixels that are no finite numbers")
    if low < 0:
        raise DataError(
            f"data set {name}: pixel values go from {low:g} to {high:g}; return them as they are "
            "before any normalisation, as 0 to 1 or 0 to 255 (the key `normalize` does the rest)"
        )
    if np.issubdtype(kind, np.integer):
        top = 2 ** max(LEAST_BITS, int(high).bit_length()) - 1
        return f"in 0..{top}", top
    if high <= 1 + ROUNDING:
        return "in [0, 1]", 1
    if CLEARLY_BYTES <= high <= 255:
        return "in 0..255", 255
    raise DataError(
        f"data set {name}: pixel values are {kind} from {low:g} to {high:g}, neither 0 to 1 nor "
        "clearly 0 to 255; scale them to 0 to 1, or return them as uint8"
    )


def scaled_to_bytes(array: Array, top: float) -> Array:
    """Return 0 to `top` as 0 to 255, rounded, in blocks, so that no float copy is made of all."""
    scaled = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), 1000):
        block = array[start : start + 1000].astype(np.float64) * (255 / top)
        scaled[start : start + 1000] = np.rint(block).clip(0, 255)
    return scaled
