"""The images of each split of a config, by their indices; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncore.config import TrialConfig
from cnncore.data.cache import ImageData
from cnncore.data.stratify import Indices, stratified_fold, stratified_split, stratified_subset

# Keys of a config that decide which images a split has.
SPLIT_KEYS = {"dataset", "data_fingerprint", "labels", "val_fraction", "split_seed"}
SPLIT_KEYS |= {"limit_train", "limit_test"}


@dataclass(frozen=True)
class SplitIndices:
    """Indices of the splits: `train` and `val` into the training images, `test` into the others."""

    train: Indices
    val: Indices
    test: Indices


def split_indices(
    config: TrialConfig, data: ImageData, fold: tuple[int, int] | None = None
) -> SplitIndices:
    """Return the images of each split.

    Validation images are taken first: one fold of cross-validation if `fold` (number from 0, count)
    is given, else the data set's own, else a stratified `val_fraction` of the training images; none
    if that is 0.
    `limit_train` and `limit_test` then keep stratified subsets. The splits depend on `split_seed`,
    not on the trial's seed.
    """
    if fold is not None:
        train, val = stratified_fold(data.train_labels, *fold, config.split_seed)
    elif data.validation:
        train, val = np.split(np.arange(len(data.train_labels)), [-data.validation])
    elif config.val_fraction == 0:
        train, val = np.split(np.arange(len(data.train_labels)), [len(data.train_labels)])
    else:
        assert config.val_fraction is not None  # the plan refuses null without folds
        train, val = stratified_split(data.train_labels, config.val_fraction, config.split_seed)
    test = np.arange(len(data.test_labels), dtype=np.int64)
    if config.limit_train is not None:
        train = stratified_subset(train, data.train_labels, config.limit_train, config.split_seed)
    if config.limit_test is not None:
        test = stratified_subset(test, data.test_labels, config.limit_test, config.split_seed)
    return SplitIndices(train, val, test)


def absent_classes(
    config: TrialConfig, data: ImageData, fold: tuple[int, int] | None = None
) -> dict[str, list[str]]:
    """Return the names of the classes without a single image, by split: train, val, test.

    A split without any image is left out.
    """
    indices = split_indices(config, data, fold)
    labels = {
        "train": data.train_labels[indices.train],
        "val": data.train_labels[indices.val],
        "test": data.test_labels[indices.test],
    }
    count = len(data.class_names)
    absent = {
        split: np.flatnonzero(np.bincount(own, minlength=count) == 0)
        for split, own in labels.items()
        if len(own)
    }
    return {
        split: [data.class_names[i] for i in which] for split, which in absent.items() if len(which)
    }
