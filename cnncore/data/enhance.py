"""Brightness, contrast and sharpness of whole batches, byte for byte as Pillow's `ImageEnhance`.

Each goes from a degenerate image at factor 0 over the image itself at 1 to its overdone form
beyond: black for brightness, the mean grey for contrast, the smoothed image for sharpness.
Images are uint8 `(batch, side, side, 3)`, red, green, blue; so is what comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def brightness(images: Tensor, factor: float) -> Tensor:
    """Away from black, or towards it below 1."""
    return _blend(torch.zeros((), dtype=torch.int32, device=images.device), images, factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Away from the mean luminance of each image, or towards it below 1."""
    luminance = _luminance(images).flatten(1).sum(1)
    pixels = images.shape[1] * images.shape[2]
    mean = (2 * luminance + pixels) // (2 * pixels)  # rounded half up
    return _blend(mean[:, None, None, None], images, factor)


def sharpness(images: Tensor, factor: float) -> Tensor:
    """Away from the smoothed image, or towards it below 1."""
    return _blend(_smooth(images), images, factor)


ENHANCERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
}


def enhance(images: Tensor, factors: Mapping[str, float]) -> Tensor:
    """Each enhancer named in `factors`, one after the other in the order of `ENHANCERS`."""
    for name, enhancer in ENHANCERS.items():
        if name in factors:
            images = enhancer(images, factors[name])
    return images


def _blend(degenerate: Tensor, images: Tensor, factor: float) -> Tensor:
    """`degenerate + factor * (image - degenerate)`, cut off to bytes towards zero."""
    start = degenerate.float()
    return (start + factor * (images.float() - start)).clamp_(0, 255).to(torch.uint8)


def _luminance(images: Tensor) -> Tensor:
    """ITU-R 601-2 in Pillow's fixed-point form, int32 `(batch, side, side)`."""
    red, green, blue = images.int().unbind(-1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def _smooth(images: Tensor) -> Tensor:
    """A 3x3 mean in which the centre counts five times; the border stays as it is."""
    values = images.int()
    height, width = values.shape[1:3]
    smoothed = values.clone()
    if min(height, width) < 3:
        return smoothed
    inside = smoothed[:, 1:-1, 1:-1]
    total = 4 * values[:, 1:-1, 1:-1]
    for top in range(3):
        for left in range(3):
            total += values[:, top : height - 2 + top, left : width - 2 + left]
    inside.copy_((2 * total + 13) // 26)  # total / 13, rounded to nearest
    return smoothed
