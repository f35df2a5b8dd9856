"""Transforms of the user's: `package.module:Class`, on one image at a time, on the CPU.

An instance gets a `torchvision.tv_tensors.Image`, uint8 `(3, side, side)`, and returns one of the
same shape. Before each image the global random generators of Python, NumPy and PyTorch are seeded
by the trial's seed, the epoch and the image; they are put back after the batch. So a transform
without a memory of its own gives the same pixels after a resume and in any process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnncore.config import AugmentKind, OwnTransform
from cnncore.error_text import error_line, own_line
from cnncore.functions import import_function
from cnncore.process_settings import random_states_kept, unchanged
from cnncore.seeding import derive_seed

# Images that a transform is tried on.
TRIED = 5
Transform = Callable[[Any], Any]


class TransformError(ValueError):
    """Fault of a user's transform, with its name."""


def has_own(augment: Iterable[AugmentKind]) -> bool:
    """Return whether any change is a transform of the user's."""
    return any(isinstance(part, OwnTransform) for part in augment)


def make_transform(part: OwnTransform) -> Transform:
    """Import and make a transform. Raises `TransformError` with the reason."""
    try:
        function = import_function(part.name)
    except ValueError as error:
        raise TransformError(str(error)) from error
    try:
        transform = function(**(part.options or {}))
    except Exception as error:
        raise TransformError(f"{part.name}: cannot be made: {_told(error)}") from error
    if not callable(transform):
        raise TransformError(
            f"{part.name}: makes a {type(transform).__name__}, which cannot be called with an image"
        )
    made: Transform = transform
    return made


class OwnTransforms:
    """The transforms of a list, in its order, for the images of a split."""

    def __init__(self, augment: Iterable[AugmentKind]) -> None:
        parts = [part for part in augment if isinstance(part, OwnTransform)]
        # Their modules may draw random numbers and change settings when they are imported.
        with unchanged(), random_states_kept():
            self._transforms = [(part.name, make_transform(part)) for part in parts]

    def batches(
        self, batches: Iterable[Tensor], indices: Iterable[Tensor], seed: int, epoch: int
    ) -> Iterator[Tensor]:
        """Yield the batches, uint8 `(batch, side, side, 3)` on the CPU, changed in place.

        `indices` are the images' places in the data set, batch by batch.
        """
        for images, places in zip(batches, indices, strict=True):
            with random_states_kept():
                for image, place in zip(images, places.tolist(), strict=True):
                    _seed_cpu(derive_seed(seed, "own transform", epoch, place))
                    image.copy_(self._changed(image.permute(2, 0, 1)).permute(1, 2, 0))
            yield images

    def _changed(self, image: Tensor) -> Tensor:
        """Return one image `(3, side, side)` after every transform."""
        from torchvision import tv_tensors

        for name, transform in self._transforms:
            result = transform(tv_tensors.Image(image.contiguous()))
            check_result(name, result, image)
            image = result.as_subclass(Tensor)
        return image


def _seed_cpu(seed: int) -> None:
    """Seed the global generators that a transform may draw from; those of devices stay."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def check_result(name: str, result: Any, image: Tensor) -> None:
    """Raise `TransformError` if a transform did not return an image like the one that it got."""
    wanted = f"a uint8 image of shape {tuple(image.shape)}"
    if not isinstance(result, Tensor):
        raise TransformError(
            f"{name}: must return {wanted}, but returned a {type(result).__name__}"
        )
    got = f"{str(result.dtype).removeprefix('torch.')} of shape {tuple(result.shape)}"
    if result.shape != image.shape or result.dtype != torch.uint8:
        raise TransformError(
            f"{name}: must return {wanted}, as it gets, but returned {got}; scaling and "
            "normalisation follow later, by image_size and normalize"
        )


def try_transform(name: str, options: dict[str, Any] | None, side: int) -> dict[str, Any]:
    """Try a transform on a few images of a side, twice; return its `problem`, or None."""
    problem = None
    try:
        _try(OwnTransform(name=name, options=options), side)
    except TransformError as error:
        problem = str(error).removeprefix(f"{name}: ")
    except Exception as error:
        problem = _told(error)
    return {"problem": problem, "notes": [], "tried": True}


def _try(part: OwnTransform, side: int) -> None:
    pixels = np.random.default_rng(0)
    images = torch.from_numpy(pixels.integers(0, 256, (TRIED, side, side, 3), dtype=np.uint8))
    transforms = OwnTransforms([part])
    places, backwards = torch.arange(TRIED), torch.arange(TRIED - 1, -1, -1)
    # In another order, so that a memory of earlier images shows.
    one, two = (
        next(transforms.batches([images[order]], [order], 0, epoch=1))
        for order in (places, backwards)
    )
    if not torch.equal(one, two[backwards]):
        raise TransformError(
            f"{part.name}: gives other pixels for the same image and random numbers; it must keep "
            "no memory of earlier images, and draw from Python's, NumPy's or PyTorch's global "
            "generators, which are seeded for each image"
        )


def _told(error: BaseException) -> str:
    place = f" ({line})" if (line := own_line(error)) else ""
    return f"{error_line(error)}{place}"
