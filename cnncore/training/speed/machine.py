"""Speed of this machine: a few operations of training, timed for about half a second in all.

`grid/cost/times/speed.py` computes the seconds of a network from them. Each time is the least of a
few runs, on a CPU of the time that this process computed, so that other work on the machine
disturbs it little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Barrier, Thread
from time import perf_counter, process_time

import torch
from torch import Tensor, nn

from cnncore.measure.evaluate import autocast
from cnncore.processors import machine_cpus
from cnncore.training.glibc_allocator import keep_freed_memory

MIB = 2**20
# Sizes of a pass over memory, in bytes: two in the caches of most processors, one beyond.
SIZES = (MIB, 8 * MIB, 64 * MIB)
# Seconds for which an operation is repeated, and the fewest runs.
REPEAT_S, FEWEST_RUNS = 0.008, 3
# Operations of a chain whose tensors are so small that only their overhead counts.
CHAIN = 50


@dataclass(frozen=True)
class MachineSpeed:
    """Seconds that operations take on one device with one number of threads and one precision.

    `forward` and `backward` are by kind (`cnncore.measure.network_operations.Kind`): seconds for
    one multiply-accumulate, the passes over memory left out, or for one byte of fp32 read or
    written for "pass" and "heavy" (at 1 MiB; the backward pass counts the same bytes). `passes` are
    the seconds for a byte at larger sizes, relative to that of 1 MiB. `overhead` is what an
    operation takes with next to no images, forward and backward, by kind. `together` is
    the slowdown of the kinds "convolution" and "pass" where `beside` trials run at a time. `busy`
    is the share of the processors that others used meanwhile.
    """

    forward: Mapping[str, float]
    backward: Mapping[str, float]
    passes: Mapping[int, float]
    overhead: Mapping[str, tuple[float, float]]
    beside: int
    together: Mapping[str, float]
    busy: float


def measure_speed(device: torch.device, precision: str, beside: int = 1) -> MachineSpeed:
    """Time the operations with the threads that PyTorch has in this process.

    `beside` trials at a time share the machine; each of them is a thread here.
    """
    if device.type == "cpu":
        keep_freed_memory()  # as a trial does
    others: list[float] = []
    times = _Times(device, precision, others)
    with torch.random.fork_rng(devices=[]):
        chain_s = times.chain()
        passes = {size: times.layer(nn.ReLU(), _images(64, size, device)) for size in SIZES}
        norm = nn.BatchNorm2d(64).to(device)
        byte = passes[SIZES[0]].per(2 * SIZES[0])
        heavy = times.layer(norm, _images(64, SIZES[0], device))
        kinds = {"pass": byte, "heavy": heavy.per(2 * SIZES[0])}
        overhead = {
            "pass": _Pair(chain_s / 2, chain_s / 2),
            "heavy": times.layer(norm, _images(64, 0, device)),
        }
        for name, (layer, images, macs) in _products(device).items():
            moved = layer(images).numel() * 4 + images.numel() * 4
            overhead[name] = times.layer(layer, _few(images))
            pair = times.layer(layer, images).without(byte, moved)
            # Backward there are two products: for the input and for the weights.
            kinds[name] = _Pair(pair.forward / macs, pair.backward / (2 * macs))
        together = times.together(beside) if beside > 1 and device.type == "cpu" else {}
    return MachineSpeed(
        forward={name: pair.forward for name, pair in kinds.items()},
        backward={name: pair.backward for name, pair in kinds.items()},
        passes={
            size: max(1.0, pair.per(2 * size).both / byte.both) for size, pair in passes.items()
        },
        overhead={name: (pair.forward, pair.backward) for name, pair in overhead.items()},
        beside=beside,
        together=together,
        busy=fmean(others) if others else 0.0,
    )


def _products(device: torch.device) -> dict[str, tuple[nn.Module, Tensor, int]]:
    """Return for each kind of product a layer of a usual shape, its input and its MACs."""

    def convolution(
        channels: int, side: int, groups: int, images: int
    ) -> tuple[nn.Module, Tensor, int]:
        layer = nn.Conv2d(channels, channels, side, padding=side // 2, groups=groups, bias=False)
        macs = images * 16 * 16 * channels * (channels // groups) * side * side
        return (
            layer.to(device).to(memory_format=torch.channels_last),
            _images(channels, images * channels * 16 * 16 * 4, device),
            macs,
        )

    linear = nn.Linear(512, 512, bias=False, device=device)
    return {
        "convolution": convolution(64, 3, 1, 16),
        "depthwise": convolution(64, 3, 64, 16),
        "depthwise_large": convolution(64, 5, 64, 8),
        "product": (linear, torch.randn(128, 512, device=device), 128 * 512 * 512),
    }


def _images(channels: int, size: int, device: torch.device) -> Tensor:
    """Return images of 16 x 16 pixels, `channels_last`, of `size` bytes; two tiny ones for 0."""
    count, side = (size // (channels * 16 * 16 * 4), 16) if size else (2, 2)
    images = torch.randn(count, channels, side, side, device=device)
    return images.to(memory_format=torch.channels_last)


def _few(images: Tensor) -> Tensor:
    """Return next to nothing of a layer's input: two rows, or two images of 2 x 2 pixels."""
    few = images[:2] if images.dim() == 2 else images[:2, :, :2, :2]
    return few.contiguous(
        memory_format=torch.contiguous_format if images.dim() == 2 else torch.channels_last
    )


