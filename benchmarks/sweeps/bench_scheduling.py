"""Sixteen short trials on two slots: `cnngrid run` against Ray Tune as its documentation shows.

Each trial trains `cnn3` for one epoch on 5,760 CIFAR-10 images with crop and flip, validates on
5,000 and tests on 10,000, one thread each. The time is that of the whole command, Ray's start
included.

- `ours`: also measures latency and per-class scores, stores everything and writes the report.
- `documented`: a function trainable that creates torchvision data sets and a DataLoader, trains,
  validates, tests and reports; new actors, Tune's defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import RESULTS, environment, interleave, ratios, summary, write_csv

TRIALS = 16
TRAIN_IMAGES = 5_760
BATCH_SIZE = 128
SLOTS = 2
RATES = [0.01 * 1.1**n for n in range(TRIALS)]


def ours() -> float:
    """Return the seconds of the whole command."""
    sweep = {
        "sweep": "sixteen",
        "compare": {"lr": RATES},
        "fixed": {
            "arch": "cnn3",
            "dataset": "cifar10",
            "optimizer": "sgd",
            "epochs": 1,
            "batch_size": BATCH_SIZE,
            "limit_train": TRAIN_IMAGES,
            "augment": ["crop", "flip"],
        },
        "seeds": [0],
        "resources": {"cpus": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(json.dumps(sweep))
        return _time("-m", "grid.cli", "run", str(path), "--slots", str(SLOTS),
                     "--results", f"{folder}/results")  # fmt: skip


def documented() -> float:
    """Return the seconds of the documented way, also in a process of its own."""
    return _time("-m", "benchmarks.sweeps.bench_scheduling", "--documented")


def _time(*arguments: str) -> float:
    started = perf_counter()
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds = perf_counter() - started
    if result.returncode != 0:
        raise RuntimeError(result.stderr[-2000:])
    return seconds


def run_documented() -> None:
    """Run Tune with a function trainable, as its documentation shows for PyTorch."""
    import ray
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=SLOTS, include_dashboard=False)
        tuner = tune.Tuner(
            tune.with_resources(_trainable, {"cpu": 1}),
            param_space={"lr": tune.grid_search(RATES), "data": os.environ["CNNGRID_DATA"]},
            tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
            run_config=tune.RunConfig(storage_path=folder),
        )
        results = tuner.fit()
        assert len(results) == TRIALS
        assert not results.num_errors


def _trainable(config: dict[str, Any]) -> None:
    import torch
    from ray import tune
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    from cnncore.models import build_model

    normalize = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    augment = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            normalize,
        ]
    )
    plain = transforms.Compose([transforms.ToTensor(), normalize])
    order = torch.randperm(50_000, generator=torch.Generator().manual_seed(0)).tolist()
    train = Subset(datasets.CIFAR10(config["data"], transform=augment), order[:TRAIN_IMAGES])
    val = Subset(datasets.CIFAR10(config["data"], transform=plain), order[-5_000:])
    model = build_model("cnn3", classes=10, image_size=32)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    for images, labels in DataLoader(train, batch_size=BATCH_SIZE, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
    test = datasets.CIFAR10(config["data"], train=False, transform=plain)
    model.eval()
    shares = []
    with torch.no_grad():
        for split in (val, test):
            correct = 0
            for images, labels in DataLoader(split, batch_size=BATCH_SIZE):
                correct += int((model(images).argmax(1) == labels).sum())
            shares.append(correct / len(split))
    tune.report({"accuracy": shares[0], "test_accuracy": shares[1]})


def main() -> None:
    """Measure both sides in turn and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--documented", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.documented:
        run_documented()
        return
    sides: dict[str, Callable[[], float]] = {"ours": ours, "documented": documented}
    values = interleave(sides, rounds=1 if arguments.quick else 3, warm_up=0)
    machine = environment(("torch", "torchvision", "ray"))
    common = {"trials": TRIALS, "train_images": TRAIN_IMAGES, "slots": SLOTS, "threads": 1}
    rows = [
        {"what": name, "unit": "s", **common, **summary(seconds), **machine}
        for name, seconds in values.items()
    ]
    ratio = summary(ratios(values, "documented", "ours"))
    rows.append({"what": "documented / ours", "unit": "ratio", **common, **ratio, **machine})
    write_csv(None if arguments.quick else RESULTS / "scheduling.csv", rows)


if __name__ == "__main__":
    main()
