"""MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899): each image of a batch with a partner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnncore.config import TrialConfig
from cnncore.seeding import derive_seed


@dataclass(frozen=True)
class Mix:
    """The mixing of one batch.

    Image i counts with weight `share` as its own class and with `1 - share` as that of image
    `partner[i]`. The pixels in `box` (top, bottom, left, right) come from the partner; without a
    box all pixels are blended by the same weights.
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None

    def images(self, images: Tensor) -> Tensor:
        """Return the mixed images, a copy."""
        partners = images[self.partner]
        if self.box is None:
            return torch.lerp(partners, images, self.share)
        top, bottom, left, right = self.box
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed

    def main_labels(self, labels: Tensor) -> Tensor:
        """Return the label with the larger weight for each image."""
        return labels if self.share >= 0.5 else labels[self.partner]


def draw_mix(config: TrialConfig, images: Tensor, seed: int, epoch: int, step: int) -> Mix | None:
    """Return the mixing of a step's batch; None if `config` mixes nothing.

    It is a function of the config, the shape of `images`, seed, epoch and step alone. If both
    `mixup` and `cutmix` are set, each is used with probability one half.
    """
    if config.mixup is None and config.cutmix is None:
        return None
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "mix", epoch, step)))
    second = random.random() < 0.5
    cuts = config.mixup is None or (config.cutmix is not None and second)
    alpha = config.cutmix if cuts else config.mixup
    assert alpha is not None
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(images))).to(images.device)
    if not cuts:
        return Mix(partner, share, None)
    side = images.shape[-1]
    cut = int(side * (1 - share) ** 0.5)
    box = []
    for centre in random.integers(0, side, 2).tolist():
        box += [max(0, centre - cut // 2), min(side, centre - cut // 2 + cut)]
    top, bottom, left, right = box
    # The image border may cut the box, so the weight is computed from the remaining pixels.
    return Mix(partner, 1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))
