"""Metrics of a network's logits: accuracy, loss, per-class scores, calibration.

Definitions and numbers (up to rounding) are those of scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ECE_BINS = 15


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against the rest; fractions in [0, 1].

    `support` counts the images of the class. Precision, recall and F1 are None if no image is of
    the class and none is taken for it; without images, or never predicted, it scores 0. `auc` is
    the area under the ROC curve, None if no image or every image is of the class.
    """

    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None


@dataclass(frozen=True, eq=False)
class Metrics:
    """Metrics of n images over c classes; fractions in [0, 1].

    `top5` is None below six classes. The macro averages are means over the classes of which there
    is an image or a prediction, as scikit-learn's; `macro_auc` over those with an AUC.
    `balanced_top1` is the mean recall over the classes with an image. `loss` is the mean
    cross-entropy in nats, `ece` the expected calibration error: 15 equal-width bins
    ((k - 1) / 15, k / 15] of confidence, L1 (arXiv 1706.04599). If logits are not finite, `loss`
    and `ece` are NaN and there is no AUC.

    `predicted` (n,) is the class of the largest logit (the first of equal ones), `confidence` (n,)
    its softmax probability, and `confusion` (c, c) counts images by label (row) and prediction.
    """

    top1: float
    top5: float | None
    loss: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_auc: float | None
    ece: float
    balanced_top1: float
    classes: tuple[ClassMetrics, ...]
    labels: Ints
    predicted: Ints
    confidence: NDArray[np.float32]
    confusion: Ints


def classification_metrics(logits: torch.Tensor, labels: torch.Tensor) -> Metrics:
    """Compute all metrics of logits `(n, classes)` and labels `(n,)` from 0, in float64.

    Log-probabilities are logits too. Raises `ValueError` if shapes or labels do not fit.
    """
    scores = logits.detach().cpu().to(torch.float64).numpy()
    truth = labels.detach().cpu().to(torch.int64).numpy()
    _check(scores, truth)
    log_probabilities = _log_softmax(scores)
    return _metrics(scores, log_probabilities, truth)


def _check(scores: Floats, labels: Ints) -> None:
    if scores.ndim != 2 or 0 in scores.shape or labels.shape != scores.shape[:1]:
        raise ValueError(
            "logits must have the shape (n, classes) and labels (n,) with n of 1 and more, got "
            f"{scores.shape} and {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must be 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}"
        )


def _metrics(scores: Floats, log_probabilities: Floats, labels: Ints) -> Metrics:
    count, classes = scores.shape
    rows = np.arange(count)
    probabilities = np.exp(log_probabilities)
    predicted = scores.argmax(axis=1)
    confidence = probabilities[rows, predicted]
    confusion = np.bincount(labels * classes + predicted, minlength=classes * classes)
    confusion = confusion.reshape(classes, classes)
    per_class = _per_class(confusion, _areas(probabilities, labels))
    areas = [one.auc for one in per_class if one.auc is not None]
    return Metrics(
        top1=float((predicted == labels).mean()),
        top5=float((_rank(scores, labels) < 5).mean()) if classes > 5 else None,
        loss=-float(log_probabilities[rows, labels].mean()),
        macro_precision=_mean(one.precision for one in per_class),
        macro_recall=_mean(one.recall for one in per_class),
        macro_f1=_mean(one.f1 for one in per_class),
        macro_auc=float(np.mean(areas)) if areas else None,
        ece=_calibration_error(confidence, predicted == labels),
        balanced_top1=_mean(one.recall for one in per_class if one.support),
        classes=per_class,
        labels=labels,
        predicted=predicted,
        confidence=confidence.astype(np.float32),
        confusion=confusion,
    )


def _mean(scores: Iterable[float | None]) -> float:
    """Return the mean over the classes that have a score."""
    return float(np.mean([score for score in scores if score is not None]))


def _log_softmax(scores: Floats) -> Floats:
    """Return log-probabilities; a row with an infinite or NaN score becomes NaN."""
    with np.errstate(invalid="ignore"):
        shifted = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _rank(scores: Floats, labels: Ints) -> Ints:
    """Return the label's rank from 0 among the sorted scores; ties by class index, NaN last."""
    label_score = scores[np.arange(len(labels)), labels][:, None]
    ahead = ~(scores <= label_score)
    equal_before = (scores == label_score) & (np.arange(scores.shape[1]) < labels[:, None])
    return np.asarray(ahead.sum(axis=1) + equal_before.sum(axis=1))


def _per_class(confusion: Ints, areas: list[float | None]) -> tuple[ClassMetrics, ...]:
    correct = confusion.diagonal()
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    # A division by no image becomes 0 / 1.
    precision = correct / np.maximum(predicted, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(support + predicted, 1)
    columns = (support.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), areas)
    present = (support + predicted > 0).tolist()
    return tuple(
        ClassMetrics(*row) if there else ClassMetrics(0, None, None, None, None)
        for row, there in zip(zip(*columns, strict=True), present, strict=True)
    )


def _areas(probabilities: Floats, labels: Ints) -> list[float | None]:
    """Return the area under the ROC curve of every class against the rest; ties count half.

    The area is the share of (image of the class, other image) pairs in the right order
    (Mann-Whitney). The ranks of the class's scores among all scores give this share.
    """
    if not np.isfinite(probabilities).all():
        return [None] * probabilities.shape[1]
    columns = np.ascontiguousarray(probabilities.T)
    ordered = np.sort(columns, axis=1)
    areas: list[float | None] = []
    for index, (column, sorted_column) in enumerate(zip(columns, ordered, strict=True)):
        scores = column[labels == index]
        positives, negatives = len(scores), len(labels) - len(scores)
        if not positives or not negatives:
            areas.append(None)
            continue
        # The mid-rank from 1 of a score lies between the scores below it and those up to it.
        below = sorted_column.searchsorted(scores, side="left")
        up_to = sorted_column.searchsorted(scores, side="right")
        rank_sum = (int(below.sum()) + int(up_to.sum()) + positives) / 2
        areas.append((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))
    return areas


def _calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    edges = np.linspace(0.0, 1.0, ECE_BINS + 1)
    bins = np.clip(edges.searchsorted(confidence, side="left") - 1, 0, ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
