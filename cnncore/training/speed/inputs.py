"""Seconds that making the batches of a config takes, timed on a few images of noise."""

from __future__ import annotations

import numpy as np
import torch

from cnncore.config import TrialConfig
from cnncore.data import open_splits
from cnncore.data.batches import Batches
from cnncore.data.cache import ImageData
from cnncore.training.speed.machine import computed_s

# Most pixels of a timed batch: its time for an image does not depend on its size beyond that.
PIXELS = 2**19
BATCHES = 3


def input_seconds(
    config: TrialConfig, stored_side: int, device: torch.device
) -> tuple[float, float]:
    """Return the seconds of one image, decoded before, in a batch for training and for evaluation.

    `stored_side` is the side of the decoded images. Changes of the user's own run.
    """
    side = max(stored_side, config.image_size or stored_side)
    batch = max(1, min(config.batch_size, PIXELS // side**2))
    count = max(BATCHES * batch, 4)
    data = noise(count, stored_side, 2)
    changes = {
        "batch_size": batch,
        "val_fraction": 0.5,
        **dict.fromkeys(("limit_train", "limit_test", "labels", "class_weights", "sampling")),
    }
    splits = open_splits(config.model_copy(update=changes), data, device)
    # Every image trains, so that there are some batches.
    splits.train.indices = np.arange(count, dtype=np.int64)
    train = min(_seconds(splits.train.batches(0, epoch), device) for epoch in (1, 2))
    test = min(_seconds(splits.test.batches(), device) for _ in range(2))
    return train / count, test / len(splits.test)


def noise(count: int, side: int, classes: int) -> ImageData:
    """Return a data set of `count` images of noise `(count, side, side, 3)`, for training and test.

    Each class has as many as the others, give or take one.
    """
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    names = tuple(map(str, range(classes)))
    half = (0.5, 0.5, 0.5)
    return ImageData("noise", names, images, labels, images, labels, "", half, half)


def _seconds(batches: Batches, device: torch.device) -> float:
    started = computed_s(device)
    for _ in batches:
        pass
    return computed_s(device) - started
