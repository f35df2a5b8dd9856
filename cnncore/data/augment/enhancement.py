"""Brightness, contrast, saturation and sharpness of whole batches, as in Pillow's `ImageEnhance`.

Pixels and results are float32 `(batch, 3, height, width)` with whole values 0 to 255. A factor is
one number, or one per image as `(batch, 1, 1, 1)`. Factor 1 changes nothing; factor 0 gives a
black, an evenly grey, a colourless or a smoothed image; above 1 the difference from it grows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import Enhance

# Pillow's weights of red, green and blue in 65,536ths (ITU-R 601-2), and its filter `SMOOTH`.
LUMA = (19_595.0, 38_470.0, 7_471.0)
SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))
# Number of images that `enhanced` changes at a time.
CHUNK = 1000


def brightness(pixels: Tensor, factor: Tensor | float) -> Tensor:
    """Scale the difference from black."""
    return _blend(torch.zeros_like(pixels), pixels, factor)


def contrast(pixels: Tensor, factor: Tensor | float) -> Tensor:
    """Scale the difference from the mean grey of each image."""
    mean = _grey(pixels).mean((1, 2, 3), keepdim=True, dtype=torch.float64)
    return _blend((mean + 0.5).floor().float().expand_as(pixels), pixels, factor)


def saturation(pixels: Tensor, factor: Tensor | float) -> Tensor:
    """Scale the difference from the greyscale image (Pillow's `Color`)."""
    return _blend(_grey(pixels).expand_as(pixels), pixels, factor)


def sharpness(pixels: Tensor, factor: Tensor | float) -> Tensor:
    """Scale the difference from the smoothed image; pixels at the border stay."""
    if min(pixels.shape[2:]) < len(SMOOTH):
        return pixels
    kernel = torch.tensor(SMOOTH, device=pixels.device)
    sums = F.conv2d(pixels, kernel.expand(3, 1, 3, 3), groups=3)
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = (sums / kernel.sum() + 0.5).floor()
    return _blend(smooth, pixels, factor)


# The fields of `Enhance`, in the order of application.
ENHANCERS: dict[str, Callable[[Tensor, Tensor | float], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
}


def enhanced(images: Tensor, factors: Enhance) -> Tensor:
    """Return a copy of uint8 images `(images, side, side, 3)`, changed by fixed factors."""
    result = torch.empty_like(images)
    for start in range(0, len(images), CHUNK):
        pixels = images[start : start + CHUNK].permute(0, 3, 1, 2).float()
        for name, enhancer in ENHANCERS.items():
            if (factor := getattr(factors, name)) != 1:
                pixels = enhancer(pixels, factor)
        result[start : start + CHUNK] = pixels.permute(0, 2, 3, 1)
    return result


def _grey(pixels: Tensor) -> Tensor:
    """Return the rounded luma `(batch, 1, height, width)`."""
    weights = torch.tensor(LUMA, device=pixels.device)[:, None, None]
    return (((pixels * weights).sum(1, keepdim=True) + 2**15) / 2**16).floor()


def _blend(base: Tensor, pixels: Tensor, factor: Tensor | float) -> Tensor:
    """Interpolate from `base` (factor 0) to `pixels` (factor 1) and beyond.

    Fractions are truncated, as in Pillow.
    """
    return (base + factor * (pixels - base)).clamp(0, 255).floor()
