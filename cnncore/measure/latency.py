"""Latency of a network: the time of one forward pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cnncore.measure.evaluate import autocast, eval_mode

FEWEST_RUNS = 5
MOST_RUNS = 200
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Latency:
    """Median and 95th percentile of `n` synchronised forward passes."""

    p50_ms: float
    p95_ms: float
    n: int
    batch_size: int

    @property
    def images_per_s(self) -> float:
        """Images per second of the median run."""
        return self.batch_size * 1000.0 / self.p50_ms


def measure_latency(
    model: nn.Module,
    image_size: int,
    *,
    batch_size: int = 1,
    device: torch.device,
    precision: str = "fp32",
    seconds: float = 0.1,
) -> Latency:
    """Time forward passes of `batch_size` images in eval mode, each one synchronised.

    After three runs of warm-up, runs are timed until `seconds` have passed (the warm-up counts)
    or there are 200, but never fewer than five. Images are `channels_last`; the model is expected
    to be on `device`, in the memory format it was trained in. With "bf16" the weights are cast
    in the warm-up, as a server would. Weights, statistics, modes and torch's random state stay
    unchanged.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch_size, 3, image_size, image_size, generator=generator)
    images = images.to(device, memory_format=torch.channels_last)
    times_s: list[float] = []
    with eval_mode(model), torch.inference_mode(), autocast(device, precision):
        start = time.perf_counter()
        for _ in range(WARM_UP_RUNS):
            model(images)
        _synchronise(device)
        while len(times_s) < FEWEST_RUNS or (
            len(times_s) < MOST_RUNS and time.perf_counter() - start < seconds
        ):
            run_start = time.perf_counter()
            model(images)
            _synchronise(device)
            times_s.append(time.perf_counter() - run_start)
    p50, p95 = np.percentile(times_s, (50, 95)) * 1000.0
    return Latency(float(p50), float(p95), len(times_s), batch_size)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
