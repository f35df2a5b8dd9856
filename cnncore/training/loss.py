"""The loss that is trained on; validation and test are measured by the plain cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnncore.config import BinaryCrossEntropy, Focal, TrialConfig
from cnncore.data.augment.mixing import Mix
from cnncore.data.splits import Splits
from cnncore.functions import import_function
from cnncore.process_settings import unchanged

# Mean loss of a batch: from logits `(batch, classes)` and labels `(batch,)` to a number.
MeanLoss = Callable[[Tensor, Tensor], Tensor]
# Loss of each image of a batch, `(batch,)`.
ImageLosses = Callable[[Tensor, Tensor], Tensor]


def build_loss(
    config: TrialConfig, splits: Splits, device: torch.device
) -> Callable[[Tensor, Tensor, Mix | None], Tensor]:
    """Return the loss of a batch as a function of logits, labels and the batch's mixing.

    It is the mean over the images, in fp32, or with `class_weights` w the weighted mean
    `sum(w[label] * loss) / sum(w[label])` over the batch, as PyTorch's `weight`. Raises
    `ValueError` if the user's loss cannot be imported or balanced weights do not exist.
    """
    weights = class_weights(config, splits)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device)
    if config.loss is None:
        smoothing = config.label_smoothing or 0.0
        mean: MeanLoss = partial(_cross_entropy, weight=weight, smoothing=smoothing)
    else:
        mean = partial(_mean, losses=image_losses(config.loss), weight=weight)
    return partial(_mixed_loss, mean)


def class_weights(config: TrialConfig, splits: Splits) -> list[float] | None:
    """Return the weight of each class; a balanced one is images / (classes * images of it).

    The images are those that are trained on (as in scikit-learn's `compute_class_weight`). Raises
    `ValueError` if one of the classes to balance has none.
    """
    if config.class_weights is None:
        return None
    names = splits.class_names
    if config.class_weights != "balanced":
        given = config.class_weights
        return list(map(given.__getitem__, names)) if isinstance(given, dict) else list(given)
    counts = np.bincount(splits.train.labels, minlength=len(names))
    if not counts.all():
        raise ValueError(
            f"class_weights: balanced needs an image of each class, but {names[counts.argmin()]} "
            "has none to train on"
        )
    weights: list[float] = (counts.sum() / (len(names) * counts)).tolist()
    return weights


def image_losses(loss: BinaryCrossEntropy | Focal | str | Any) -> ImageLosses:
    """Return the function of a loss per image. Raises `ValueError` if it cannot be imported."""
    if isinstance(loss, str):
        with unchanged():
            function = import_function(loss)
        return partial(_checked, loss, function)
    if isinstance(loss, Focal):
        return partial(focal, gamma=loss.gamma)
    return binary_cross_entropy


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the classes of each one's sigmoid cross-entropy, per image."""
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return `(1 - p) ** gamma * -log(p)` per image, p the softmax of its class.

    `1 - p` comes from the logarithm, so it is exact for p near 1. It has a least value, because
    the gradient of a power below 1 is infinite at 0.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    miss = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
    return miss**gamma * losses


def _checked(name: str, function: ImageLosses, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the losses of a user's function. Raises `ValueError` unless they are `(batch,)`."""
    losses = function(logits, labels)
    check_losses(name, losses, len(labels))
    return losses


def check_losses(name: str, losses: Any, batch: int) -> None:
    """Raise `ValueError` unless a user's loss returned a number for each image."""
    if not isinstance(losses, Tensor):
        got = f"a {type(losses).__name__}"
    elif losses.shape != (batch,):
        got = f"the shape {tuple(losses.shape)}"
    elif not losses.is_floating_point():
        got = f"numbers of the type {str(losses.dtype).removeprefix('torch.')}"
    else:
        return
    raise ValueError(
        f"{name} must return a loss for each image, of the shape (batch,), here ({batch},), but "
        f"got {got}"
    )


def _cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float
) -> Tensor:
    return F.cross_entropy(logits.float(), labels, weight=weight, label_smoothing=smoothing)


def _mean(logits: Tensor, labels: Tensor, losses: ImageLosses, weight: Tensor | None) -> Tensor:
    each = losses(logits.float(), labels)
    if weight is None:
        return each.mean()
    own = weight[labels]
    return (own * each).sum() / own.sum()


def _mixed_loss(mean: MeanLoss, logits: Tensor, labels: Tensor, mixed: Mix | None) -> Tensor:
    """Return the loss of a batch; mixed images weight both labels as their pixels."""
    loss = mean(logits, labels)
    if mixed is None:
        return loss
    other = mean(logits, labels[mixed.partner])
    return mixed.share * loss + (1 - mixed.share) * other
