"""A network's predictions on a split, and their rows in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnncore.measure.metrics import Metrics
from cnncore.models.logits import check_logits


def predict(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    precision: str,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return logits `(n, classes)` float32 and labels `(n,)` int64 of all batches, on the CPU.

    A batch is normalised images `(views * batch, 3, height, width)` and labels `(batch,)`. Logits
    are the mean over an image's views; those of a view follow one another. The network runs in eval
    mode without gradients and then returns to its former mode. Nothing waits for the
    device until the last batch has started.
    """
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    with eval_mode(model), torch.inference_mode(), autocast(device, precision):
        for images, batch_labels in batches:
            output = model(images.to(device, non_blocking=True))
            check_logits(output, len(images))
            output = output.float()
            if len(images) > len(batch_labels):
                output = output.unflatten(0, (-1, len(batch_labels))).mean(0)
            logits.append(output)
            labels.append(batch_labels)
    if not logits:
        raise ValueError("there must be at least one batch to predict, got none")
    # Concatenated outside inference mode, so that the caller may use them in any computation.
    return torch.cat(logits).cpu(), torch.cat(labels).cpu().to(torch.int64)


def class_rows(
    metrics: Metrics, class_names: Sequence[str], *, trial_id: str, split: str
) -> list[dict[str, Any]]:
    """Return the rows of the table `classes`, one per class; names are in order of the index."""
    return [
        {
            "trial_id": trial_id,
            "split": split,
            "class_index": index,
            "class_name": name,
            "support": one.support,
            "precision": one.precision,
            "recall": one.recall,
            "f1": one.f1,
            "auc": one.auc,
        }
        for index, (name, one) in enumerate(zip(class_names, metrics.classes, strict=True))
    ]


def prediction_columns(
    metrics: Metrics, *, trial_id: str, split: str
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the columns of the table `predictions`, an entry per image in order of the batches."""
    count = len(metrics.labels)
    return {
        "trial_id": np.full(count, trial_id),
        "split": np.full(count, split),
        "index": np.arange(count, dtype=np.int32),
        "label": metrics.labels.astype(np.int16),
        "predicted": metrics.predicted.astype(np.int16),
        "confidence": metrics.confidence,
    }


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and restore each module's own mode afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context for "bf16" mixed precision (torch chooses the operations), or for none.

    "fp32" and "tf32" differ by a setting of the process (`cnncore/training/float32.py`).
    """
    if precision not in ("fp32", "tf32", "bf16"):
        raise ValueError(f"precision must be fp32, tf32 or bf16, got {precision!r}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
