"""A small results folder as a sweep leaves it, with every kind of trial in it."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis import open_results
from grid.store.records import to_table

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ARCHS = {"cnn3": (0.93, 122_570, 1_600_000), "resnet18": (0.96, 11_181_642, 37_000_000)}
OTHER_ARCHS = {"mobilenet_small": (0.88, 14_378, 310_000)}
EPOCHS = 4
CLASSES = 10
IMAGES = 60


def digest(*parts: Any) -> str:
    """Return a stand-in for an id: equal parts give the same 12 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def write(folder: Path, table: str, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a file of a table."""
    path = folder / table / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(table, rows), path)
    return path


class Sweep:
    """Builder of the rows of a sweep, trial by trial, as `grid` would store them."""

    def __init__(self, folder: Path, name: str = "tiny") -> None:
        self.folder = folder
        self.name = name
        self.plan: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.yaml").write_text(f"sweep: {name}\ncompare:\n  arch: [cnn3]\n")

    def planned(self, axes: dict[str, Any], seed: int, **columns: Any) -> dict[str, Any]:
        """Plan a trial of a cell; return its row of the plan."""
        config = {
            "dataset": "digits",
            "optimizer": "sgd",
            "lr": 0.01,
            "epochs": EPOCHS,
            "batch_size": 64,
            "select": "best",
            "image_size": 32,
            **axes,
        }
        row = {
            "sweep": self.name,
            "cell_id": digest("cell", axes),
            "cell": json.dumps(axes),
            "config_id": digest(config),
            "trial_id": digest(config, seed),
            "role": "searched",
            "position": len(self.plan),
            "seed": seed,
            "epochs": EPOCHS,
            "config": json.dumps(config),
            **columns,
        }
        self.plan.append(row)
        return row

    def write(self, table: str, name: str, rows: list[dict[str, Any]]) -> Path:
        """Write rows as a file of a table."""
        return write(self.folder, table, name, rows)

    def write_plan(self, version: str = "plan1", minutes: int = 0) -> None:
        """Write the current plan as one version of it."""
        stamp = {"plan_id": version, "written_at": START + timedelta(minutes=minutes)}
        write(self.folder, "plan", version, [{**row, **stamp} for row in self.plan])

    def trial(self, planned: dict[str, Any], **columns: Any) -> dict[str, Any]:
        """Return the row of a planned trial that completed; `columns` replace values of it."""
        config = json.loads(planned["config"])
        top1, params, macs = (ARCHS | OTHER_ARCHS).get(config["arch"], (0.9, 1_000, 10_000))
        noise = int(planned["trial_id"], 16) % 1000 / 50_000
        val = top1 - noise - (0.02 if config.get("optimizer") == "adam" else 0.0)
        position = planned["position"]
        return {
            **{
                key: config.get(key)
                for key in ("arch", "dataset", "optimizer", "lr", "batch_size", "image_size")
            },
            **{key: planned[key] for key in ("trial_id", "config_id", "sweep", "seed", "config")},
            "role": "searched",
            "state": "complete",
            "attempts": 1,
            "momentum": 0.9 if config.get("optimizer") == "sgd" else None,
            "weight_decay": 0.0,
            "precision": "fp32",
            "epochs": EPOCHS,
            "epochs_run": EPOCHS,
            "best_epoch": EPOCHS - 1,
            "train_top1": val + 0.02,
            "train_loss": 0.1,
            "val_top1": val,
            "val_top5": 0.99,
            "val_loss": 1 - val,
            "test_top1": val - 0.01,
            "test_top5": 0.99,
            "test_loss": 1.02 - val,
            "test_macro_precision": val - 0.02,
            "test_macro_recall": val - 0.02,
            "test_macro_f1": val - 0.02,
            "test_macro_auc": 0.99,
            "test_ece": 0.03 + noise,
            "trainable_params": params,
            "non_trainable_params": 0,
            "macs": macs,
            "activations": macs // 100,
            "train_time_s": macs / 1e6 * EPOCHS,
            "epoch_time_s": macs / 1e6 * (1 + noise),
            "wall_time_s": macs / 1e6 * EPOCHS + 1,
            "threads": 1,
            "train_images_per_s": 1.3e9 / macs,
            "latency_ms_p50": 0.5 + macs / 1e7 * (1 + noise),
            "latency_ms_p95": 0.9 + macs / 1e7,
            "batch16_latency_ms": 4 + macs / 1e6,
            "peak_memory_mib": 400.0,
            "checkpoint_mib": params * 4 / 2**20,
            "host": "node1",
            "device": "cpu",
            "git_commit": "0123abc",
            "versions": json.dumps({"python": "3.11.7", "torch": "2.15.0"}),
            "data_fingerprint": "fedcba987654",
            "started_at": START + timedelta(minutes=position),
            "ended_at": START + timedelta(minutes=position, seconds=50),
            **columns,
        }

    def store(self, row: dict[str, Any], *, epochs: int = EPOCHS) -> None:
        """Write a trial's files: the row, its epochs and, if complete, classes and predictions."""
        trial_id = row["trial_id"]
        write(self.folder, "trials", trial_id, [row])
        self.store_epochs(row, epochs)
        if row["state"] == "complete":
            write(self.folder, "classes", trial_id, class_rows(row))
            write(self.folder, "predictions", trial_id, prediction_rows(row))

    def explain(self, row: dict[str, Any]) -> None:
        """Write the effect of enhancing a trial's images, as `cnngrid explain` would."""
        write(self.folder, "enhancement", row["trial_id"], enhancement_rows(row))

    def store_epochs(self, row: dict[str, Any], epochs: int) -> None:
        """Write a trial's epochs alone, as while it runs."""
        write(self.folder, "epochs", row["trial_id"], self.epoch_rows(row, epochs))

    def epoch_rows(self, row: dict[str, Any], epochs: int) -> list[dict[str, Any]]:
        """Return the rows of a trial's epochs."""
        top = row.get("val_top1") or 0.5
        return [
            {
                "trial_id": row["trial_id"],
                "epoch": epoch,
                "attempt": 1,
                "lr": row["lr"],
                "train_loss": math.exp(-epoch / 2),
                "val_loss": math.exp(-epoch / 3),
                "train_top1": top * (1 - math.exp(-epoch)),
                "val_top1": top * (1 - math.exp(-epoch)),
                "train_time_s": 1.0,
                "eval_time_s": 0.1,
                "train_images_per_s": 1000.0,
                "ended_at": row["started_at"] + timedelta(seconds=epoch),
            }
            for epoch in range(1, epochs + 1)
        ]


def enhancement_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return chosen enhancements of a trial's test images, the later the better."""
    return [
        {
            "trial_id": row["trial_id"],
            "split": "test",
            "transform": name,
            "contrast": 1.25,
            "chosen": True,
            "images": IMAGES,
            "wrong_before": 8,
            "repaired": 2 + index,
            "broken": 1,
            "net_change": 1 + index,
            "top1_before": 1 - 8 / IMAGES,
            "top1_after": 1 - (7 - index) / IMAGES,
            "repaired_share": (2 + index) / 8,
            "l2_norm": 500.0,
            "random_repaired": 1,
            "random_broken": 2,
            "random_net_change": -1,
            "random_top1_after": 1 - 9 / IMAGES,
            "random_l2_norm": 500.0,
            "made_at": START,
        }
        for index, name in enumerate(("brightness", "contrast", "sharpness", "combined"))
    ]


def class_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return per-class numbers of a trial, over val and test."""
    return [
        {
            "trial_id": row["trial_id"],
            "split": split,
            "class_index": index,
            "class_name": f"digit {index}",
            "support": IMAGES // CLASSES,
            "precision": row["val_top1"] - index / 100,
            "recall": row["val_top1"] - index / 50,
            "f1": row["val_top1"] - index / 70,
            "auc": 0.99,
        }
        for split in ("val", "test")
        for index in range(CLASSES)
    ]


def prediction_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return predictions of a trial: about one image in ten gets the next class."""
    wrong = np.random.default_rng(int(row["trial_id"], 16)).random(IMAGES) < 0.1
    return [
        {
            "trial_id": row["trial_id"],
            "split": "test",
            "index": index,
            "label": index % CLASSES,
            "predicted": (index + int(wrong[index])) % CLASSES,
            "confidence": 0.9,
        }
        for index in range(IMAGES)
    ]


def build_sweep(folder: Path) -> Sweep:
    """Build three networks x two optimizers x two learning rates x two seeds, with failures."""
    sweep = Sweep(folder)
    old = Sweep(folder)
    old_only = old.planned({"arch": "cnn3", "optimizer": "sgd", "lr": 1.0}, seed=0)
    archs, optimizers, lrs = [*ARCHS, *OTHER_ARCHS], ["sgd", "adam"], [0.01, 0.1]
    for arch, optimizer, lr in itertools.product(archs, optimizers, lrs):
        axes = {"arch": arch, "optimizer": optimizer, "lr": lr}
        for seed in (0, 1):
            sweep.planned(axes, seed)
    for suggestion, seed in itertools.product(range(2), (0, 1)):  # the tuned cell
        sweep.planned(
            {"arch": "cnn3", "optimizer": "adamw"},
            seed,
            suggestion=suggestion,
            trial_id=None,
            config_id=None,
            config=None,
        )
    old.write_plan("plan0")
    sweep.write_plan("plan1", minutes=1)
    sweep.store(sweep.trial(old_only))
    spoilt: dict[int, dict[str, Any]] = {
        8: {"state": "failed", "reason": "RuntimeError: out of memory", "val_top1": None},
        12: {"state": "diverged", "reason": "loss is NaN at epoch 2", "val_top1": math.nan},
        20: {"state": "pruned", "reason": "stopped at rung 2"},
    }
    for planned in sweep.plan[:24]:
        row = sweep.trial(planned)
        if planned["position"] == 23:
            continue  # missing
        if columns := spoilt.get(planned["position"]):
            tests = {key: None for key in row if key.startswith("test_")}
            sweep.store({**row, **tests, **columns}, epochs=2)
        else:
            sweep.store(row)
        if planned["position"] in (0, 1, 4):
            sweep.explain(row)
    ask_suggestion(sweep)
    return sweep


def ask_suggestion(sweep: Sweep) -> None:
    """Ask the first suggestion of the tuned cell; its first seed is complete, the second runs."""
    axes = {"arch": "cnn3", "optimizer": "adamw"}
    cell_id = digest("cell", axes)
    config = {"dataset": "digits", **axes, "lr": 0.003, "epochs": EPOCHS, "select": "best"}
    trial_ids = [digest(config, seed) for seed in (0, 1)]
    suggestion_row = {
        "cell_id": cell_id,
        "suggestion": 0,
        "config_id": digest(config),
        "config": json.dumps(config),
        "params": json.dumps({"lr": 0.003}),
        "role": "searched",
        "trial_ids": trial_ids,
        "told_order": [],
        "asked_at": START,
    }
    write(sweep.folder, "asked", f"{cell_id}-0", [suggestion_row])
    first, second = (
        {
            **row,
            "trial_id": trial_id,
            "config_id": suggestion_row["config_id"],
            "config": suggestion_row["config"],
        }
        for row, trial_id in zip(sweep.plan[24:26], trial_ids, strict=True)
    )
    sweep.store({**sweep.trial(first), "image_size": 32})
    sweep.store_epochs(sweep.trial(second), 2)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Sweep that most tests read."""
    return build_sweep(tmp_path_factory.mktemp("results") / "tiny")


@pytest.fixture(scope="session")
def tiny(built: Sweep) -> Path:
    """Its results folder, for tests that only read."""
    return built.folder


@pytest.fixture(scope="session")
def opened(tiny: Path) -> Any:
    """A connection to that folder, for tests that only ask."""
    return open_results(tiny)


@pytest.fixture(scope="session")
def of_a_paper(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A connection to a cell that repeats a run whose confusion matrix a paper prints."""
    sweep = Sweep(tmp_path_factory.mktemp("paper") / "zeng-alexnet", "zeng-alexnet")
    planned = sweep.planned({"arch": "alexnet_cifar"}, 0)
    row = sweep.trial(planned, dataset="cifar10")
    sweep.write_plan()
    sweep.store(row)
    names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    named = [
        {"trial_id": row["trial_id"], "split": "test", "class_index": index, "class_name": name}
        for index, name in enumerate(names)
    ]
    sweep.write("classes", row["trial_id"], named)
    return open_results(sweep.folder)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A connection to a folder with a tuned cell: five suggestions and a confirmed winner."""
    sweep = Sweep(tmp_path_factory.mktemp("search") / "searched", "searched")
    axes = {"arch": "cnn3"}
    for lr, decay, augment, state, values in (
        (0.001, 1e-3, ["flip"], "complete", [0.80]),
        (0.01, 1e-4, ["flip"], "pruned", [0.70]),
        (0.1, 1e-5, None, "complete", [0.89, 0.91]),
        (1.0, 1e-6, None, "diverged", [math.nan]),
        (0.05, 1e-6, None, "failed", [0.95]),
        (0.1, 1e-5, None, "complete", [0.5]),
    ):
        config = {**axes, "lr": lr, "weight_decay": decay, "augment": augment, "epochs": EPOCHS}
        confirmed = values == [0.5]
        for seed, value in enumerate(values, 1_000_000 if confirmed else 0):
            planned = sweep.planned(
                axes,
                seed,
                role="confirmed" if confirmed else "searched",
                config=json.dumps(config),
                config_id=digest(config),
                trial_id=digest(config, seed),
            )
            columns = {"lr": lr, "state": state, "val_top1": value, "test_top1": value}
            write(sweep.folder, "trials", planned["trial_id"], [sweep.trial(planned, **columns)])
    sweep.write_plan()
    return open_results(sweep.folder)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A connection to a folder whose sweep has the objective `val_loss` and two metrics.

    A cell has three configs: `lucky` has the best accuracy, `good` the lowest loss, and of `lost`
    one of two seeds has no loss. Another cell goes by macro-F1, in which `rare` is better, a
    third by accuracy.
    """
    sweep = Sweep(tmp_path_factory.mktemp("measured") / "measured", "measured")
    for arch, objective, name, seed, top1, value in (
        ("cnn3", "val_loss", "lucky", 0, 0.95, 0.9),
        ("cnn3", "val_loss", "lucky", 1, 0.95, 0.8),
        ("cnn3", "val_loss", "good", 0, 0.90, 0.5),
        ("cnn3", "val_loss", "good", 1, 0.90, 0.6),
        ("cnn3", "val_loss", "lost", 0, 0.92, 0.1),
        ("cnn3", "val_loss", "lost", 1, 0.92, math.nan),
        ("resnet18", "val_macro_f1", "frequent", 0, 0.95, 0.3),
        ("resnet18", "val_macro_f1", "rare", 0, 0.90, 0.7),
        ("mobilenet_small", None, "low", 0, 0.80, None),
        ("mobilenet_small", None, "high", 0, 0.85, None),
    ):
        axes = {"arch": arch}
        config = {**axes, "dataset": "digits", "lr": 0.1, "labels": name}
        config |= {"objective": objective} if objective else {}
        planned = sweep.planned(
            axes,
            seed,
            config=json.dumps(config),
            config_id=digest(config),
            trial_id=digest(config, seed),
        )
        columns = {"val_top1": top1, "test_top1": top1, "labels": name, "objective": value}
        row = sweep.trial(planned, **columns)
        sweep.store(row)
        sweep.write("metrics", row["trial_id"], metric_rows(row))
    sweep.write_plan()
    return open_results(sweep.folder)


def metric_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a metric of the user's and macro-F1, by epoch and of test; one value is missing."""
    places = [*(("val", epoch) for epoch in range(1, EPOCHS + 1)), ("test", row["best_epoch"])]
    return [
        {
            "trial_id": row["trial_id"],
            "split": split,
            "epoch": epoch,
            "name": name,
            "value": math.nan if (lost := name != "macro_f1" and epoch == 1) else row["val_top1"],
            "reason": "ValueError: made up" if lost else None,
        }
        for split, epoch in places
        for name in ("macro_f1", "mine:cost")
    ]


@pytest.fixture
def blank(tmp_path: Path) -> Callable[..., Sweep]:
    """Function that starts a results folder without trials."""
    return lambda name="blank": Sweep(tmp_path / name, name)


@pytest.fixture
def fresh(built: Sweep, tmp_path: Path) -> Callable[[], Sweep]:
    """Function that copies that sweep and its folder, for a test that changes them."""

    def copied() -> Sweep:
        sweep = copy.deepcopy(built)
        sweep.folder = Path(shutil.copytree(built.folder, tmp_path / "tiny"))
        return sweep

    return copied
