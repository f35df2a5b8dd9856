"""The presets of the studies and of their analyses: each plans, each of its networks trains."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cnncore.catalog import DATASETS
from cnncore.data import DatasetInfo, ImageArrays
from grid.cli.debug import debug_trial
from grid.plan.ids import Trial
from grid.plan.plan import expand_sweep
from grid.sweep.load import load_sweep

STUDIES = ("xiong-2022", "hu-realm", "astrokhet-2024", "zeng-alexnet", "simpson-cifar100")
ANALYSES = ("multipliers", "compound-scaling", "transfer", "augmentation", "auxiliary-heads",
            "mobilenet-size", "cross-validation")  # fmt: skip
CLASSES = 5


def few_images() -> ImageArrays:
    """Noise in the shape of a small data set."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8 * CLASSES, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(8 * CLASSES, dtype=np.int64) % CLASSES
    names = tuple(f"class {n}" for n in range(CLASSES))
    return ImageArrays(images, labels, names, images[: 2 * CLASSES], labels[: 2 * CLASSES])


def inspect(name: str, image_size: int | None) -> DatasetInfo:
    """Return the catalog's facts of a data set; its files need not exist."""
    source = DATASETS[name]
    return DatasetInfo(name, None, source.classes, image_size or source.image_size, "0" * 16)


@cache
def networks(study: str) -> dict[tuple[object, ...], Trial]:
    """Return a trial for each network of a study, by the settings that define the network."""
    trials = expand_sweep(load_sweep(study), inspect).trials
    return {(t.config.arch, t.config.image_size, t.config.quirk): t for t in trials}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("study", [*STUDIES, *ANALYSES])
def test_every_network_of_a_study_trains_two_steps(study, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    presets = [*STUDIES, *ANALYSES]
    earlier = {key for name in presets[: presets.index(study)] for key in networks(name)}
    for trial in (trial for key, trial in networks(study).items() if key not in earlier):
        small = trial.config.model_copy(
            update={
                "dataset": "test_presets:few_images",
                "data_fingerprint": None,
                "labels": None,
                "pretrained": None,
                "batch_size": 2,
            }
        )
        lines = list(
            debug_trial(
                replace(trial, config=small),
                2,
                data_dir=tmp_path,
                threads=1,
                device="cpu",
                skip_unreadable=False,
            )
        )
        assert lines[-1] == "epoch 1 step 2", trial.config