@dataclass(frozen=True)
class _Pair:
    """Seconds of a forward and of a backward pass."""

    forward: float
    backward: float

    @property
    def both(self) -> float:
        return self.forward + self.backward

    def per(self, count: float) -> _Pair:
        return _Pair(self.forward / count, self.backward / count)

    def without(self, byte: _Pair, moved: float) -> _Pair:
        """Leave out the passes over memory, which count apart, but never more than half."""
        return _Pair(
            max(self.forward - byte.forward * moved, self.forward / 2),
            max(self.backward - byte.backward * moved, self.backward / 2),
        )


class _Times:
    """Times operations; notes before each how busy others keep the machine."""

    def __init__(self, device: torch.device, precision: str, others: list[float]) -> None:
        self._device, self._precision, self._others = device, precision, others

    def layer(self, layer: nn.Module, images: Tensor) -> _Pair:
        """Return the seconds of a layer's passes; the backward pass includes the weights.

        In reduced precision the images come so from the layer before.
        """
        images = images.detach().to(torch.bfloat16 if self._precision == "bf16" else images.dtype)
        images.requires_grad_()

        def forward() -> None:
            with torch.no_grad(), autocast(self._device, self._precision):
                layer(images)

        with autocast(self._device, self._precision):
            output = layer(images)
        gradient = torch.ones_like(output)
        weights = list(layer.parameters())

        def both() -> None:
            images.grad = None
            for weight in weights:
                weight.grad = None
            with autocast(self._device, self._precision):
                result = layer(images)
            result.backward(gradient)

        forward_s = self.least(forward)
        return _Pair(forward_s, max(self.least(both) - forward_s, forward_s / 2))

    def chain(self) -> float:
        """Return the overhead of one operation with its backward pass."""
        start = torch.ones(8, 8, device=self._device, requires_grad=True)

        def run() -> None:
            value = start
            for _ in range(CHAIN):
                value = value.relu()
            value.sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here

        return self.least(run) / CHAIN

    def least(self, run: Callable[[], None], fewest: int = FEWEST_RUNS) -> float:
        """Return the least seconds of some runs, after one of warm-up."""
        self._others.append(busy_share())
        run()
        seconds: list[float] = []
        while len(seconds) < fewest or sum(seconds) < REPEAT_S:
            started = computed_s(self._device)
            run()
            seconds.append(computed_s(self._device) - started)
        return min(seconds)

    def together(self, count: int) -> dict[str, float]:
        """Return the slowdown of two kinds if `count` threads do the same at a time."""
        convolution = _products(self._device)["convolution"][0]
        return {
            "convolution": self._slowdown(convolution, MIB, count),
            "pass": self._slowdown(nn.ReLU(), 8 * MIB, count),
        }

    def _slowdown(self, layer: nn.Module, size: int, count: int) -> float:
        """Return how much longer each of `count` threads takes than one alone."""
        threads = torch.get_num_threads()
        inputs = [_images(64, size, self._device) for _ in range(count)]
        barrier = Barrier(count)

        def run(images: Tensor) -> None:
            with torch.no_grad():
                for _ in range(4):
                    layer(images)

        def worker(images: Tensor) -> None:
            torch.set_num_threads(threads)
            barrier.wait()
            for _ in range(FEWEST_RUNS):
                run(images)

        alone = self.least(lambda: run(inputs[0]))
        workers = [Thread(target=worker, args=(images,)) for images in inputs]
        started = computed_s(self._device)
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        seconds = computed_s(self._device) - started
        # The clock of one thread counts the time of all of them, that of several the wall time.
        shared = count if threads == 1 else 1
        return max(1.0, seconds / shared / FEWEST_RUNS / alone)


def computed_s(device: torch.device) -> float:
    """Return a clock in seconds, of which differences count, once the device has done its work.

    With one thread on a CPU it is the time that this process computed, which other work on the
    machine disturbs little. Several threads also wait for each other, so theirs is the wall time.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return process_time() if alone else perf_counter()


def busy_share() -> float:
    """Return the share of the processors that other processes keep busy at this moment.

    0 if the kernel does not tell. Threads that run or could run count, but for this one
    (the fourth field of /proc/loadavg, proc_loadavg(5)).
    """
    with suppress(OSError, ValueError, IndexError):
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1
        return min(max(running, 0) / machine_cpus(), 1.0)
    return 0.0
