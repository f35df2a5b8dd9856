"""Operations on whole batches with an amount per image, equal to torchvision's one by one.

Pixels are float32 `(batch, side, side, 3)`, contiguous, with whole values 0 to 255; so are results.
`amounts` is float32 `(batch, AMOUNTS)`, one row per image. References are the kernels of
`torchvision.transforms.v2.functional` for uint8 tensors. Only order and fusion of float32
operations may differ, so a value may differ by 1 where it lies at the edge of a whole number.

No operation has a result whose shape depends on values, so none waits for a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Numbers that an operation may need: an inverse affine map has six.
AMOUNTS = 6
# Weights of red, green and blue in torchvision's greyscale.
LUMA = (0.2989, 0.587, 0.114)
BINS = 256

Operation = Callable[[Tensor, Tensor], Tensor]


def _column(amounts: Tensor, index: int) -> Tensor:
    return amounts[:, index, None, None, None]


# -- colours ---------------------------------------------------------------------------------


def brightness(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Scale all values by the factor in column 0."""
    return pixels.mul(_column(amounts, 0)).clamp_(0, 255).floor_()


def saturation(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the greyscale image: columns 0 and 1 are its own weight and the other one."""
    return _blend(pixels, grey(pixels), amounts)


def contrast(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the mean of the greyscale image, by the weights in columns 0 and 1."""
    return _blend(pixels, grey(pixels).mean((1, 2, 3), keepdim=True), amounts)


def sharpness(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the smoothed image, by the weights in columns 0 and 1; the border stays."""
    if min(pixels.shape[1:3]) <= 2:
        return pixels
    inner = pixels[:, 1:-1, 1:-1]
    rows = pixels[:, :-2] + pixels[:, 1:-1]
    rows += pixels[:, 2:]
    # Ones around a five, divided by 13. Sums are whole, so that rounding has no ties.
    smooth = rows[:, :, :-2] + rows[:, :, 1:-1]
    smooth += rows[:, :, 2:]
    smooth.add_(inner, alpha=4).mul_(1 / 13).round_()
    result = pixels.clone()
    result[:, 1:-1, 1:-1] += smooth.sub_(inner).mul_(_column(amounts, 1))
    return result.clamp_(0, 255).floor_()


def hue(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Turn the hue by the share of its circle in column 0.

    A channel is `max - range * clamp(min(k, 4 - k), 0, 1)` with `k = (n + 6 hue) mod 6` and n = 5,
    3, 1 for red, green, blue: the usual way from HSV to RGB in one expression.
    """
    red, green, blue = pixels.unbind(3)
    low, high = torch.aminmax(pixels, dim=3)
    spread = high - low
    divisor = torch.where(spread == 0, 1.0, spread)
    turn = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    turn += amounts[:, 0, None, None] * 6
    result = torch.empty_like(pixels)
    for channel, offset in enumerate((5, 3, 1)):
        k = (turn + offset).remainder_(6)
        share = torch.minimum(k, 4 - k).clamp_(0, 1)
        result[..., channel] = high - spread * share
    # The scale of torchvision's way from floats to bytes.
    return result.mul_((256 - 1e-3) / 255).floor_().clamp_(0, 255)


def grey(pixels: Tensor) -> Tensor:
    """Return the greyscale image `(batch, side, side, 1)`, whole values."""
    red, green, blue = pixels.unbind(3)
    luma = red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return luma.floor_().unsqueeze(3)


def grayscale(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Make all channels the greyscale image."""
    return grey(pixels).expand_as(pixels)


def posterize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Round down to multiples of the step in column 0."""
    step = _column(amounts, 0)
    return pixels.div(step).floor_().mul_(step)


def solarize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Invert values from the threshold in column 0 up."""
    return torch.where(pixels >= _column(amounts, 0), 255 - pixels, pixels)


def autocontrast(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Stretch each channel's range to 0 to 255; a channel of one value stays."""
    side, rows = pixels.shape[2], pixels.flatten(2)
    # Along rows: the innermost loops then run over a row's values, not over 3 channels.
    low, high = (x.view(-1, side, 3) for x in (rows.amin(1), rows.amax(1)))
    low, high = low.amin(1), high.amax(1)
    single = low == high
    scale = torch.where(single, 1.0, (high - low) * (1 / 255)).repeat(1, side)[:, None]
    low = torch.where(single, 0.0, low).repeat(1, side)[:, None]
    return rows.sub(low).div_(scale).clamp_(0, 255).floor_().view(pixels.shape)


def equalize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Equalize each channel's histogram, by Pillow's table."""
    count, device = len(pixels), pixels.device
    channels = (torch.arange(count * 3, device=device) * BINS).view(count, 3)
    places = pixels.flatten(2).long().add_(channels.repeat(1, pixels.shape[2])[:, None]).view(-1)
    histogram = torch.zeros(count * 3 * BINS, dtype=torch.int32, device=device)
    # One dimension: PyTorch then has a deterministic way on CUDA.
    histogram.scatter_add_(0, places, histogram.new_ones(1).expand_as(places))
    histogram = histogram.view(-1, BINS)
    sums = histogram.cumsum(1, dtype=torch.int32)
    last = histogram.gather(1, sums.argmax(1, keepdim=True))
    step = (sums[:, -1:] - last).div_(BINS - 1, rounding_mode="floor")
    values = torch.arange(BINS, device=device, dtype=torch.int32)
    table = (sums - histogram + step // 2).div_(step.clamp(min=1), rounding_mode="floor")
    table = torch.where(step == 0, values, table.clamp_(0, 255)).float()
    return table.view(-1).index_select(0, places).view(pixels.shape)


def _blend(pixels: Tensor, other: Tensor, amounts: Tensor) -> Tensor:
    own, others = _column(amounts, 0), _column(amounts, 1)
    return pixels.mul(own).add_(other * others).clamp_(0, 255).floor_()


# -- places ----------------------------------------------------------------------------------


def vertical_flip(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Mirror top to bottom."""
    return pixels.flip(1)


def affine(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Take each pixel from the nearest source position; outside the image is black.

    The six columns are the inverse map, in pixels from the image's centre: a source position is
    `x' = a x + b y + c`, `y' = d x + e y + f`.
    """
    count, side = len(pixels), pixels.shape[1]
    along = torch.arange(side, device=pixels.device) - (side - 1) / 2
    a, b, c, d, e, f = amounts.unbind(1)
    centre = (side - 1) / 2
    columns = along * a[:, None], along * b[:, None] + (c[:, None] + centre)
    rows = along * d[:, None], along * e[:, None] + (f[:, None] + centre)
    x, y = ((per_x[:, None] + per_y[:, :, None]).round_() for per_x, per_y in (columns, rows))
    near_x, near_y = x.clamp(0, side - 1), y.clamp(0, side - 1)
    outside = (near_x != x).logical_or_(near_y != y)
    # Whole numbers below 2**24 are exact in float32 up to a side of 4,096 pixels.
    places = near_y.mul_(side).add_(near_x).to(torch.int64)
    places += (torch.arange(count, device=pixels.device) * side**2)[:, None, None]
    places.masked_fill_(outside, count * side**2)
    with_black = torch.cat((pixels.view(-1, 3), pixels.new_zeros(1, 3)))
    return with_black.index_select(0, places.view(-1)).view(pixels.shape)


def resized_box(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Enlarge the box `top, left, height, width` (columns 0 to 3) to the image, bilinearly."""
    count, side = len(pixels), pixels.shape[1]
    top, left, height, width = amounts[:, :4].unbind(1)
    first = torch.arange(count, device=pixels.device)[:, None]
    low, high, weight = _taps(top, height, side)
    flat = pixels.view(count * side, side * 3)
    upper, lower = (flat[(first * side + y).view(-1)].view(pixels.shape) for y in (low, high))
    tall = upper.lerp_(lower, weight[:, :, None, None]).view(-1, 3)
    low, high, weight = _taps(left, width, side)
    rows = torch.arange(count * side, device=pixels.device).view(count, side, 1) * side
    one, other = (
        tall.index_select(0, (rows + x[:, None]).view(-1)).view(pixels.shape) for x in (low, high)
    )
    return one.lerp_(other, weight[:, None, :, None]).round_()


def _taps(start: Tensor, length: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source positions of each pixel along one side, and the second's weight."""
    along = torch.arange(side, device=start.device) + 0.5
    place = (along * (length / side)[:, None] - 0.5).clamp_(min=0)
    place = torch.minimum(place, (length - 1)[:, None])
    low = place.floor()
    weight = place - low
    low, last = low + start[:, None], (start + length - 1)[:, None]
    return low.long(), torch.minimum(low + 1, last).long(), weight


def blur(kernel: int) -> Operation:
    """Return the Gaussian blur in a window of `kernel` pixels, with the sigma in column 0."""

    def blurred(pixels: Tensor, amounts: Tensor) -> Tensor:
        # As torchvision's tensor kernel: a Gaussian of variance sigma**2 at distances k - 1 over
        # two roots of two apart; the softmax makes the weights' sum one.
        most = (kernel - 1) / (2 * math.sqrt(2))
        distances = torch.linspace(-most, most, kernel, device=pixels.device)
        weights = torch.softmax(-(distances / amounts[:, :1]).square(), dim=1)
        return _along(_along(pixels, weights, 1), weights, 2).round_()

    return blurred


def _along(pixels: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Return the weighted sums of neighbours along a dimension, mirrored at the border."""
    kernel, side = weights.shape[1], pixels.shape[dim]
    places = torch.arange(-(kernel // 2), side + kernel // 2, device=pixels.device).abs()
    places = torch.where(places >= side, 2 * (side - 1) - places, places)
    padded = pixels.index_select(dim, places)
    sums = padded.narrow(dim, 0, side) * _column(weights, 0)
    for tap in range(1, kernel):
        sums.addcmul_(padded.narrow(dim, tap, side), _column(weights, tap))
    return sums


# -- evaluation ------------------------------------------------------------------------------


def centre_crop(images: Tensor, size: int, resized: int) -> Tensor:
    """Scale images `(batch, 3, side, side)` to `resized` pixels and return their inner `size`.

    As torchvision's `resize` and `center_crop`, which an evaluation "256, then 224" uses.
    """
    side = images.shape[2]
    scaled = F.interpolate(
        images,
        size=(resized, resized),
        mode="bilinear",
        align_corners=False,
        antialias=resized < side,
    )
    first = round((resized - size) / 2)
    window = scaled[:, :, first : first + size, first : first + size]
    return window.contiguous(memory_format=torch.channels_last)
