"""Images per second and core of crop, flip and normalisation: whole batches against single images.

Both give float32 batches of 128 CIFAR-10 images on one thread.

- `ours`: the training split's batches.
- `torchvision`: `RandomCrop`, `RandomHorizontalFlip`, `ToTensor` and `Normalize` (version 1) on
  PIL images in a `DataLoader` in this process.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import torch

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
from cnncore.training.glibc_allocator import keep_freed_memory

BATCH_SIZE = 128
ROUNDS = 9
# Images of one measurement, which takes about a second.
IMAGES = {"ours": 225_000, "ours_again": 225_000, "torchvision": 12_800}


def ours() -> Callable[[], float]:
    """Return a measurement of images per second over whole epochs of 45,000 images."""
    keep_freed_memory()
    config = TrialConfig.model_validate(
        {
            "arch": "cnn3",
            "dataset": "cifar10",
            "optimizer": "sgd",
            "lr": 0.1,
            "epochs": 1,
            "augment": ["crop", "flip"],
            "batch_size": BATCH_SIZE,
        }
    )
    data = load_dataset("cifar10", os.environ["CNNGRID_DATA"])
    split = open_splits(config, data, torch.device("cpu")).train

    def measure() -> float:
        started = perf_counter()
        images = 0
        for epoch in range(IMAGES["ours"] // len(split)):
            images += sum(len(batch) for batch, _ in split.batches(0, epoch))
        return images / (perf_counter() - started)

    return measure


def torchvision() -> Callable[[], float]:
    """Return a measurement of images per second with torchvision's transforms."""
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
    loader = DataLoader(Subset(whole, range(IMAGES["torchvision"])), BATCH_SIZE, shuffle=True)

    def measure() -> float:
        started = perf_counter()
        images = sum(len(batch) for batch, _ in loader)
        return images / (perf_counter() - started)

    return measure


def main() -> None:
    """Run the benchmark, or serve as one of its sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, printed only")
    parser.add_argument("--side", choices=IMAGES)
    arguments = parser.parse_args()
    if arguments.side:
        torch.set_num_threads(1)
        serve(torchvision() if arguments.side == "torchvision" else ours())
        return
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(
                Side("benchmarks.training.bench_augmentation", name, threads=1)
            )
            for name in IMAGES
        }
        values = interleave(sides, 1 if arguments.quick else ROUNDS)
    about: dict[str, Any] = {"batch_size": BATCH_SIZE, "threads": 1}
    rows: list[dict[str, Any]] = [
        about
        | {"what": name, "against": "", "unit": "images_per_s"}
        | summary(values[name])
        | {"goal": ""}
        for name in IMAGES
    ]
    for other, goal in (("torchvision", 8), ("ours_again", "")):
        per_round = summary(ratios(values, "ours", other))
        rows.append(
            about | {"what": "ours", "against": other, "unit": "ratio"} | per_round | {"goal": goal}
        )
    path = None if arguments.quick else RESULTS / "augmentation.csv"
    write_csv(path, [row | environment() for row in rows])


if __name__ == "__main__":
    main()
