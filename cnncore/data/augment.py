"""Random crop and flip of whole batches of uint8 images, from draws made once per epoch.

The same draws give the same pixels on the host and on a device. Padding is zero before
normalisation, as in torchvision's `RandomCrop` on images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnncore.config import Crop, Flip
from cnncore.data.arrays import Images
from cnncore.data.stratify import Indices
from cnncore.seeding import derive_seed

# A pixel is copied as one item of three bytes.
_PIXEL = np.dtype("V3")


@dataclass(frozen=True)
class Draws:
    """What happens to each image of an epoch, in the epoch's order.

    `top` and `left` are the corner of the crop in the padded image, 0 to 2 * padding, and `flip`
    says whether the crop is mirrored left to right. All have one entry per image.
    """

    padding: int
    top: Indices
    left: Indices
    flip: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DeviceDraws:
    """`Draws` as tensors on a device."""

    padding: int
    top: Tensor
    left: Tensor
    flip: Tensor

    @classmethod
    def of(cls, draws: Draws, device: torch.device) -> DeviceDraws:
        """Copy the draws to `device`."""
        top, left, flip = (
            torch.from_numpy(values).to(device) for values in (draws.top, draws.left, draws.flip)
        )
        return cls(draws.padding, top, left, flip)


def draw(augment: Iterable[Crop | Flip], images: int, side: int, seed: int, epoch: int) -> Draws:
    """The draws of one epoch: a function of the arguments alone."""
    kinds = {part.kind: part for part in augment}
    crop = kinds.get("crop")
    padding = (crop.padding or max(1, side // 8)) if isinstance(crop, Crop) else 0
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "augment", epoch)))
    top, left = random.integers(0, 2 * padding + 1, (2, images), dtype=np.int64)
    flip = random.random(images) < 0.5 if "flip" in kinds else np.zeros(images, bool)
    return Draws(padding, top, left, flip)


class HostAugmenter:
    """Gathers and augments batches on the CPU, in buffers of its own.

    An image is a few long rows of bytes, so a batch is three block copies: gather, set into a
    frame of zeros, cut out at the drawn corner. Only mirroring touches single pixels.
    """

    def __init__(self, images: Images, batch_size: int, padding: int) -> None:
        side = images.shape[1]
        framed = side + 2 * padding
        self._flat = images.reshape(len(images), -1)
        self._gathered = np.empty((batch_size, self._flat.shape[1]), np.uint8)
        self._cut = np.empty((batch_size, side, side, 3), np.uint8)
        frame = np.zeros((batch_size, framed, framed * 3), np.uint8)
        self._inside = frame[:, padding : padding + side, padding * 3 : (padding + side) * 3]
        by_image, by_row, _ = frame.strides
        # windows[i, top, left] is image i cut at that corner, `(side, side * 3)`.
        self._windows = np.lib.stride_tricks.as_strided(
            frame,
            (batch_size, 2 * padding + 1, 2 * padding + 1, side, side * 3),
            (by_image, by_row, 3, by_row, 1),
            writeable=False,
        )

    def batch(self, indices: Indices, draws: Draws, at: slice) -> Tensor:
        """The images at `indices` under the draws at `at`: uint8 `(batch, side, side, 3)`.

        The tensor is overwritten by the next call.
        """
        n = len(indices)
        cut = self._cut[:n]
        gathered = self._gathered[:n] if draws.padding else cut.reshape(n, -1)
        np.take(self._flat, indices, axis=0, out=gathered, mode="clip")
        if draws.padding:
            self._inside[:n] = gathered.reshape(self._inside[:n].shape)
            rows = cut.reshape(n, *self._windows.shape[3:])
            rows[:] = self._windows[np.arange(n), draws.top[at], draws.left[at]]
        mirrored = np.flatnonzero(draws.flip[at])
        if len(mirrored):
            pixels = cut.view(_PIXEL)[..., 0]
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return torch.from_numpy(cut)


def augment_on_device(images: Tensor, indices: Tensor, draws: DeviceDraws, at: slice) -> Tensor:
    """The same for uint8 images on a device, by index arithmetic: `(batch, side, side, 3)`."""
    side = images.shape[1]
    along = torch.arange(side, device=images.device)
    rows = along + (draws.top[at] - draws.padding)[:, None]
    columns = torch.where(draws.flip[at][:, None], side - 1 - along, along)
    columns = columns + (draws.left[at] - draws.padding)[:, None]
    rows, columns = rows[:, :, None], columns[:, None]
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    rows, columns = rows.clamp(0, side - 1), columns.clamp(0, side - 1)
    return images[indices[:, None, None], rows, columns] * inside[..., None]
