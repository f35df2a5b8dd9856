"""Every preset plans as a stranger has it; each network of the studies' presets trains."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import cnncore.training.train
import grid.trial.open
from cnncore.catalog import DATASETS
from cnncore.data import DatasetInfo, ImageArrays
from grid.cli.debug import debug_trial
from grid.plan.ids import Trial
from grid.plan.plan import expand_sweep
from grid.sweep.load import load_sweep, read_presets

STUDIES = ("xiong-2022", "hu-realm", "astrokhet-2024", "zeng-alexnet", "simpson-cifar100")
ANALYSES = ("multipliers", "compound-scaling", "transfer", "augmentation", "auxiliary-heads",
            "mobilenet-size", "cross-validation")  # fmt: skip
# Parts of the studies with other settings; zeng-search is tuned, so it has no trial yet.
VARIANTS = ("xiong-cnn3", "xiong-enhancement", "simpson-alexnet", "simpson-wide-resnet",
            "astrokhet-small")  # fmt: skip
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
    return {
        (t.config.arch, t.config.image_size, t.config.quirk, t.config.width == 0.1): t
        for t in trials
    }


@pytest.mark.parametrize("name", sorted(read_presets()))
def test_every_preset_plans_for_a_stranger(name):
    """Neither weights nor data are there."""
    plan = expand_sweep(load_sweep(name), inspect, None, lambda config: ("any", 1_000))
    assert plan.planned > 0


def test_each_quirk_of_a_study_is_in_its_preset_where_it_applies():
    found = {
        (trial.config.quirk, trial.config.arch)
        for name in (*STUDIES, *VARIANTS)
        for trial in expand_sweep(load_sweep(name), inspect).trials
        if trial.config.quirk
    }
    assert found == {
        ("hu-mobilenet-crop", "mobilenet_v2"),
        ("hu-random-test", "resnet18"),
        ("kumar-augmented-eval", "alexnet_kumar"),
        ("simpson-scale", "wrn_20_10"),
    }


PRESETS = sorted(path.stem for path in Path("grid/presets").glob("*.yaml"))


# Of each kind one: no data, pictures, weights, a search.
OF_EACH_KIND = ("astrokhet-2024", "digits", "transfer", "tuned-comparison")


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [pytest.param(p, marks=[] if p in OF_EACH_KIND else pytest.mark.soak) for p in PRESETS],
)
def test_a_preset_plans_without_data_weights_or_network_and_runs_nothing(
    preset, tmp_path, monkeypatch, cnngrid
):
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("a plan neither trains nor downloads")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(cnncore.training.train, "train", refuse)
    monkeypatch.setattr(grid.trial.open, "open_trial", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("grid.api.download_dataset", refuse)
    monkeypatch.setattr("cnncore.data.dataset.download_official", refuse)
    # Measured once for all presets, however busy this machine is.
    monkeypatch.setattr("cnncore.training.speed.machine.busy_share", lambda: 0.0)
    result = cnngrid("plan", preset, "--data", tmp_path / "empty")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    spec = load_sweep(preset)
    datasets = {str(name) for name in spec.compare.get("dataset", [spec.fixed.get("dataset")])}
    for dataset in datasets:  # digits come with scikit-learn
        absent = dataset in ("cifar10", "cifar100")
        assert (f"{dataset} is not here" in result.stdout) == absent
    assert ("put the images there" in result.stdout) == ("flowers" in datasets)
    # Ids of trials depend on files that are not here, those of cells do not.
    unknown = "flowers" in datasets and spec.tune is None
    assert ("  ------------  " in result.stdout) == unknown
    weights = "pretrained" in {*spec.fixed, *spec.compare}
    assert ("its ImageNet weights are not here" in result.stdout) == weights
    assert "to run:" in result.stdout
    # Kinds of trials that another test ran were measured.
    assert re.search(r"time: (from|of \d+ kinds)", result.stdout)
    assert "counted operations" in result.stdout


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("study", [*STUDIES, *ANALYSES, *VARIANTS])
def test_every_network_of_a_study_trains_two_steps(study, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    presets = [*STUDIES, *ANALYSES, *VARIANTS]
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
