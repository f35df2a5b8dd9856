"""Images per second and core of `trivial_augment`: whole batches against torchvision one by one.

Each side changes the same random uint8 images on one thread, in batches of 128 at 32 pixels and of
32 at 224; photographs would change nothing, as no operation but `equalize` depends on values.

- `ours`: `Stages`, with the draws of the epoch and a copy of the images, which it overwrites.
- `tensor`: torchvision's `TrivialAugmentWide` (version 2) on uint8 tensors, one by one.
- `pillow`: the same on images of Pillow, which torchvision's recipes use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import numpy as np
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
from cnncore.config import TrivialAugment
from cnncore.data.augment.stages import Stages, apply
from cnncore.training.glibc_allocator import keep_freed_memory

ROUNDS = 7
SIDES = ("ours", "tensor", "pillow", "ours_again")
# Batch size and images of one measurement of ours and of theirs, which take about a second.
SIZES = {32: (128, 38_400, 6_400), 224: (32, 1_280, 960)}
GOALS = {(32, "tensor"): 5, (32, "pillow"): 5}


def ours(side: int, batch_size: int, count: int) -> Callable[[], float]:
    """Return a measurement of images per second over an epoch of `count` images."""
    keep_freed_memory()
    images = random_images(batch_size, side)
    device, epoch = torch.device("cpu"), 0
    pixels = torch.empty_like(images)

    def measure() -> float:
        nonlocal epoch
        epoch += 1
        started = perf_counter()
        stages = Stages(
            *((TrivialAugment(),), count, side, 0, epoch, device),
            batch_size=batch_size,
            mean=(0, 0, 0),
        )
        for start in range(0, count, batch_size):
            pixels.copy_(images)
            apply(stages.colours, pixels, start)
        return count / (perf_counter() - started)

    return measure


def theirs(side: int, count: int, *, pillow: bool) -> Callable[[], float]:
    """Return a measurement of images per second with torchvision's transform."""
    from PIL import Image
    from torchvision.transforms.v2 import TrivialAugmentWide

    transform = TrivialAugmentWide()
    tensors = random_images(64, side).permute(0, 3, 1, 2).contiguous()
    images: list[Any] = list(tensors)
    if pillow:
        images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in tensors]

    def measure() -> float:
        started = perf_counter()
        for number in range(count):
            transform(images[number % len(images)])
        return count / (perf_counter() - started)

    return measure


def random_images(count: int, side: int) -> torch.Tensor:
    """Return random images, uint8 `(count, side, side, 3)`."""
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def main() -> None:
    """Run the benchmark, or serve as one of its sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, printed only")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--pixels", type=int, default=32, choices=SIZES)
    arguments = parser.parse_args()
    if arguments.side:
        torch.set_num_threads(1)
        pixels = arguments.pixels
        batch_size, our_count, their_count = SIZES[pixels]
        if arguments.side.startswith("ours"):
            serve(ours(pixels, batch_size, our_count))
        else:
            serve(theirs(pixels, their_count, pillow=arguments.side == "pillow"))
        return
    rows: list[dict[str, Any]] = []
    for pixels, (batch_size, *_) in SIZES.items():
        with ExitStack() as stack:
            sides = {
                name: stack.enter_context(
                    Side(
                        *("benchmarks.training.bench_augment", name, "--pixels", str(pixels)),
                        threads=1,
                    )
                )
                for name in SIDES
            }
            values = interleave(sides, 1 if arguments.quick else ROUNDS)
        about: dict[str, Any] = {"pixels": pixels, "batch_size": batch_size, "threads": 1}
        for name in SIDES:
            row = about | {"what": name, "against": "", "unit": "images_per_s"}
            rows.append(row | summary(values[name]) | {"goal": ""})
        for other in SIDES[1:]:
            row = about | {"what": "ours", "against": other, "unit": "ratio"}
            per_round = summary(ratios(values, "ours", other))
            rows.append(row | per_round | {"goal": GOALS.get((pixels, other), "")})
    path = None if arguments.quick else RESULTS / "augment.csv"
    write_csv(path, [row | environment() for row in rows])


if __name__ == "__main__":
    main()
