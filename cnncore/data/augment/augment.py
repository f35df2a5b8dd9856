"""Random crop and flip of whole batches of uint8 images, from draws made once per epoch.

The same draws give the same pixels on the host and on a device. Padding is zero before
normalisation, as in torchvision's `RandomCrop` on images.
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
    """What happens to each image of an epoch, in the epoch's order.

    `top` and `left` are the corner of the crop in the padded image, 0 to 2 * padding, and `flip`
    says whether the crop is mirrored left to right. All have one entry per image.
    """

    padding: int
    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Draws:
        """The draws on a device."""
        return Draws(self.padding, *(x.to(device) for x in (self.top, self.left, self.flip)))


def draw(
    augment: Iterable[AugmentKind], images: int, batch_size: int, side: int, seed: int, epoch: int
) -> Draws:
    """The draws of one epoch: a function of the arguments alone.

    In each batch the mirrored images come last. The order of the epoch being random and drawn
    apart, every image is still mirrored with probability one half, independently of the others.
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
    """Gathers and augments batches on the CPU, in buffers of its own.

    An image is rows of bytes that lie together, so a batch is three copies of blocks: gather the
    images, set them into a frame of zeros, cut their rows out from the drawn corner on. Only
    mirroring touches single pixels, and the mirrored images lie together too. Every copy runs on
    all of PyTorch's threads; NumPy's would leave all but one idle.
    """

    def __init__(self, images: Tensor, batch_size: int, padding: int) -> None:
        side = images.shape[1]
        framed = side + 2 * padding
        self._images = images.view(len(images), -1)
        self._gathered = torch.empty(batch_size, side, side * 3, dtype=torch.uint8)
        self._cut = torch.empty(batch_size, side, side, 3, dtype=torch.uint8)
        frame = torch.zeros(batch_size, framed, framed * 3, dtype=torch.uint8)
        self._inside = frame[:, padding : padding + side, padding * 3 : (padding + side) * 3]
        # Overlapping rows: the one that begins at each pixel of the frame.
        self._rows = frame.as_strided((batch_size * framed * framed - side + 1, side * 3), (3, 1))
        self._framed = framed
        self._row_starts = torch.arange(side) * framed
        self._batch_size = batch_size

    def batches(self, order: Tensor, draws: Draws, first: int) -> Iterator[Tensor]:
        """The images at `order` under the draws, from entry `first` on, a batch at a time.

        Each is uint8 `(batch, side, side, 3)` and overwritten by the next.
        """
        size = self._batch_size
        # What takes one small operation per epoch takes none per batch.
        places = torch.arange(len(order)) % size * self._framed**2
        corners = places + draws.top * self._framed + draws.left
        mirrored = np.add.reduceat(draws.flip.numpy(), range(0, len(order), size), dtype=np.int64)
        for start in range(first, len(order), size):
            at = slice(start, start + size)
            cropped = corners[at] if draws.padding else None
            yield self._batch(order[at], cropped, int(mirrored[start // size]))

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
            # As (batch, channels, height, width), the layout that PyTorch mirrors fast.
            last = cut[n - mirrored :].permute(0, 3, 1, 2)
            last.copy_(last.flip(3))
        return cut


def batches_on_device(
    images: Tensor, order: Tensor, draws: Draws, batch_size: int, first: int
) -> Iterator[Tensor]:
    """The same for uint8 images on a device, by index arithmetic."""
    side = images.shape[1]
    along = torch.arange(side, device=images.device)
    for start in range(first, len(order), batch_size):
        at = slice(start, start + batch_size)
        rows = along + (draws.top[at] - draws.padding)[:, None]
        columns = torch.where(draws.flip[at][:, None], side - 1 - along, along)
        columns = columns + (draws.left[at] - draws.padding)[:, None]
        rows, columns = rows[:, :, None], columns[:, None]
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        rows, columns = rows.clamp(0, side - 1), columns.clamp(0, side - 1)
        yield images[order[at][:, None, None], rows, columns] * inside[..., None]
