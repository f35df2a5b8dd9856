"""Optimizers with modes of their own: `train()` before steps, `eval()` before the weights are used.

Schedule-free optimizers (arXiv 2405.15682) step at other weights than those that are the result.
Modes change only where every run of a trial changes them, at the two ends of an epoch, because the
way there and back is not exact. A checkpoint within an epoch holds the weights of training, one
at an epoch's end those of evaluation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from cnncore.measure.evaluate import autocast, eval_mode

# Batches for new statistics, as the README of the package schedulefree does it.
STATISTICS_BATCHES = 50


def has_modes(optimizer: torch.optim.Optimizer) -> bool:
    """Check whether an optimizer has `train()` and `eval()`; none of PyTorch's has."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


def to_train_mode(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer ready for steps; one without modes is."""
    if has_modes(optimizer):
        _call(optimizer, "train")


def to_eval_mode(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: str,
    frozen_norms: Collection[nn.Module] = (),
) -> None:
    """Bring the weights that are to be evaluated into the network, with statistics of their own.

    Does nothing for an optimizer without modes. BatchNorm's statistics, but for those of
    `frozen_norms`, are computed anew from the first `batches`.
    """
    if has_modes(optimizer):
        _call(optimizer, "eval")
        renew_statistics(model, islice(batches, STATISTICS_BATCHES), precision, frozen_norms)


def _call(optimizer: Any, mode: str) -> None:
    getattr(optimizer, mode)()


@torch.no_grad()
def renew_statistics(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: str,
    frozen_norms: Collection[nn.Module] = (),
) -> None:
    """Set BatchNorm's statistics to their mean over the batches, as PyTorch's `update_bn` does.

    All other layers are in eval mode meanwhile: nothing is dropped.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.track_running_stats
        and module not in frozen_norms
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for images, _ in batches:
            with autocast(images.device, precision):
                model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
