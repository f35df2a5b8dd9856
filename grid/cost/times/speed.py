"""Seconds of training and evaluation, from counted operations and the speed of the machine.

Each operation takes the time of its products and of its passes over memory, and an overhead of its
own; the machine's speed at each is measured (`cnncore/training/speed/machine.py`). Only the passes
over weights and the steps of optimizers are constants here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from cnncore.config import TrialConfig, optimizer_moments

if TYPE_CHECKING:
    from cnncore.measure.network_operations import NetworkOperations, Operation
    from cnncore.training.speed.machine import MachineSpeed

PRODUCTS = ("convolution", "depthwise", "depthwise_large", "product")
# Passes over the weights of a product forward, and backward: oneDNN brings them into a layout of
# its own and back. Fitted to convolutions of 512 channels on maps of 1 to 16 pixels (AMD EPYC,
# torch 2.14, one thread).
WEIGHT_PASSES = (3.0, 12.0)
# Operations of a step beside the network's: loss, accuracy, schedule, the batch itself.
STEP_OPERATIONS = 30
# Optimizers whose step is one kernel for each weight (`cnncore/training/optimizers/build.py`).
# Others take several operations, each a pass over the weights of its own.
FUSED = ("sgd", "adam", "adamw")
# Steps of Newton and Schulz in an update of Muon (its option `ns_steps`), and the time of their
# products, which are in bf16 (torch.optim.Muon), as a share of that in fp32.
NEWTON_SCHULZ_STEPS, BF16_SHARE = 5, 0.5
# Passes over the images that mix two of them, and over the weights that average or clip them.
MIX_PASSES, EMA_PASSES, CLIP_PASSES = 4, 3, 3
KIB = 2**10


@dataclass(frozen=True)
class Speed:
    """The machine's speed as seconds of operations, of one trial beside others or alone."""

    measured: MachineSpeed
    device: str = "cpu"

    def forward_s(self, operations: Iterable[Operation], images: int) -> float:
        """Return the seconds of a forward pass of `images` images."""
        return self._add(self._forward(op, images) for op in operations)

    def step_s(self, network: NetworkOperations, config: TrialConfig) -> float:
        """Return the seconds of a training step, without making its batch."""
        images = config.batch_size
        parts = [self._forward(op, images) for op in network.operations]
        parts += [self._backward(op, images) for op in network.operations if op.gradients]
        parts.append((0.0, STEP_OPERATIONS * self._operation_s))
        parts += list(self._update(network, config))
        if config.mixup or config.cutmix:
            assert config.image_size is not None
            pixels = images * config.image_size**2 * 3 * 4
            parts.append((MIX_PASSES * self._pass_s(pixels), 0.0))
        return self._add(parts)

    def _add(self, parts: Iterable[tuple[float, float]]) -> float:
        """Add up pairs of seconds and overheads; a GPU computes while the next are sent to it."""
        seconds = overhead = 0.0
        for part, own in parts:
            seconds += part
            overhead += own
        return seconds + overhead if self.device == "cpu" else max(seconds, overhead)

    def _forward(self, op: Operation, images: int) -> tuple[float, float]:
        moved, overhead = self._moved(op, images), self.measured.overhead[op.kind][0]
        if op.kind not in PRODUCTS:
            return moved * self.measured.forward[op.kind] * self._slower(moved), overhead
        return (
            op.macs * images * self.measured.forward[op.kind]
            + self._pass_s(moved)
            + WEIGHT_PASSES[0] * self._pass_s(op.weight_bytes)
        ), overhead

    def _backward(self, op: Operation, images: int) -> tuple[float, float]:
        moved, overhead = self._moved(op, images), self.measured.overhead[op.kind][1]
        if op.kind not in PRODUCTS:
            return moved * self.measured.backward[op.kind] * self._slower(moved), overhead
        return op.gradients * (
            op.macs * images * self.measured.backward[op.kind]
            + self._pass_s(moved)
            + WEIGHT_PASSES[1] / 2 * self._pass_s(op.weight_bytes)
        ), overhead

    @staticmethod
    def _moved(op: Operation, images: int) -> float:
        return (op.read_bytes + op.written_bytes) * images

    @property
    def _operation_s(self) -> float:
        """Overhead of a cheap operation with its backward pass."""
        return sum(self.measured.overhead["pass"])

    def _pass_s(self, moved: float) -> float:
        """Return the seconds of a pass that reads and writes so many bytes in all."""
        return moved * self.measured.forward["pass"] * self._slower(moved)

    def _slower(self, moved: float) -> float:
        """Return how much slower a byte is than in a pass that stays in the caches."""
        sizes = sorted(self.measured.passes)
        tensor = max(moved / 2, 1.0)
        at = bisect_right(sizes, tensor)
        if at in (0, len(sizes)):
            return self.measured.passes[sizes[max(at - 1, 0)]]
        low, high = sizes[at - 1], sizes[at]
        share = log(tensor / low) / log(high / low)
        return (1 - share) * self.measured.passes[low] + share * self.measured.passes[high]

    def _update(
        self, network: NetworkOperations, config: TrialConfig
    ) -> Iterable[tuple[float, float]]:
        """Yield seconds and operations of the optimizer's step and of what follows it."""
        moments = optimizer_moments(config.optimizer, config.momentum, config.optimizer_options)
        weights = 4.0 * network.trainable
        own = weights * (2 + moments)  # the working set decides how slow a byte is
        byte = self.measured.forward["pass"] * self._slower(2 * own)
        if config.optimizer in FUSED:
            # Reads weights, gradients and moments, writes weights and moments.
            yield weights * (3 + 2 * moments) * byte, 0.2 * network.tensors * self._operation_s
        else:
            operations = 3 + 3 * moments
            overhead = network.tensors * operations / 2 * self._operation_s
            yield operations * 3 * weights * byte, overhead
        if config.optimizer == "muon":
            products = BF16_SHARE * NEWTON_SCHULZ_STEPS * network.matrix_macs
            overhead = 4 * NEWTON_SCHULZ_STEPS * network.tensors * self._operation_s
            yield products * self.measured.forward["product"], overhead
        for passes in (config.ema and EMA_PASSES, config.grad_clip and CLIP_PASSES):
            if passes:
                yield passes * weights * byte, network.tensors / 2 * self._operation_s

    def slowdown(self, network: NetworkOperations, images: int, beside: int) -> float:
        """Return how much slower a trial is beside others than alone; it counts as one of them.

        Its products slow down as a convolution does, the rest as a pass over memory.
        """
        if beside < 2 or not self.measured.together:
            return 1.0
        products = sum(
            op.macs * self.measured.forward[op.kind] for op in network.operations if op.macs
        )
        share = (
            products
            * images
            / (sum(self._forward(op, images)[0] for op in network.operations) or 1)
        )
        share = min(share, 1.0)
        together = self.measured.together
        most = share * together["convolution"] + (1 - share) * together["pass"]
        return 1 + (most - 1) * min((beside - 1) / (self.measured.beside - 1), 1.0)


def memory_bytes(network: NetworkOperations, config: TrialConfig) -> float:
    """Return the bytes of weights, gradients, moments and activations while a config trains."""
    moments = optimizer_moments(config.optimizer, config.momentum, config.optimizer_options)
    copies = (config.ema is not None) + (config.select == "best")
    weights = 4 * (network.elements * (1 + copies) + network.trainable * (1 + moments))
    return weights + network.activation_bytes * config.batch_size


def least_memory_bytes(network: NetworkOperations, config: TrialConfig) -> float:
    """Return a lower bound of `memory_bytes`: weights, gradients, and the largest output."""
    output = max((op.written_bytes for op in network.operations), default=0.0)
    share = 0.5 if config.precision == "bf16" else 1.0
    return 4.0 * (network.elements + network.trainable) + share * output * config.batch_size
