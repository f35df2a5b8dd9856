"""Grids of a data set's images, and of a network's predictions: right, wrong, confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from cnncore.data.batches import EvalSplit
from cnncore.explain.image_grid import GREEN, VERMILION, Tile, tile_grid
from cnncore.measure.evaluate import predict

COLUMNS = 8


def sample_grid(split: EvalSplit, class_names: Sequence[str], per_class: int, title: str) -> Image:
    """Draw the first images of every class, one row per class; blank tiles if there are fewer."""
    tiles = []
    for label in range(len(class_names)):
        indices = np.flatnonzero(split.labels == label)[:per_class]
        images = split.raw(indices).numpy()
        tiles += [Tile(image) for image in images]
        tiles += [Tile(np.full_like(split.raw([0]).numpy()[0], 255))] * (per_class - len(images))
    return tile_grid(tiles, per_class, title=title, row_labels=class_names)


def prediction_grid(
    model: nn.Module,
    split: EvalSplit,
    class_names: Sequence[str],
    count: int,
    *,
    precision: str,
    device: torch.device,
    about: str,
    errors: bool = False,
) -> Image:
    """Draw images of the split with true class, predicted class and its probability.

    They are spread evenly over the split; with `errors` only wrong ones, the most confident first.
    Raises `ValueError` if there are none.
    """
    logits, labels = predict(model, split.batches(), precision=precision, device=device)
    confidence, predicted = logits.softmax(1).max(1)
    wrong = predicted != labels
    if errors:
        indices = torch.argsort(confidence * wrong, descending=True, stable=True)
        indices = indices[: min(count, int(wrong.sum()))]
        if not len(indices):
            raise ValueError(f"the network has all {len(labels)} images right: no error to show")
        title = f"The surest of {int(wrong.sum()):,} errors in {len(labels):,} images"
    else:
        count = min(count, len(labels))
        indices = torch.arange(count) * len(labels) // count
        title = f"{count} of {len(labels):,} images, {1 - wrong.double().mean().item():.2%} right"
    tiles = [
        _predicted_tile(split.raw([index])[0], index, class_names, label, choice, share)
        for index, label, choice, share in zip(
            indices.tolist(),
            labels[indices].tolist(),
            predicted[indices].tolist(),
            confidence[indices].tolist(),
            strict=True,
        )
    ]
    note = f"{about}. Place in the split and true class; below, predicted class and probability."
    return tile_grid(tiles, COLUMNS, title=title, note=note)


def _predicted_tile(
    image: Tensor, index: int, class_names: Sequence[str], label: int, choice: int, share: float
) -> Tile:
    return Tile(
        image.numpy(),
        (f"{index}: {class_names[label]}", f"{class_names[choice]} {share:.0%}"),
        GREEN if choice == label else VERMILION,
    )
