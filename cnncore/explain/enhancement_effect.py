"""Effect of image enhancement on a network's errors (xiong-2022): repaired and broken answers.

The factor of each enhancer is chosen on all validation images, by the number of right answers. Its
effect is then measured on all test images, those answered right included, beside that of noise of
the same strength.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnncore.config import Enhance
from cnncore.data.augment.enhancement import ENHANCERS, enhanced
from cnncore.data.batches import Batches, EvalSplit
from cnncore.measure.evaluate import predict
from cnncore.seeding import derive_seed

FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0)
COMBINED = "combined"

Factors = dict[str, float]
Right = NDArray[np.bool_]
# Function from uint8 images `(batch, side, side, 3)` to changed ones.
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Effect:
    """Effect of a change of every image on the answers; counts of images.

    `l2_norm` is the mean over images of the change's Euclidean norm, in steps of 0 to 255.
    """

    images: int
    wrong_before: int
    repaired: int
    broken: int
    l2_norm: float

    @property
    def net_change(self) -> int:
        """Right answers gained; negative if lost."""
        return self.repaired - self.broken

    @property
    def top1_before(self) -> float:
        """Accuracy on the unchanged images."""
        return 1 - self.wrong_before / self.images

    @property
    def top1_after(self) -> float:
        """Accuracy on the changed images."""
        return 1 - (self.wrong_before - self.net_change) / self.images

    @property
    def repaired_share(self) -> float | None:
        """Share of the errors repaired; None without errors."""
        return self.repaired / self.wrong_before if self.wrong_before else None


@dataclass(frozen=True)
class Enhancement:
    """Enhancement of a split: factors by enhancer, and the effect.

    `transform` is an enhancer's name, or `combined`. `chosen` is true if validation selected these
    factors; only such are measured on test images. `random` is the effect of noise, None on
    validation images.
    """

    split: Literal["val", "test"]
    transform: str
    factors: Factors
    chosen: bool
    effect: Effect
    random: Effect | None


def study_enhancement(
    model: nn.Module,
    val: EvalSplit,
    test: EvalSplit,
    *,
    precision: str,
    device: torch.device,
    seed: int,
) -> list[Enhancement]:
    """Measure every factor of every enhancer on validation images, and the chosen on test images.

    `combined` applies the chosen factors one after the other. `seed` determines the noise.
    """
    measure = partial(_measure, model, precision=precision, device=device)
    right = _is_right(model, val, precision, device)
    val_effects = {
        (name, factor): measure(val, right, partial(enhanced, factors=Enhance(**{name: factor})))
        for name in ENHANCERS
        for factor in FACTORS
    }
    best = {name: _best({f: val_effects[name, f] for f in FACTORS}) for name in ENHANCERS}
    enhancements = [
        Enhancement("val", name, {name: factor}, factor == best[name], effect, None)
        for (name, factor), effect in val_effects.items()
    ]
    combined = measure(val, right, partial(enhanced, factors=Enhance(**best)))
    enhancements.append(Enhancement("val", COMBINED, best, True, combined, None))

    right = _is_right(model, test, precision, device)
    for transform, factors in {**{n: {n: f} for n, f in best.items()}, COMBINED: best}.items():
        change = partial(enhanced, factors=Enhance(**factors))
        generator = torch.Generator().manual_seed(derive_seed(seed, "enhancement", transform))
        noise = partial(equal_noise, change=change, generator=generator)
        effects = measure(test, right, change), measure(test, right, noise)
        enhancements.append(Enhancement("test", transform, factors, True, *effects))
    return enhancements


def _best(effects: dict[float, Effect]) -> float:
    """Return the factor with the most right answers; of equal ones the mildest."""
    return min(effects, key=lambda factor: (-effects[factor].net_change, abs(log(factor))))


def equal_noise(images: Tensor, change: Change, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to every image, of the same norm as `change` of that image.

    Pixels stay whole numbers of 0 to 255; bisection finds the scale that gives the norm in spite
    of this. If even the largest noise is too weak, the largest is used.
    """
    target_norms = _norms(change(images), images)
    pixels = images.flatten(1).float()
    noise = torch.randn(pixels.shape, generator=generator)
    noisy = torch.empty_like(pixels)  # reused: fresh memory in each round takes most of the time
    low = torch.zeros(len(images))
    high = torch.full((len(images),), LARGEST_SCALE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        norms = _add_noise(pixels, noise, middle, noisy).sub_(pixels).norm(dim=1)
        too_weak = norms < target_norms
        low, high = torch.where(too_weak, middle, low), torch.where(too_weak, high, middle)
    return _add_noise(pixels, noise, high, noisy).to(torch.uint8).view(images.shape)


# At this scale nearly every pixel is black or white in each channel. After so many bisections the
# scale is exact to a thousandth of a step.
LARGEST_SCALE = 4096.0
BISECTIONS = 22


def _add_noise(pixels: Tensor, noise: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write noisy pixels `(batch, values)`, whole numbers of 0 to 255, to `out`."""
    torch.addcmul(pixels, noise, scale[:, None], out=out)
    return out.round_().clamp_(0, 255)


def _norms(changed: Tensor, images: Tensor) -> Tensor:
    norms: Tensor = (changed.float() - images.float()).flatten(1).norm(dim=1)
    return norms


def _is_right(model: nn.Module, split: EvalSplit, precision: str, device: torch.device) -> Right:
    logits, labels = predict(model, split.batches(), precision=precision, device=device)
    return np.asarray((logits.argmax(1) == labels).numpy())


def _measure(
    model: nn.Module,
    split: EvalSplit,
    right_before: Right,
    change: Change,
    *,
    precision: str,
    device: torch.device,
) -> Effect:
    norms: list[Tensor] = []
    batches = _changed_batches(split, change, norms)
    logits, labels = predict(model, batches, precision=precision, device=device)
    right_after = (logits.argmax(1) == labels).numpy()
    return Effect(
        images=len(labels),
        wrong_before=int((~right_before).sum()),
        repaired=int((~right_before & right_after).sum()),
        broken=int((right_before & ~right_after).sum()),
        l2_norm=float(torch.cat(norms).double().mean()),
    )


def _changed_batches(split: EvalSplit, change: Change, norms: list[Tensor]) -> Batches:
    """Yield the split's changed batches, and append the norms of the change to `norms`."""
    for start in range(0, len(split), split.batch_size):
        indices = np.arange(start, min(start + split.batch_size, len(split)))
        raw = split.raw(indices)
        changed = change(raw)
        norms.append(_norms(changed, raw))
        yield split.views(split.inputs(changed)), torch.from_numpy(split.labels[indices])
