"""Random changes of training images beyond crop and flip, for whole batches on the device.

Each kind is drawn once per epoch from a random stream of its own, so an additional kind does not
change the draws of the others. Pixels are uint8 `(batch, side, side, 3)`, before normalisation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import (
    AugmentKind,
    Brightness,
    Contrast,
    Erase,
    Rotate,
    Saturation,
    Scale,
    Sharpness,
    Translate,
)
from cnncore.data.augment import enhancement, operations
from cnncore.data.augment.stages import Stages, apply
from cnncore.seeding import derive_seed

# In the order of application.
COLOURS = (
    (Brightness, enhancement.brightness),
    (Contrast, enhancement.contrast),
    (Saturation, enhancement.saturation),
    (Sharpness, enhancement.sharpness),
)
# Kinds that `crop_flip.py` and `own_transform.py` apply to the bytes.
ON_BYTES = ("flip", "crop", "own")


def distorts(augment: Iterable[AugmentKind]) -> bool:
    """Return whether any kind changes more than crop and flip do."""
    return any(part.kind not in ON_BYTES for part in augment)


class Distortion:
    """The changes of one epoch: geometry, then colours, then what covers a part of an image.

    A function of all arguments but the device. `mean` is the colour of `fill: mean`.
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
        mean: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        self._images, self._side, self._seed, self._epoch = images, side, seed, epoch
        augment = tuple(augment)
        self._stages = Stages(
            augment, images, side, seed, epoch, device, batch_size=batch_size, mean=mean
        )
        parts = {type(part): part for part in augment}
        self.angle, self.shift, self.scale = (
            np.zeros(images),
            np.zeros((2, images)),
            np.ones(images),
        )
        if isinstance(rotate := parts.get(Rotate), Rotate):
            self.angle = self._uniform("rotate", -rotate.degrees, rotate.degrees)
        if isinstance(translate := parts.get(Translate), Translate):
            most = translate.fraction * side
            self.shift = np.stack(
                [self._uniform(f"translate {axis}", -most, most) for axis in ("x", "y")]
            )
        if isinstance(scale := parts.get(Scale), Scale):
            self.scale = self._uniform("scale", scale.low, scale.high)
        moves = not {Rotate, Translate, Scale}.isdisjoint(parts)
        self._inverse = self._inverse_maps().to(device) if moves else None
        self.factors = {
            change: torch.from_numpy(self._uniform(part.kind, part.low, part.high))
            .float()
            .to(device)
            for kind, change in COLOURS
            if isinstance(part := parts.get(kind), Brightness | Contrast | Saturation | Sharpness)
        }
        erase = parts.get(Erase)
        self._erase = erase.size if isinstance(erase, Erase) else None
        centres = self._random("erase").integers(0, side, (2, images), dtype=np.int64)
        self.corner = torch.from_numpy(centres - (self._erase or 0) // 2).to(device)

    def __call__(self, pixels: Tensor, start: int) -> Tensor:
        """Return the changed images of the batch that begins at position `start` of the epoch.

        `pixels` may be overwritten.
        """
        part = slice(start, start + len(pixels))
        apply(self._stages.first, pixels, start)
        if self._inverse is not None or self.factors:
            pixels = self._resampled_and_coloured(pixels, part)
        apply(self._stages.colours, pixels, start)
        if self._erase is not None:
            pixels = self._erased(pixels, self._erase, part)
        apply(self._stages.last, pixels, start)
        return pixels

    def noise(self, images: int, size: int, start: int) -> Tensor:
        """Return the random pixels of the erased squares, beginning at position `start`.

        Their shape is `(images, 3, size, size)`.
        """
        values = self._random("erase pixels", start).integers(
            0, 256, (images, 3, size, size), dtype=np.uint8
        )
        return torch.from_numpy(values)

    def _resampled_and_coloured(self, pixels: Tensor, part: slice) -> Tensor:
        """Return the images after geometry and the factors, which are computed in float32."""
        values = pixels.permute(0, 3, 1, 2).float()
        if self._inverse is not None:
            grid = F.affine_grid(self._inverse[part], list(values.shape), align_corners=False)
            values = F.grid_sample(values, grid, mode="bilinear", align_corners=False).round_()
        for change, factors in self.factors.items():
            values = change(values, factors[part, None, None, None])
        return operations.to_bytes(values).permute(0, 2, 3, 1).contiguous()

    def _erased(self, pixels: Tensor, size: int, part: slice) -> Tensor:
        n, along = len(pixels), torch.arange(self._side, device=pixels.device)
        rows, columns = (along - corner[part, None] for corner in self.corner)
        noise = self.noise(n, size, part.start).to(pixels.device)
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[
            :, None
        ]
        image = torch.arange(n, device=pixels.device)[:, None, None]
        rows, columns = (x.clamp(0, size - 1) for x in (rows, columns))
        filled = noise[image, :, rows[:, :, None], columns[:, None]]
        return torch.where(inside[..., None], filled, pixels)

    def _inverse_maps(self) -> Tensor:
        """Return affine maps from output to source positions, in units of half an image.

        Their shape is `(images, 2, 3)`. Images are turned by `angle` (degrees, clockwise) and
        enlarged by `scale` about their centre, then moved by `shift` (pixels to the right and
        down), as in torchvision's `affine`.
        """
        angle = np.deg2rad(self.angle)
        cos, sin = np.cos(angle) / self.scale, np.sin(angle) / self.scale
        turn = np.array([[cos, sin], [-sin, cos]])
        back = -np.einsum("ijn,jn->in", turn, self.shift * (2 / self._side))
        return (
            torch.from_numpy(np.concatenate([turn, back[:, None]], axis=1)).permute(2, 0, 1).float()
        )

    def _uniform(self, name: str, low: float, high: float) -> np.ndarray[Any, Any]:
        return self._random(name).uniform(low, high, self._images)

    def _random(self, *names: str | int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(derive_seed(self._seed, *names, self._epoch)))
