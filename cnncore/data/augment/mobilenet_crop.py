"""Quirk `hu-mobilenet-crop`: a small random window of an enlarged image.

The code of hu-realm ran it for MobileNet. Images are enlarged to 224 pixels, padded by 4 black
pixels and cut to 32 at a random position, about 2 % of the picture. Only the window is computed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import CROP_SIDE
from cnncore.seeding import derive_seed

ENLARGED, PADDING = 224, 4


class Window:
    """The windows of one pass over a split: a function of `(images, seed, epoch)` alone.

    `black` is the value of a black pixel after normalisation, one number per channel.
    """

    def __init__(
        self, images: int, black: Tensor, seed: int, epoch: int, device: torch.device
    ) -> None:
        random = np.random.Generator(np.random.PCG64(derive_seed(seed, "window", epoch)))
        positions = ENLARGED + 2 * PADDING - CROP_SIDE + 1
        corners = random.integers(0, positions, (2, images), dtype=np.int64)
        self.corner = torch.from_numpy(corners).to(device)
        self._black = black.to(device)[:, None, None]

    def __call__(self, images: Tensor, start: int) -> Tensor:
        """Return the windows of normalised images `(batch, 3, side, side)`.

        `start` is the position of the first image in the pass.
        """
        part = slice(start, start + len(images))
        along = torch.arange(CROP_SIDE, device=images.device) - PADDING
        rows, columns = (along + corner[part, None] for corner in self.corner)
        y, x = ((position + 0.5) * (2 / ENLARGED) - 1 for position in (rows, columns))
        shape = (len(images), CROP_SIDE, CROP_SIDE)
        grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
        windows = F.grid_sample(
            images,
            grid,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        inside_rows, inside_columns = ((p >= 0) & (p < ENLARGED) for p in (rows, columns))
        inside = (inside_rows[:, :, None] & inside_columns[:, None])[:, None]
        return torch.where(inside, windows, self._black).contiguous(
            memory_format=torch.channels_last
        )
