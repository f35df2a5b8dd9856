"""Operations on whole batches with an amount per image, equal to torchvision's one by one.

Pixels are uint8 `(batch, side, side, 3)`, contiguous, and may be overwritten; so are results.
`amounts` is float32 `(batch, AMOUNTS)`, one row per image. References are the kernels of
`torchvision.transforms.v2.functional` for uint8 tensors. Only order and fusion of float32
operations may differ, so a value may differ by 1 where it lies at the edge of a whole number.

No operation has a result whose shape depends on values, so none waits for a device. On a CPU bytes
take a quarter of the memory of floats, so an operation stays in bytes where that is exact.
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
    return to_bytes(pixels.float().mul_(_column(amounts, 0)))


def saturation(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the greyscale image: columns 0 and 1 are its own weight and the other one."""
    values = pixels.float()
    grey = _grey(values).mul_(amounts[:, 1, None, None])
    values.mul_(_column(amounts, 0))
    for channel in values.unbind(3):
        channel += grey
    return to_bytes(values)


def contrast(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the mean of the greyscale image, by the weights in columns 0 and 1."""
    values = pixels.float()
    mean = _grey(values).mean((1, 2))[:, None, None, None]
    return to_bytes(values.mul_(_column(amounts, 0)).add_(mean * _column(amounts, 1)))


def sharpness(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Blend with the smoothed image, by the weights in columns 0 and 1; the border stays."""
    if min(pixels.shape[1:3]) <= 2:
        return pixels
    wide = pixels.to(torch.int16)
    rows = wide[:, :-2] + wide[:, 1:-1]
    rows += wide[:, 2:]
    # Ones around a five, divided by 13. Sums are whole, so that rounding has no ties.
    sums = rows[:, :, :-2] + rows[:, :, 1:-1]
    sums += rows[:, :, 2:]
    sums.add_(wide[:, 1:-1, 1:-1], alpha=4)
    values = pixels.float()
    inner = values[:, 1:-1, 1:-1]
    inner += sums.float().mul_(1 / 13).round_().sub_(inner).mul_(_column(amounts, 1))
    return to_bytes(values)


def hue(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Turn the hue by the share of its circle in column 0.

    A channel is `max - range * clamp(min(k, 4 - k), 0, 1)` with `k = (n + 6 hue) mod 6` and n = 5,
    3, 1 for red, green, blue: the usual way from HSV to RGB in one expression.
    """
    values = pixels.float()
    red, green, blue = values.unbind(3)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - low
    divisor = torch.where(spread == 0, 1.0, spread)
    turn = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    turn += amounts[:, 0, None, None] * 6
    result = torch.empty_like(values)
    for index, offset in enumerate((5, 3, 1)):
        k = (turn + offset).remainder_(6)
        share = torch.minimum(k, 4 - k).clamp_(0, 1)
        # The scale of torchvision's way from floats to bytes.
        result[..., index] = (high - spread * share).mul_((256 - 1e-3) / 255)
    return to_bytes(result)


def grayscale(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Make all channels the greyscale image."""
    return to_bytes(_grey(pixels.float())).unsqueeze(3).expand_as(pixels)


def posterize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Round down to multiples of the step in column 0, a power of two up to 256."""
    return pixels.bitwise_and_((BINS - _column(amounts, 0)).to(torch.uint8))


def solarize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Invert values from the threshold in column 0 up; it is at most 255."""
    first = _column(amounts, 0).ceil().to(torch.uint8)
    # 255 below the threshold, else 0: PyTorch compares bytes one by one.
    stays = (first - torch.minimum(pixels, first)).clamp_(max=1).mul_(255)
    return pixels.bitwise_xor_(stays).bitwise_not_()


def autocontrast(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Stretch each channel's range to 0 to 255; a channel of one value stays."""
    side, rows = pixels.shape[2], pixels.flatten(2).float()
    # Along rows: the innermost loops then run over a row's values, not over 3 channels.
    low, high = (x.view(-1, side, 3) for x in (rows.amin(1), rows.amax(1)))
    low, high = low.amin(1), high.amax(1)
    single = low == high
    scale = torch.where(single, 1.0, (high - low) * (1 / 255)).repeat(1, side)[:, None]
    low = torch.where(single, 0.0, low).repeat(1, side)[:, None]
    return to_bytes(rows.sub_(low).div_(scale)).view(pixels.shape)


def equalize(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Equalize each channel's histogram, by Pillow's table."""
    count, device = len(pixels), pixels.device
    bins = torch.arange(0, count * 3 * BINS, BINS, device=device, dtype=torch.int32).view(count, 3)
    places = pixels.flatten(2).int().add_(bins.repeat(1, pixels.shape[2])[:, None]).view(-1)
    # On a device `bincount` would wait for the largest place.
    count_places = torch.bincount if device.type == "cpu" else bincount_without_waiting
    histogram = count_places(places, minlength=count * 3 * BINS).int().view(-1, BINS)
    sums = histogram.cumsum(1, dtype=torch.int32)
    last = histogram.gather(1, sums.argmax(1, keepdim=True))
    step = (sums[:, -1:] - last).div_(BINS - 1, rounding_mode="floor")
    values = torch.arange(BINS, device=device, dtype=torch.int32)
    table = (sums - histogram + step // 2).div_(step.clamp(min=1), rounding_mode="floor")
    table = torch.where(step == 0, values, table.clamp_(0, 255)).to(torch.uint8)
    return table.view(-1).index_select(0, places).view(pixels.shape)


def bincount_without_waiting(places: Tensor, minlength: int) -> Tensor:
    """Count each whole number below `minlength` in `places`, all of which are below it."""
    # One dimension: PyTorch then has a deterministic way on CUDA.
    counts = torch.zeros(minlength, dtype=torch.int32, device=places.device)
    return counts.scatter_add_(0, places.long(), counts.new_ones(1).expand_as(places))


def _grey(values: Tensor) -> Tensor:
    """Return the greyscale image of float32 pixels, whole values `(batch, side, side)`."""
    red, green, blue = values.unbind(3)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).floor_()


def to_bytes(values: Tensor) -> Tensor:
    """Return float32 values as bytes: rounded down, at most 255. Overwrites `values`."""
    # By way of int16, because PyTorch converts floats to bytes one by one.
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


# -- places ----------------------------------------------------------------------------------


def vertical_flip(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Mirror top to bottom."""
    return pixels.flip(1)


def move_rows(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Do what `affine` does if it leaves rows whole: a = e = 1, d = 0, and f is whole.

    A row of the result is a window of a source row between two black ones of its width.
    """
    count, side = len(pixels), pixels.shape[1]
    along = _from_centre(side, pixels.device)
    move = torch.addcmul(amounts[:, 2:3], along, amounts[:, 1:2]).round_().clamp_(-side, side)
    row = along.add(amounts[:, 5:6] + (side - 1) / 2).clamp_(-1, side)
    # Per image a black row, then its rows, each behind a black one.
    framed = pixels.new_zeros(count * (side + 1) + 1, 2, side * 3)
    framed[:-1].view(count, side + 1, 2, -1)[:, 1:, 1] = pixels.flatten(2)
    first = _places(row.int() * (2 * side) + move.int(), 2 * side * (side + 1), 3 * side)
    # Overlapping windows, one that begins at each pixel.
    windows = framed.as_strided((framed.numel() // 3 - side + 1, side * 3), (3, 1))
    return windows.index_select(0, first).view(pixels.shape)


def affine(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Take each pixel from the nearest source position; outside the image is black.

    The six columns are the inverse map, in pixels from the image's centre: a source position is
    `x' = a x + b y + c`, `y' = d x + e y + f`.
    """
    count, side = len(pixels), pixels.shape[1]
    along, centre = _from_centre(side, pixels.device), (side - 1) / 2
    a, b, c, d, e, f = amounts[:, :, None].unbind(1)
    columns = along * a, along * b + (c + centre)
    rows = along * d, along * e + (f + centre)
    x, y = (
        (per_x[:, None] + per_y[:, :, None]).round_().clamp_(-1, side)
        for per_x, per_y in (columns, rows)
    )
    # In a black frame of one pixel, so that a position outside is one like others. Whole numbers
    # below 2**24 are exact in float32, which is up to a side of 4,094 pixels.
    framed = pixels.new_zeros(count, side + 2, side + 2, 3)
    framed[:, 1:-1, 1:-1] = pixels
    places = _places(y.mul_(side + 2).add_(x).int(), (side + 2) ** 2, side + 3)
    # Three times one channel is faster on a CPU than once three bytes.
    for source, result in zip(framed.unbind(3), pixels.unbind(3), strict=True):
        torch.index_select(source.view(-1), 0, places, out=result.view(-1))
    return pixels


def _from_centre(side: int, device: torch.device) -> Tensor:
    """Return the positions of pixels along a side, from the image's centre."""
    return torch.arange(-(side - 1) / 2, side / 2, device=device)


def _places(in_image: Tensor, image: int, first: int) -> Tensor:
    """Return places in a batch, from int32 places in each image `(batch, ...)`; all in one row.

    Images lie `image` places apart; `first` is the place of a 0 in the first one.
    """
    count = len(in_image)
    starts = torch.arange(
        first, first + count * image, image, device=in_image.device, dtype=torch.int32
    )
    return in_image.view(count, -1).add_(starts[:, None]).view(-1)


def resized_box(pixels: Tensor, amounts: Tensor) -> Tensor:
    """Enlarge the box `top, left, height, width` (columns 0 to 3) to the image, bilinearly."""
    count, side = len(pixels), pixels.shape[1]
    top, left, height, width = amounts[:, :4].unbind(1)
    first = torch.arange(count, device=pixels.device)[:, None]
    low, high, weight = _taps(top, height, side)
    flat = pixels.float().view(count * side, side * 3)
    upper, lower = (flat[(first * side + y).view(-1)].view(pixels.shape) for y in (low, high))
    tall = upper.lerp_(lower, weight[:, :, None, None]).view(-1, 3)
    low, high, weight = _taps(left, width, side)
    rows = torch.arange(count * side, device=pixels.device).view(count, side, 1) * side
    one, other = (
        tall.index_select(0, (rows + x[:, None]).view(-1)).view(pixels.shape) for x in (low, high)
    )
    return to_bytes(one.lerp_(other, weight[:, None, :, None]).round_())


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
        return to_bytes(_along(_along(pixels.float(), weights, 1), weights, 2).round_())

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
