"""Random crop and flip of whole batches of uint8 images, drawn once per epoch.

Equal draws give equal pixels on the host and on a device. Padding is zero before normalisation, as
in torchvision's `RandomCrop` on images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnncore.config import AugmentKind, Crop
from cnncore.seeding import derive_seed


@dataclass(frozen=True)
class Draws:
    """Crop and flip of each image of an epoch, in the epoch's order.

    `top` and `left` are the corner of the crop in the padded image, 0 to 2 * padding. `flip` is
    true if the crop is mirrored left to right. All have one entry per image.
    """

    padding: int
    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Draws:
        """Return a copy on a device."""
        return Draws(self.padding, *(x.to(device) for x in (self.top, self.left, self.flip)))


def draw(
    augment: Iterable[AugmentKind], images: int, batch_size: int, side: int, seed: int, epoch: int
) -> Draws:
    """Return the draws of one epoch: a function of the arguments alone.

    In each batch the mirrored images come last. The order of the epoch is random and drawn
    separately, so every image is still mirrored with probability one half, independently of the
    others.
    """
    kinds = {part.kind: part for part in augment}
    crop = kinds.get("crop")
    padding = (crop.padding or max(1, side // 8)) if isinstance(crop, Crop) else 0
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "augment", epoch)))
    top, left = torch.from_numpy(random.integers(0, 2 * padding + 1, (2, images), dtype=np.int64))
    flip = torch.zeros(images, dtype=torch.bool)
    if "flip" in kinds:
        flip = torch.from_numpy(random.random(images) < 0.5)
        whole = images - images % batch_size
        flip[:whole] = flip[:whole].view(-1, batch_size).sort(dim=1).values.view(-1)
        flip[whole:] = flip[whole:].sort().values
    return Draws(padding, top, left, flip)


class HostAugmenter:
    """Gathering and augmentation of batches on the CPU, in buffers of its own.

    The bytes of an image's row are contiguous, so a batch takes three block copies: gather the
    images, copy them into a frame of zeros, cut out their rows from the drawn corner. Only
    mirroring handles single pixels, and the mirrored images are contiguous too. Every copy runs on
    all of PyTorch's threads; NumPy's copies would use one.
    """

    def __init__(self, images: Tensor, batch_size: int, padding: int) -> None:
        side = images.shape[1]
        framed = side + 2 * padding
        self._images = images.view(len(images), -1)
        self._gathered = torch.empty(batch_size, side, side * 3, dtype=torch.uint8)
        self._cut = torch.empty(batch_size, side, side, 3, dtype=torch.uint8)
        frame = torch.zeros(batch_size, framed, framed * 3, dtype=torch.uint8)
        self._inside = frame[:, padding : padding + side, padding * 3 : (padding + side) * 3]
        # Overlapping rows, one that begins at each pixel of the frame.
        self._rows = frame.as_strided((batch_size * framed * framed - side + 1, side * 3), (3, 1))
        self._framed = framed
        self._row_starts = torch.arange(side) * framed
        self._batch_size = batch_size

    def batches(self, order: Tensor, draws: Draws, first: int) -> Iterator[Tensor]:
        """Yield batches of the augmented images at `order`, beginning with entry `first`.

        A batch is uint8 `(batch, side, side, 3)`; the next one overwrites it.
        """
        size = self._batch_size
        # One small operation per epoch is cheaper than one per batch.
        frame_starts = torch.arange(len(order)) % size * self._framed**2
        corners = frame_starts + draws.top * self._framed + draws.left
        mirrored = np.add.reduceat(draws.flip.numpy(), range(0, len(order), size), dtype=np.int64)
        for start in range(first, len(order), size):
            part = slice(start, start + size)
            cropped = corners[part] if draws.padding else None
            yield self._batch(order[part], cropped, int(mirrored[start // size]))

    def _batch(self, indices: Tensor, corners: Tensor | None, mirrored: int) -> Tensor:
        n = len(indices)
        cut = self._cut[:n]
        if corners is None:
            torch.index_select(self._images, 0, indices, out=cut.view(n, -1))
        else:
            gathered = self._gathered[:n]
            torch.index_select(self._images, 0, indices, out=gathered.view(n, -1))
            self._inside[:n] = gathered
            rows = (corners[:, None] + self._row_starts).view(-1)
            torch.index_select(self._rows, 0, rows, out=cut.view(len(rows), -1))
        if mirrored:
            # PyTorch mirrors fast in the layout (batch, channels, height, width).
            last = cut[n - mirrored :].permute(0, 3, 1, 2)
            last.copy_(last.flip(3))
        return cut


def batches_on_device(
    images: Tensor, order: Tensor, draws: Draws, batch_size: int, first: int
) -> Iterator[Tensor]:
    """Yield the batches of `HostAugmenter.batches` for images on a device, by index arithmetic."""
    side = images.shape[1]
    along = torch.arange(side, device=images.device)
    for start in range(first, len(order), batch_size):
        part = slice(start, start + batch_size)
        rows = along + (draws.top[part] - draws.padding)[:, None]
        columns = torch.where(draws.flip[part][:, None], side - 1 - along, along)
        columns = columns + (draws.left[part] - draws.padding)[:, None]
        rows, columns = rows[:, :, None], columns[:, None]
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        rows, columns = rows.clamp(0, side - 1), columns.clamp(0, side - 1)
        yield images[order[part][:, None, None], rows, columns] * inside[..., None]
