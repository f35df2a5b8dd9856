"""The changes that `operations.py` makes: their draws for one epoch, in the order of application.

Each kind draws from a random stream of its own, so an additional kind does not change the draws of
the others. Draws follow torchvision's transforms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from cnncore.config import (
    AugmentKind,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Posterize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Solarize,
    TrivialAugment,
    VerticalFlip,
)
from cnncore.data.augment import operations
from cnncore.data.augment.operations import Operation
from cnncore.data.augment.policies import (
    RAND,
    TRIVIAL,
    Choices,
    Floats,
    Grouped,
    amounts,
    draw_policy,
    factor,
    grouped_policy,
)
from cnncore.seeding import derive_seed

# Attempts to draw a box that fits; then it is the whole image, or no rectangle is covered.
ATTEMPTS = 10


class Stages:
    """The changes of one epoch: a function of all arguments but the device.

    `first` come before every other change of pixels, `colours` after geometry and the factors of
    Pillow, `last` at the end. `black` and `mean` are colours, three whole numbers.
    """

    def __init__(
        self,
        augment: Iterable[AugmentKind],
        images: int,
        side: int,
        seed: int,
        epoch: int,
        device: torch.device,
        *,
        batch_size: int,
        mean: tuple[int, int, int],
    ) -> None:
        self._images, self._side, self._seed, self._epoch = images, side, seed, epoch
        self._batch_size, self._device = batch_size, device
        parts: dict[type, AugmentKind] = {type(part): part for part in augment}
        self.first: list[Grouped] = []
        self.colours: list[Grouped] = []
        self.last: list[Grouped] = []

        if VerticalFlip in parts:
            self.first += self._with_probability("vertical_flip", 0.5, operations.vertical_flip)
        if isinstance(crop := parts.get(RandomResizedCrop), RandomResizedCrop):
            boxes = self._boxes(crop)
            self.first += self._with_probability(crop.kind, 1, operations.resized_box, boxes)

        if isinstance(jitter := parts.get(ColorJitter), ColorJitter):
            self.colours += self._jitter(jitter)
        if isinstance(grey := parts.get(Grayscale), Grayscale):
            self.colours += self._with_probability(grey.kind, grey.p, operations.grayscale)
        if isinstance(blur := parts.get(GaussianBlur), GaussianBlur):
            sigma = amounts(self._random("sigma").uniform(*blur.sigma, images), images=images)
            operation = operations.blur(blur.kernel)
            self.colours += self._with_probability(blur.kind, blur.p, operation, sigma)
        if isinstance(solarize := parts.get(Solarize), Solarize):
            limit = amounts(solarize.threshold, images=images)
            self.colours += self._with_probability(
                solarize.kind, solarize.p, operations.solarize, limit
            )
        if isinstance(posterize := parts.get(Posterize), Posterize):
            step = amounts(2.0 ** (8 - posterize.bits), images=images)
            self.colours += self._with_probability(
                posterize.kind, posterize.p, operations.posterize, step
            )
        if TrivialAugment in parts:
            draws = draw_policy(TRIVIAL, images, side, self._random("trivial_augment"))
            self.colours.append(grouped_policy(TRIVIAL, draws, side, batch_size, device))
        if isinstance(rand := parts.get(RandAugment), RandAugment):
            for number in range(rand.n):
                random = self._random(rand.kind, number)
                draws = draw_policy(RAND, images, side, random, rand.magnitude)
                self.colours.append(grouped_policy(RAND, draws, side, batch_size, device))

        if isinstance(erasing := parts.get(RandomErasing), RandomErasing):
            colour = mean if erasing.fill == "mean" else (0, 0, 0)
            operation = covered(torch.tensor(colour, dtype=torch.uint8, device=device))
            boxes = self._boxes(erasing)
            self.last += self._with_probability(erasing.kind, erasing.p, operation, boxes)

    def _with_probability(
        self, name: str, p: float, operation: Operation, columns: Floats | None = None
    ) -> list[Grouped]:
        """Return the stage of an operation that each image gets with probability `p`."""
        chosen = self._random(name).random(self._images) < p
        choice: Choices = np.where(chosen, 0, -1)
        if columns is None:
            columns = amounts(images=self._images)
        return [Grouped([operation], choice, columns, self._batch_size, self._device)]

    def _jitter(self, jitter: ColorJitter) -> list[Grouped]:
        """Return a stage per operation: the order is drawn for each image."""
        n, columns, kinds = self._images, [], []
        for name, operation in (
            ("brightness", operations.brightness),
            ("contrast", operations.contrast),
            ("saturation", operations.saturation),
        ):
            if most := getattr(jitter, name):
                random = self._random("color_jitter", name)
                drawn = random.uniform(max(0.0, 1 - most), 1 + most, n)
                columns.append(factor(drawn - 1, self._side))
                kinds.append(operation)
        if jitter.hue:
            turn = self._random("color_jitter", "hue").uniform(-jitter.hue, jitter.hue, n)
            columns.append(amounts(turn, images=n))
            kinds.append(operations.hue)
        order = np.tile(np.arange(len(kinds)), (n, 1))
        order = self._random("color_jitter", "order").permuted(order, axis=1)
        of_image = np.arange(n)
        return [
            Grouped(
                kinds, choice, np.stack(columns)[choice, of_image], self._batch_size, self._device
            )
            for choice in order.T
        ]

    def _boxes(self, part: RandomResizedCrop | RandomErasing) -> Floats:
        """Return columns `top, left, height, width` of a box in each image, whole pixels.

        Areas are uniform in `scale`, ratios log-uniform in `ratio`, as in torchvision.
        """
        n, side = self._images, self._side
        random = self._random(part.kind, "box")
        crops = isinstance(part, RandomResizedCrop)
        # torchvision takes the ratio as width to height for a crop, the other way for a rectangle.
        height = np.full(n, side if crops else 0, dtype=np.int64)
        width = height.copy()
        left = np.arange(n)
        for _ in range(ATTEMPTS):
            area = side**2 * random.uniform(*part.scale, len(left))
            low, high = (math.log(ratio) for ratio in part.ratio)
            ratio = np.exp(random.uniform(low, high, len(left)))
            one, other = (
                np.rint(np.sqrt(x)).astype(np.int64) for x in (area * ratio, area / ratio)
            )
            tall, wide = (other, one) if crops else (one, other)
            most = side if crops else side - 1
            fits = (tall <= most) & (wide <= most) & (not crops or ((tall > 0) & (wide > 0)))
            height[left[fits]], width[left[fits]] = tall[fits], wide[fits]
            left = left[~fits]
        top, first = (random.integers(0, side - size + 1) for size in (height, width))
        return amounts(top, first, height, width, images=n)

    def _random(self, *names: str | int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(derive_seed(self._seed, *names, self._epoch)))


def covered(colour: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the operation that gives the box `top, left, height, width` one colour."""

    def operation(pixels: Tensor, amounts: Tensor) -> Tensor:
        along = torch.arange(pixels.shape[1], device=pixels.device)
        top, left, height, width = amounts[:, :4, None].unbind(1)
        rows = (along >= top) & (along < top + height)
        columns = (along >= left) & (along < left + width)
        return torch.where((rows[:, :, None] & columns[:, None])[..., None], colour, pixels)

    return operation


def apply(stages: Iterable[Grouped], pixels: Tensor, start: int) -> None:
    """Change a batch, uint8 `(batch, side, side, 3)`, by all stages, in place."""
    for stage in stages:
        stage(pixels, start)
