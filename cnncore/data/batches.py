"""Batches of one split on the device: gathered, augmented, normalised and resized as a whole.

`TrainSplit` shuffles and augments, `EvalSplit` keeps order and pixels; both feed `InputStage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import AugmentKind
from cnncore.data.arrays import Labels
from cnncore.data.augment.crop_flip import HostAugmenter, batches_on_device, draw
from cnncore.data.augment.distortion import Distortion, distorts
from cnncore.data.augment.mobilenet_crop import Window
from cnncore.data.augment.operations import centre_crop
from cnncore.data.augment.own_transform import OwnTransforms, has_own
from cnncore.data.copied_ahead import copied_ahead, crosses_bus
from cnncore.data.stratify import Indices
from cnncore.seeding import derive_seed

# Pixels in an evaluation batch on a CPU, 128 images of 32x32: their activations stay in its caches
# (a third less time for `mobilenet_small`).
EVAL_PIXELS_CPU = 2**17
# On a GPU 1,024 images of 32x32, and of larger ones as many as take an eighth of the memory.
EVAL_PIXELS = 2**20
EVAL_MEMORY = 1 / 8
# Activations that a network holds at once in evaluation, per pixel of its input: input and output
# of the widest layer. VGG's second convolution has the most of the catalog, 2 x 64 floats; twice
# that leaves room for the workspace of cuDNN.
EVAL_BYTES_PER_PIXEL = 1024

Batches = Iterator[tuple[Tensor, Tensor]]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EvalView:
    """What an evaluation shows the network of each image.

    `crop` is the share of the side that is seen, or None for all: images are scaled to
    `image_size / crop` pixels, and their inner `image_size` pixels taken. With `mirror` the network
    also sees each image mirrored left to right.
    """

    crop: float | None = None
    mirror: bool = False


WHOLE = EvalView()


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel: the input is `(pixel / 255 - mean) / std`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class InputStage:
    """Conversion of uint8 images `(batch, side, side, 3)` to the network's input.

    The result is float32 `(batch, 3, image_size, image_size)`, `channels_last`, in a buffer that
    the next call overwrites. If the sides differ, images are scaled bilinearly, with averaging
    over the source pixels when they shrink.
    """

    def __init__(
        self,
        side: int,
        image_size: int,
        batch_size: int,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        mean, std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (normalization.mean, normalization.std)
        )
        pixels = side * side
        self._scale = (1 / (255 * std)).float().repeat(pixels).to(device)
        self._shift = (-mean / std).float().repeat(pixels).to(device)
        # Reused: on a CPU the page faults of a new buffer cost twenty times the arithmetic.
        self._buffer = torch.empty(batch_size, pixels * 3, device=device)
        self.side, self._image_size = side, image_size
        # Value of a black pixel after normalisation, per channel, and the pixel nearest to 0.
        self.black = (-mean / std).float()
        red, green, blue = (mean * 255).round().clamp(0, 255).int().tolist()
        self.mean = red, green, blue

    def __call__(
        self, images: Tensor, change: Change | None = None, resize: Change | None = None
    ) -> Tensor:
        """Return the network's input for a batch of images.

        `change` is applied to the images on the device, and may overwrite them. `resize` replaces
        the scaling of the normalised pixels to `image_size`.
        """
        n, side = len(images), self.side
        if change is not None:
            images = change(images.to(self._buffer.device))
        # One image per row: the innermost loop then runs over all pixels, not over 3 channels.
        flat = self._buffer[:n]
        flat.copy_(images.view(n, -1))
        batch = flat.view(n, side, side, 3).permute(0, 3, 1, 2)
        torch.addcmul(self._shift, flat, self._scale, out=flat)
        if resize is not None:
            return resize(batch)
        if self._image_size == side:
            return batch
        return F.interpolate(
            batch,
            size=(self._image_size, self._image_size),
            mode="bilinear",
            align_corners=False,
            antialias=self._image_size < side,
        ).contiguous(memory_format=torch.channels_last)


class Changes:
    """The random changes of one pass over a split, beyond crop and flip."""

    def __init__(
        self,
        augment: tuple[AugmentKind, ...],
        window: bool,
        images: int,
        stage: InputStage,
        seed: int,
        epoch: int,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._distortion = (
            Distortion(
                *(augment, images, stage.side, seed, epoch, device),
                batch_size=batch_size,
                mean=stage.mean,
            )
            if distorts(augment)
            else None
        )
        self._window = Window(images, stage.black, seed, epoch, device) if window else None

    def for_batch(self, start: int) -> tuple[Change | None, Change | None]:
        """Return `change` and `resize` of `InputStage` for the batch that begins at `start`."""
        return (
            partial(self._distortion, start=start) if self._distortion else None,
            partial(self._window, start=start) if self._window else None,
        )


class TrainSplit:
    """Shuffled, augmented batches, pass after pass; the last batch of a pass may be smaller.

    A last batch of a single image, on which BatchNorm over 1x1 maps cannot train, is left out; it
    is a different image in each pass.

    An epoch is one pass, or `steps_per_epoch` batches: it then goes on in the pass where the epoch
    before ended, and into the next one. Order and augmentation of a pass depend on its number and
    the seed alone, so an epoch can be resumed at any step. With `window` the images are cut by
    `mobilenet_crop.Window`. With `balanced` each image of a pass is drawn anew: its class first,
    all equally likely, then an image of it.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Labels,
        indices: Indices,
        augment: tuple[AugmentKind, ...],
        batch_size: int,
        image_size: int,
        normalization: Normalization,
        device: torch.device,
        *,
        window: bool = False,
        balanced: bool = False,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self._balanced = balanced
        self._steps_per_epoch = steps_per_epoch
        # Called before every batch of an epoch of the user's own, to renew the heartbeat.
        self.before_batch: Callable[[], None] = lambda: None
        self._window = window
        self._augment = augment
        self._labels = labels
        self._device = device
        self._side = images.shape[1]
        self._input = InputStage(self._side, image_size, batch_size, normalization, device)
        padding = draw(augment, 0, batch_size, self._side, 0, 0).padding
        self._images = images
        on_host = images.device.type == "cpu"
        self._host = HostAugmenter(images, batch_size, padding) if on_host else None
        # Made with the first batch: analyses open this split and take none.
        self._own: OwnTransforms | None = None
        if has_own(augment) and not on_host:
            raise ValueError("images must be on the CPU for transforms of the user's")

    def __len__(self) -> int:
        """Return the number of images in a pass."""
        n = len(self.indices)
        return n - 1 if n > 1 and n % self.batch_size == 1 else n

    @property
    def labels(self) -> Labels:
        """Labels of the split's images, each once."""
        return self._labels[self.indices]

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return self._steps_per_epoch or self._pass_steps

    @property
    def _pass_steps(self) -> int:
        return -(-len(self) // self.batch_size)

    def images_until(self, epoch: int) -> int:
        """Return the number of images in the epochs up to and with `epoch`."""
        passes, step = divmod(epoch * self.steps, self._pass_steps)
        return passes * len(self) + step * self.batch_size

    def batches(self, seed: int, epoch: int, first_step: int = 0) -> Batches:
        """Yield images and labels of the epoch's steps, beginning with `first_step` (from 0).

        The images are float32 `(batch, 3, image_size, image_size)`, `channels_last`, and valid
        until the next batch.
        """
        step, end = (epoch - 1) * self.steps + first_step, epoch * self.steps
        while step < end:
            passes, first = divmod(step, self._pass_steps)
            count = min(end - step, self._pass_steps - first)
            yield from islice(self._pass(seed, passes + 1, first), count)
            step += count

    def _pass(self, seed: int, number: int, first_step: int) -> Batches:
        """Yield the batches of a pass (from 1), beginning with `first_step` (from 0)."""
        n, image_device = len(self), self._images.device
        random = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", number)))
        if self._balanced:
            chosen = balanced_draw(random, self.labels)
        else:
            chosen = random.permutation(len(self.indices))
        shuffled = self.indices[chosen][:n]
        order = torch.from_numpy(shuffled).to(image_device)
        labels = torch.from_numpy(self._labels[shuffled]).to(self._device)
        draws = draw(self._augment, n, self.batch_size, self._side, seed, number).to(image_device)
        first = first_step * self.batch_size
        if self._host is not None:
            batches = self._host.batches(order, draws, first)
        else:
            batches = batches_on_device(self._images, order, draws, self.batch_size, first)
        if has_own(self._augment):
            self._own = self._own or OwnTransforms(self._augment)
            starts = range(first, n, self.batch_size)
            places = (order[start : start + self.batch_size] for start in starts)
            batches = self._own.batches(batches, places, seed, number)
        if crosses_bus(self._images, self._device):
            batches = copied_ahead(batches, self.batch_size, self._device)
        changes = Changes(
            *(self._augment, self._window, n, self._input, seed, number, self._device),
            self.batch_size,
        )
        for start, images in zip(range(first, n, self.batch_size), batches, strict=True):
            batch = self._input(images, *changes.for_batch(start))
            yield batch, labels[start : start + self.batch_size]


def balanced_draw(random: np.random.Generator, labels: Labels) -> Indices:
    """Draw as many positions in `labels` as there are, with replacement.

    Every class that occurs is equally likely, and so is each image of a class.
    """
    _, counts = np.unique(labels, return_counts=True)
    by_class = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    classes = random.integers(0, len(counts), len(labels))
    chosen: Indices = by_class[starts[classes] + random.integers(0, counts[classes])]
    return chosen


def eval_batch_size(pixels: int, device: torch.device, gpu_share: float) -> int:
    """Return the images of an evaluation batch, each of so many pixels in all its views.

    It depends on the GPU's memory and the trial's share of it, not on what is free at the moment:
    a batch of another size may give other last digits.
    """
    if device.type != "cuda":
        return max(16, EVAL_PIXELS_CPU // pixels)
    memory = torch.cuda.get_device_properties(device).total_memory * gpu_share * EVAL_MEMORY
    fit = int(memory) // EVAL_BYTES_PER_PIXEL // pixels
    return max(16, EVAL_PIXELS // pixels, min(fit, 1024))


class EvalSplit:
    """Batches in a fixed order, normalised and resized; none if the split has no image.

    Only quirks of the studies use `augment` and `window`. Their random draws depend on `seed`
    alone, so that every epoch is evaluated on the same pixels.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Labels,
        indices: Indices,
        image_size: int,
        normalization: Normalization,
        device: torch.device,
        *,
        augment: tuple[AugmentKind, ...] = (),
        window: bool = False,
        seed: int = 0,
        view: EvalView = WHOLE,
        gpu_share: float = 1.0,
    ) -> None:
        self._augment, self._window, self._seed = augment, window, seed
        self._view, self._image_size = view, image_size
        self.indices = indices
        self.labels = labels[indices]
        side = images.shape[1]
        seen = max(side, self._resized) ** 2 * (2 if view.mirror else 1)
        self.batch_size = max(1, min(len(indices), eval_batch_size(seen, device, gpu_share)))
        self._images = images
        self._device = device
        self._input = InputStage(side, image_size, self.batch_size, normalization, device)
        # Called before every batch, to renew the heartbeat during a long evaluation.
        self.before_batch: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self) -> Batches:
        """Yield images and labels in the format of `TrainSplit.batches`.

        With a mirrored view there are twice as many images as labels: all, then all mirrored.
        """
        labels = torch.from_numpy(self.labels).to(self._device)
        indices = torch.from_numpy(self.indices).to(self._images.device)
        n, size = len(indices), self.batch_size
        changes = Changes(
            *(self._augment, self._window, n, self._input, self._seed, 0, self._device), size
        )
        parts = [slice(start, start + size) for start in range(0, n, size)]
        if self._augment:
            stored = self._augmented(indices)
        else:
            stored = (self._images.index_select(0, indices[part]) for part in parts)
        if crosses_bus(self._images, self._device):
            stored = copied_ahead(stored, size, self._device)
        for part in parts:
            self.before_batch()
            images = next(stored)
            change, resize = changes.for_batch(part.start)
            yield self.views(self._input(images, change, resize or self._crop)), labels[part]

    def views(self, images: Tensor) -> Tensor:
        """Return all views of the network's input, in the order of `batches`."""
        return torch.cat((images, images.flip(3))) if self._view.mirror else images

    @property
    def _resized(self) -> int:
        """Side to which images are scaled before they are cropped."""
        return round(self._image_size / (self._view.crop or 1))

    @property
    def _crop(self) -> Change | None:
        """The scaling and crop of `eval_crop`; None for the scaling of `InputStage`."""
        if self._view.crop is None:
            return None
        return partial(centre_crop, size=self._image_size, resized=self._resized)

    def _augmented(self, indices: Tensor) -> Iterator[Tensor]:
        """Yield batches of cropped and flipped images."""
        # Batch size 1 for the draws: in larger batches the mirrored images come last, which the
        # fixed order does not allow.
        side = self._images.shape[1]
        draws = draw(self._augment, len(indices), 1, side, self._seed, 0).to(self._images.device)
        return batches_on_device(self._images, indices, draws, self.batch_size, 0)

    def raw(self, positions: Sequence[int] | Indices) -> Tensor:
        """Return the unchanged images at these positions of the split.

        They are uint8 `(n, side, side, 3)`, a copy on the CPU.
        """
        indices = torch.from_numpy(self.indices[positions]).to(self._images.device)
        return self._images.index_select(0, indices).cpu()

    def seen(self, raw: Tensor) -> Tensor:
        """Return the part of images in the format of `raw` that `eval_crop` leaves, to be shown."""
        side = raw.shape[1]
        size = round(side * (self._view.crop or 1))
        first = round((side - size) / 2)
        return raw[:, first : first + size, first : first + size]

    def inputs(self, raw: Tensor) -> Tensor:
        """Return the network's input for at most `batch_size` images in the format of `raw`.

        The values equal those of `batches`, without a mirrored view; the result is a copy.
        """
        return self._input(raw.to(self._device), resize=self._crop).clone()
