"""The pipeline that hu-realm's code ran for MobileNet: a small random piece of an enlarged image.

Images are enlarged to 224 pixels, padded by 4 black ones and cut to 32 at a random place, about 2 %
of the picture. Only what is cut out is computed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import WINDOW_SIDE
from cnncore.seeding import derive_seed

ENLARGED, PADDING = 224, 4


class Window:
    """The places of one pass over a split: a function of `(images, seed, epoch)` alone.

    `black` is what a black pixel is after normalisation, one number per channel.
    """

    def __init__(
        self, images: int, black: Tensor, seed: int, epoch: int, device: torch.device
    ) -> None:
        random = np.random.Generator(np.random.PCG64(derive_seed(seed, "window", epoch)))
        places = ENLARGED + 2 * PADDING - WINDOW_SIDE + 1
        corners = random.integers(0, places, (2, images), dtype=np.int64)
        self.corner = torch.from_numpy(corners).to(device)
        self._black = black.to(device)[:, None, None]

    def __call__(self, images: Tensor, start: int) -> Tensor:
        """The pieces of normalised images `(batch, 3, side, side)` from place `start` on."""
        at = slice(start, start + len(images))
        along = torch.arange(WINDOW_SIDE, device=images.device) - PADDING
        rows, columns = (along + corner[at, None] for corner in self.corner)
        y, x = ((place + 0.5) * (2 / ENLARGED) - 1 for place in (rows, columns))
        shape = (len(images), WINDOW_SIDE, WINDOW_SIDE)
        grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
        pieces = F.grid_sample(
            images,
            grid,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        inside_rows, inside_columns = ((p >= 0) & (p < ENLARGED) for p in (rows, columns))
        inside = (inside_rows[:, :, None] & inside_columns[:, None])[:, None]
        return torch.where(inside, pieces, self._black).contiguous(
            memory_format=torch.channels_last
        )
