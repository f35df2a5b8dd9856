"""One operation per image, in groups of a batch; the tables of TrivialAugment and RandAugment.

Draws are made on the host once per epoch. A batch is handled operation by operation, so that its
cost does not grow with the number of images as it does one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnncore.config.transforms import MAGNITUDE_BINS
from cnncore.data.augment import operations
from cnncore.data.augment.operations import AMOUNTS, Operation

# Pixels that are changed at a time: on a CPU, so that intermediate results stay in its caches;
# elsewhere, so that places in them, which are int32, cannot overflow.
CPU_PIXELS, DEVICE_PIXELS = 2**18, 2**28
# Pixels of an image up to which a CPU spends more on a call than on its copy.
SMALL_PIXELS = 2**13

Floats = NDArray[np.float64]
Choices = NDArray[np.int64]


class Grouped:
    """An operation of a list for each image of an epoch, or none.

    `choice` is the operation's index of each image, -1 for none; `amounts` are its columns. Groups
    are made for batches of `batch_size` images and copied to the device once: no step waits.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        choice: Choices,
        amounts: Floats,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._operations, self._batch_size = operations, batch_size
        # Positions within each batch, sorted by operation.
        batch = np.arange(len(choice)) // batch_size
        order = np.lexsort((choice, batch))
        keys = batch[order] * (len(operations) + 1) + choice[order] + 1
        batches = -(-len(choice) // batch_size)
        self._bounds = np.searchsorted(keys, np.arange(batches * (len(operations) + 1) + 1))
        self._places = torch.from_numpy(order % batch_size).to(device)
        self._sorted = torch.from_numpy(np.argsort(order) % batch_size).to(device)
        self._amounts = torch.from_numpy(amounts[order]).float().to(device)

    def __call__(self, pixels: Tensor, start: int) -> None:
        """Change a batch in place; it begins at position `start` of the epoch.

        Pixels are uint8 `(batch, side, side, 3)`, contiguous.
        """
        if pixels.device.type == "cpu" and pixels[0, ..., 0].numel() > SMALL_PIXELS:
            self._change_apart(pixels, start)
        else:
            self._change_together(pixels, start)

    def _change_together(self, pixels: Tensor, start: int) -> None:
        """Sort the whole batch by operation: each group is then one piece of memory."""
        batch = slice(start, start + len(pixels))
        grouped = pixels.index_select(0, self._places[batch])
        for operation, rows in self._groups(pixels, start):
            group = grouped[rows.start - start : rows.stop - start]
            changed = operation(group, self._amounts[rows])
            if changed is not group:
                group.copy_(changed)
        torch.index_select(grouped, 0, self._sorted[batch], out=pixels)

    def _change_apart(self, pixels: Tensor, start: int) -> None:
        """Copy each group and put its images back one by one, while they are in the caches."""
        for operation, rows in self._groups(pixels, start):
            places = self._places[rows]
            changed = operation(pixels.index_select(0, places), self._amounts[rows])
            for place, image in zip(places.tolist(), changed, strict=True):
                pixels[place] = image

    def _groups(self, pixels: Tensor, start: int) -> Iterator[tuple[Operation, slice]]:
        """Yield each operation of a batch with rows of `_places`, a bounded number."""
        first = start // self._batch_size * (len(self._operations) + 1) + 1
        limit = CPU_PIXELS if pixels.device.type == "cpu" else DEVICE_PIXELS
        most = max(1, limit // pixels[0, ..., 0].numel())
        for index, operation in enumerate(self._operations, first):
            begin, end = int(self._bounds[index]), int(self._bounds[index + 1])
            for part in range(begin, end, most):
                yield operation, slice(part, min(part + most, end))


def amounts(*columns: Floats | Choices | float, images: int) -> Floats:
    """Return columns side by side as `(images, AMOUNTS)`; the others are 0."""
    result = np.zeros((images, AMOUNTS))
    for index, column in enumerate(columns):
        result[:, index] = column
    return result


# -- amounts of an operation from its magnitude ------------------------------------------------


def factor(magnitude: Floats, side: int) -> Floats:
    """Return the amounts of an operation that scales by `1 + magnitude`."""
    return amounts(1 + magnitude, 1 - (1 + magnitude), images=len(magnitude))


def threshold(magnitude: Floats, side: int) -> Floats:
    """Return the amounts of `solarize` from a share of the range."""
    return amounts(255 * magnitude, images=len(magnitude))


def bits(magnitude: Floats, side: int) -> Floats:
    """Return the amounts of `posterize` from the number of bits that stay."""
    return amounts(2.0 ** (8 - magnitude.astype(int)), images=len(magnitude))


def nothing(magnitude: Floats, side: int) -> Floats:
    """Return the amounts of an operation without any."""
    return amounts(images=len(magnitude))


def shear_x(magnitude: Floats, side: int) -> Floats:
    """Move each row by `magnitude` times its distance from the top edge."""
    return amounts(1, magnitude, magnitude * side / 2, 0, 1, 0, images=len(magnitude))


def shear_y(magnitude: Floats, side: int) -> Floats:
    """Move each column by `magnitude` times its distance from the left edge."""
    return amounts(1, 0, 0, magnitude, 1, magnitude * side / 2, images=len(magnitude))


def translate_x(magnitude: Floats, side: int) -> Floats:
    """Move to the right by whole pixels."""
    return amounts(1, 0, -np.trunc(magnitude), 0, 1, 0, images=len(magnitude))


def translate_y(magnitude: Floats, side: int) -> Floats:
    """Move down by whole pixels."""
    return amounts(1, 0, 0, 0, 1, -np.trunc(magnitude), images=len(magnitude))


def rotate(magnitude: Floats, side: int) -> Floats:
    """Turn about the centre, counter-clockwise, by degrees."""
    angle = np.deg2rad(magnitude)
    cos, sin = np.cos(angle), np.sin(angle)
    return amounts(cos, -sin, 0, sin, cos, 0, images=len(magnitude))


# -- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """An operation of a policy; its magnitude goes from `low` to `high`, in equal steps.

    A signed magnitude is negative with probability one half. Magnitudes are whole if `whole` is
    set. `of_side` multiplies them by the image's side.
    """

    operation: Operation
    amounts: Callable[[Floats, int], Floats]
    low: float = 0.0
    high: float = 0.0
    signed: bool = False
    whole: bool = False
    of_side: bool = False

    def magnitudes(self, side: int) -> Floats:
        """Return the magnitude of each bin, without its sign."""
        scale = side if self.of_side else 1
        # In float32, as torchvision's tables: `posterize` and translations truncate.
        steps = torch.linspace(self.low * scale, self.high * scale, MAGNITUDE_BINS)
        return np.asarray((steps.round() if self.whole else steps).double().numpy())


def _table(
    shear: float, move: float, of_side: bool, degrees: float, blend: float, bits_removed: int
) -> dict[str, Entry]:
    """Return the 14 operations in torchvision's order, up to the strengths given."""
    op = operations
    return {
        "Identity": Entry(_unchanged, nothing),
        "ShearX": Entry(op.move_rows, shear_x, 0, shear, signed=True),
        "ShearY": Entry(op.affine, shear_y, 0, shear, signed=True),
        "TranslateX": Entry(op.move_rows, translate_x, 0, move, signed=True, of_side=of_side),
        "TranslateY": Entry(op.move_rows, translate_y, 0, move, signed=True, of_side=of_side),
        "Rotate": Entry(op.affine, rotate, 0, degrees, signed=True),
        "Brightness": Entry(op.brightness, factor, 0, blend, signed=True),
        "Color": Entry(op.saturation, factor, 0, blend, signed=True),
        "Contrast": Entry(op.contrast, factor, 0, blend, signed=True),
        "Sharpness": Entry(op.sharpness, factor, 0, blend, signed=True),
        "Posterize": Entry(op.posterize, bits, 8, 8 - bits_removed, whole=True),
        "Solarize": Entry(op.solarize, threshold, 1, 0),
        "AutoContrast": Entry(op.autocontrast, nothing),
        "Equalize": Entry(op.equalize, nothing),
    }


def _unchanged(pixels: Tensor, amounts: Tensor) -> Tensor:
    return pixels


# Magnitudes of torchvision 0.29: `TrivialAugmentWide` and `RandAugment`.
TRIVIAL = _table(shear=0.99, move=32, of_side=False, degrees=135, blend=0.99, bits_removed=6)
RAND = _table(shear=0.3, move=150 / 331, of_side=True, degrees=30, blend=0.9, bits_removed=4)


@dataclass(frozen=True)
class PolicyDraws:
    """The operation (an index of the table) of each image, and its magnitude with its sign."""

    choice: Choices
    magnitude: Floats


def draw_policy(
    table: dict[str, Entry],
    images: int,
    side: int,
    random: np.random.Generator,
    magnitude_bin: int | None = None,
) -> PolicyDraws:
    """Draw an operation for each image, and its bin unless that is given."""
    choice = random.integers(0, len(table), images, dtype=np.int64)
    bins = random.integers(0, MAGNITUDE_BINS, images, dtype=np.int64)
    negative = random.random(images) < 0.5
    if magnitude_bin is not None:
        bins[:] = magnitude_bin
    magnitudes = np.stack([entry.magnitudes(side) for entry in table.values()])
    signed = np.array([entry.signed for entry in table.values()])
    magnitude = magnitudes[choice, bins]
    return PolicyDraws(choice, np.where(negative & signed[choice], -magnitude, magnitude))


def grouped_policy(
    table: dict[str, Entry], draws: PolicyDraws, side: int, batch_size: int, device: torch.device
) -> Grouped:
    """Return the operations of a policy; entries of the same operation are one group."""
    names: dict[Operation, int] = {}
    columns = np.zeros((len(draws.choice), AMOUNTS))
    choice = np.full(len(draws.choice), -1, dtype=np.int64)
    for index, entry in enumerate(table.values()):
        chosen = draws.choice == index
        if entry.operation is _unchanged:
            continue
        columns[chosen] = entry.amounts(draws.magnitude[chosen], side)
        choice[chosen] = names.setdefault(entry.operation, len(names))
    return Grouped(list(names), choice, columns, batch_size, device)
