"""The data of a plan's configs, as far as a plan needs them; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnncore.config import TrialConfig
from cnncore.data import SPLIT_KEYS, ImageData, outline_planned
from cnncore.data.split_indices import split_indices
from grid.plan.plan import Plan


@dataclass(frozen=True)
class SplitSizes:
    """Number of images of each split: those that an epoch trains on, on average, are `train`."""

    train: float
    val: int
    test: int


def split_sizes(plan: Plan, config: TrialConfig, data_dir: Path) -> SplitSizes:
    """Count the images of each split of a config; of folds, those of the first."""
    folds = plan.spec.folds
    indices = split_indices(config, data_of(plan, config, data_dir), (0, folds) if folds else None)
    train: float = len(indices.train)
    if config.steps_per_epoch:
        # A pass over all images takes so many steps; a last batch of one image is left out.
        images = train - 1 if train > 1 and train % config.batch_size == 1 else train
        train = config.steps_per_epoch * images / -(-images // config.batch_size)
    return SplitSizes(train, len(indices.val), len(indices.test))


def sizes_key(config: TrialConfig) -> str:
    """Return a key that is equal for configs with splits of equal sizes."""
    return config.model_dump_json(include={*SPLIT_KEYS, "steps_per_epoch", "batch_size"})


def data_of(
    plan: Plan, config: TrialConfig, data_dir: Path, *, decodes_s: float = 0.0
) -> ImageData:
    """Return a config's classes, labels and counts of images.

    Images that are absent, or not decoded yet, are black; those that are decoded in less than
    `decodes_s` are decoded. Nothing is downloaded. Raises `DataError`.
    """
    return outline_planned(
        config,
        data_dir,
        skip_unreadable=plan.skip_unreadable,
        absent=plan.absent_data,
        decodes_s=decodes_s,
    )
