"""Training images per second of one trial against a tutorial's loop and against a bare loop.

All train the same network on CIFAR-10 at 32x32, batch 128, two threads.

- `ours`: `cnncore.training.train` with random crop and flip; the time of the steps alone, which a
  trial records.
- `tutorial_0`, `tutorial_2`: the loop of PyTorch's "Training a Classifier" with the same
  augmentation by torchvision on PIL images, `DataLoader` with 0 and with 2 workers (kept between
  epochs), weights in the default format, fp32. The better of the two counts.
- `bare`: a loop over normalised batches already in memory, no augmentation, `channels_last`, the
  same precision, and the allocator set as in `ours`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import (
    RESULTS,
    Side,
    environment,
    interleave,
    ratios,
    serve,
    summary,
    write_csv,
)
from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.measure.evaluate import autocast
from cnncore.models import build_model
from cnncore.training.glibc_allocator import keep_freed_memory
from cnncore.training.train import EpochResult, start, train

THREADS = 2
BATCH_SIZE = 128
CPU = torch.device("cpu")
# Network: steps of one measurement, rounds.
PLAN = {"cnn3": (40, 9), "mobilenet_small": (6, 7)}
LIMIT_S = 150
SIDES = (
    ("ours", "fp32"),
    ("ours_again", "fp32"),
    ("bare", "fp32"),
    ("ours", "bf16"),
    ("ours_again", "bf16"),
    ("bare", "bf16"),
    ("tutorial_0", "fp32"),
    ("tutorial_2", "fp32"),
)


def ours(arch: str, precision: str, steps: int) -> Callable[[], float]:
    """Return a measurement of images per second over one epoch of `steps` steps."""
    images = steps * BATCH_SIZE
    data = load_dataset("cifar10", os.environ["CNNGRID_DATA"])
    # Only ten validation images, because evaluation is not measured.
    used = slice(0, images + 10)
    data = replace(data, train_images=data.train_images[used], train_labels=data.train_labels[used])
    config = TrialConfig.model_validate(
        {
            "arch": arch,
            "dataset": "cifar10",
            "optimizer": "sgd",
            "lr": 0.001,
            "epochs": 10**6,
            "augment": ["crop", "flip"],
            "batch_size": BATCH_SIZE,
            "precision": precision,
            "val_fraction": 10 / len(data.train_labels),
            "select": "last",
        }
    )
    splits = open_splits(config, data, CPU)
    assert len(splits.train) == images
    state = start(config, build_model(arch, classes=10, image_size=32), 0, CPU)
    events = train(state, splits, config, boundary_every_s=1e9)

    def measure() -> float:
        result = next(events)
        assert isinstance(result, EpochResult)
        return result.train_images_per_s

    return measure


def tutorial(arch: str, workers: int, steps: int) -> Callable[[], float]:
    """Return a measurement of the loop of PyTorch's tutorial.

    https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html
    """
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )
    whole = CIFAR10(os.environ["CNNGRID_DATA"], train=True, transform=transform)
    loader = DataLoader(
        Subset(whole, range(steps * BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = build_model(arch, classes=10, image_size=32)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def measure() -> float:
        started = perf_counter()
        running_loss = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        return steps * BATCH_SIZE / (perf_counter() - started)

    return measure


def bare(arch: str, precision: str, steps: int) -> Callable[[], float]:
    """Return a measurement of a loop with only forward, backward and update."""
    keep_freed_memory()
    data = load_dataset("cifar10", os.environ["CNNGRID_DATA"])
    images = torch.tensor(data.train_images[: steps * BATCH_SIZE]).permute(0, 3, 1, 2)
    images = (images.float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.train_labels[: steps * BATCH_SIZE])
    starts = range(0, steps * BATCH_SIZE, BATCH_SIZE)
    batches = [(images[i : i + BATCH_SIZE], labels[i : i + BATCH_SIZE]) for i in starts]
    model = build_model(arch, classes=10, image_size=32).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def measure() -> float:
        started = perf_counter()
        for images, labels in batches:
            optimizer.zero_grad()
            with autocast(CPU, precision):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
        return steps * BATCH_SIZE / (perf_counter() - started)

    return measure


def run(arch: str, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Measure all sides of one network; return a row per value and per ratio."""
    with ExitStack() as stack:
        sides = {
            f"{name} {precision}": stack.enter_context(
                Side(
                    "benchmarks.training.bench_training",
                    name,
                    arch,
                    precision,
                    str(steps),
                    threads=THREADS,
                )
            )
            for name, precision in SIDES
        }
        values = interleave(sides, rounds, limit_s=LIMIT_S)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {
        "arch": arch,
        "batch_size": BATCH_SIZE,
        "threads": THREADS,
        "steps": steps,
    }
    for name, precision in SIDES:
        rows.append(
            about
            | {"precision": precision, "what": name, "against": "", "unit": "images_per_s"}
            | summary(values[f"{name} {precision}"])
            | {"goal": ""}
        )
    best = max(("tutorial_0", "tutorial_2"), key=lambda name: sum(values[f"{name} fp32"]))
    for precision, goal in (("fp32", 2), ("bf16", 3)):
        against = {best: ("fp32", goal), "bare": (precision, 0.93), "ours_again": (precision, "")}
        for other, (other_precision, least) in against.items():
            per_round = ratios(values, f"ours {precision}", f"{other} {other_precision}")
            rows.append(
                about
                | {"precision": precision, "what": "ours", "against": other, "unit": "ratio"}
                | summary(per_round)
                | {"goal": least}
            )
    return rows


def main() -> None:
    """Run the benchmark, or serve as one of its sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--side", nargs=4, metavar=("NAME", "ARCH", "PRECISION", "STEPS"))
    arguments = parser.parse_args()
    if arguments.side:
        name, arch, precision, steps = arguments.side
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        if name.startswith("tutorial"):
            serve(tutorial(arch, int(name[-1]), int(steps)))
        else:
            serve((bare if name == "bare" else ours)(arch, precision, int(steps)))
        return
    rows = []
    for arch, (steps, rounds) in PLAN.items():
        rows += run(arch, 2 if arguments.quick else steps, 1 if arguments.quick else rounds)
    path = None if arguments.quick else RESULTS / "training.csv"
    write_csv(path, [row | environment() for row in rows])


if __name__ == "__main__":
    main()
