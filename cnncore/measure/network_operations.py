"""What the operations of a network's forward pass do: products, bytes moved, weights read.

They are met on the device `meta`, where nothing is computed, so a network of any size takes
milliseconds and no memory. Costs of a training step follow from them (`grid/cost/times/speed.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnncore.measure.operations import COUNTS, memory

# A dense convolution, one with a filter of its own for each channel (small, or 5 x 5 and more), a
# product of matrices, a cheap pass over memory such as a ReLU, and one that computes more.
Kind = Literal["convolution", "depthwise", "depthwise_large", "product", "pass", "heavy"]
CHEAP = (
    *("add", "sub", "mul", "relu", "hardtanh", "threshold", "copy", "clone", "cat", "fill", "zero"),
    *("leaky_relu", "clamp", "clamp_min", "_to_copy", "constant_pad_nd", "div", "masked_fill"),
)
LARGE_FILTER = 25
IN_PLACE = frozenset(
    f"aten::{name}_"
    for name in (
        *("add", "mul", "div", "relu", "silu", "sigmoid", "hardtanh", "hardswish", "hardsigmoid"),
        *("leaky_relu", "bernoulli", "copy", "fill", "zero"),
    )
)
UNARY = frozenset(
    f"aten::{name}" for name in ("relu", "silu", "sigmoid", "gelu", "hardswish", "hardsigmoid")
)
# Images of the counted batch: BatchNorm over maps of one pixel needs more than one.
IMAGES = 2


@dataclass(frozen=True)
class Operation:
    """One operation, per image; bytes are those of fp32.

    `gradients` counts the products of its size in the backward pass: one for its input and one for
    its weights, each if it is needed.
    """

    kind: Kind
    macs: float
    read_bytes: float
    written_bytes: float
    weight_bytes: int
    gradients: int


@dataclass(frozen=True)
class NetworkOperations:
    """The operations of a forward pass, and the trainable and other elements of the network.

    `tensors` is the number of trainable tensors, `matrix_macs` the products of one step of Newton
    and Schulz over all trainable matrices (for the optimizer `muon`).
    """

    operations: tuple[Operation, ...]
    trainable: int
    elements: int
    tensors: int
    matrix_macs: float

    @property
    def activation_bytes(self) -> float:
        """Bytes of one image that the backward pass needs: what operations with a gradient wrote.

        An upper bound: some operations need only their output, or a mask.
        """
        return sum(op.written_bytes for op in self.operations if op.gradients)


def count_operations(model: nn.Module, image_size: int) -> NetworkOperations:
    """Pass two images through a network on `meta`, in training mode.

    Raises what the network raises where it cannot run without values.
    """
    recorder = _Recorder(model)
    images = torch.empty(IMAGES, 3, image_size, image_size, device="meta")
    images = images.to(memory_format=torch.channels_last)
    model.train()
    with recorder:
        model(images)
    weights = [p for p in model.parameters() if p.requires_grad]
    elements = [*model.parameters(), *model.buffers()]
    return NetworkOperations(
        tuple(recorder.operations),
        trainable=sum(p.numel() for p in weights),
        elements=sum(t.numel() for t in elements if t.is_floating_point()),
        tensors=len(weights),
        matrix_macs=sum(map(_newton_schulz_macs, weights)),
    )


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Records what runs while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self._weights = {memory(p): p for p in (*model.parameters(), *model.buffers())}
        # Memories that a gradient reaches, with what keeps them from being used again.
        self._live: dict[int, Tensor] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, as `cnncore.measure.operations.OperationCounter` does."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and record it."""
        output = _shaped_output(str(func._schema.name), args)
        if output is None:
            output = func(*args, **(kwargs or {}))
        outputs, inputs = list(_tensors(output)), list(_tensors(args))
        weights = [t for t in inputs if memory(t) in self._weights]
        data = [t for t in inputs if memory(t) not in self._weights]
        trained = any(self._weights[memory(t)].requires_grad for t in weights)
        live = any(memory(t) in self._live for t in data)
        known = {memory(t) for t in inputs}
        if trained or live:
            self._live.update((memory(t), t) for t in outputs if memory(t) not in self._weights)
        if not outputs or not data:
            return output
        writes_in_place = func._schema.is_mutable
        if memory(outputs[0]) in known and not writes_in_place:
            return output  # a view
        name = str(func._schema.name).removeprefix("aten::").rstrip("_")
        macs, kind = self._products(func, name, args, output)
        self.operations.append(
            Operation(
                kind,
                macs / IMAGES,
                sum(map(_bytes, data)) / IMAGES,
                sum(map(_bytes, outputs)) / IMAGES,
                sum(map(_bytes, weights)),
                int(trained) + int(live),
            )
        )
        return output

    @staticmethod
    def _products(func: Any, name: str, args: Sequence[Any], output: Any) -> tuple[float, Kind]:
        count = COUNTS.get(func._schema.name)
        if count is None:
            return 0.0, "pass" if name in CHEAP else "heavy"
        macs, _ = count(args, output)
        if name != "convolution":
            return macs, "product"
        weight, groups = args[1], args[8]
        if groups == 1 or weight.shape[1] > 4:
            return macs, "convolution"
        large = weight[0, 0].numel() >= LARGE_FILTER
        return macs, "depthwise_large" if large else "depthwise"


def _shaped_output(name: str, args: Sequence[Any]) -> Any:
    """Return the output of an operation whose shape is plain; None for others.

    On `meta` PyTorch takes such operations apart in Python, which takes most of the time.
    """
    first = args[0] if args else None
    if not isinstance(first, Tensor):
        return None
    if name in IN_PLACE:
        return first
    if name in UNARY:
        return torch.empty_like(first)
    if name == "aten::native_batch_norm":
        channels = first.shape[1]
        return torch.empty_like(first), first.new_empty(channels), first.new_empty(channels)
    return None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _newton_schulz_macs(weight: Tensor) -> float:
    """Return the products of one step over a matrix X: `(A X)` and the square of `A = X X^T`.

    Filters of a convolution are the rows of a matrix (`cnncore/training/optimizers/muon.py`).
    """
    if weight.dim() < 2:
        return 0.0
    rows, columns = weight.shape[0], weight[0].numel()
    small = min(rows, columns)
    return 2.0 * small * rows * columns + small**3
