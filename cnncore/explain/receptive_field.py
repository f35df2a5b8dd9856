"""Receptive fields: the part of the image that one element of a layer's maps sees.

A network runs once on zeros while a dispatch mode follows every operation. Windows (convolutions,
pooling) widen the field of their input, padding shifts it, and all other operations take the union
of their inputs' fields. So branches, added or concatenated, need no knowledge of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnncore.measure.evaluate import eval_mode

aten = torch.ops.aten


@dataclass(frozen=True)
class Field:
    """Field along one direction: element 0 sees pixels `low` to `high`, element 1 `jump` further.

    Pixels below 0 are in the padding.
    """

    low: int = 0
    high: int = 0
    jump: int = 1

    @property
    def size(self) -> int:
        """Pixels seen by one element, those in the padding included."""
        return self.high - self.low + 1


Fields = tuple[Field, Field]


@dataclass(frozen=True)
class WindowLayer:
    """Layer with a window, and the receptive field of its elements.

    Pairs are height and width. `kernel`, `stride` and `padding` are the layer's own; `field` is in
    pixels, and `jump` is the distance in pixels between the fields of neighbours.
    """

    name: str
    type: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output: tuple[int, int]
    field: tuple[int, int]
    jump: tuple[int, int]


def receptive_fields(model: nn.Module, image_size: int) -> list[WindowLayer]:
    """List every convolution and pooling layer in the order of execution.

    A field is the rectangle that the network's windows reach; in a trained network its corners may
    have no weight. Adaptive pooling counts with its widest window.
    """
    weight = next(model.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=weight.device)
    tracker = _FieldTracker(image)
    names = {module: name for name, module in model.named_modules()}
    layers: list[WindowLayer] = []

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        fields = tracker.fields(output)
        if fields is not None and tracker.window is not None and output.ndim == 4:
            layers.append(_window_layer(names[module], module, tracker.window, output, fields))

    windows = [module for module in model.modules() if isinstance(module, WINDOW_TYPES)]
    handles = [module.register_forward_hook(add) for module in windows]
    try:
        with eval_mode(model), torch.no_grad(), tracker:
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return layers


WINDOW_TYPES = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)

Pair = tuple[int, int]
# Kernel, stride and padding, each by height and width; the kernel with its dilation.
Geometry = tuple[Pair, Pair, Pair]


class _FieldTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Dispatch mode that records the fields of every operation's output.

    Tensors are identified by address and kept alive, so that no address is used twice.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._known: dict[int, tuple[Tensor, Fields]] = {id(image): (image, (Field(), Field()))}
        self.window: Geometry | None = None

    def fields(self, tensor: Any) -> Fields | None:
        """Return the fields of a tensor's elements by height and width; None if there are none."""
        known = self._known.get(id(tensor))
        return known[1] if known else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        sources = [
            fields for tensor in _tensors(args) if (fields := self.fields(tensor)) is not None
        ]
        if not sources:
            return output
        fields = (_union([f[0] for f in sources]), _union([f[1] for f in sources]))
        operation = func.overloadpacket
        if operation in GEOMETRY:
            self.window = GEOMETRY[operation](args)
            fields = (_widened(fields[0], self.window, 0), _widened(fields[1], self.window, 1))
        elif operation is aten.constant_pad_nd:
            fields = _padded(fields, args[1])
        for tensor in _tensors([output]):
            self._known[id(tensor)] = (tensor, fields)
        return output


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _tensors(value)
    return tensors


def _union(fields: Sequence[Field]) -> Field:
    """Join fields; the least jump counts.

    A map of one element, spread over a larger one, has a larger jump.
    """
    return Field(
        min(field.low for field in fields),
        max(field.high for field in fields),
        min(field.jump for field in fields),
    )


def _widened(field: Field, window: Geometry, axis: int) -> Field:
    kernel, stride, padding = (pair[axis] for pair in window)
    low = field.low - padding * field.jump
    return Field(low, low + field.size - 1 + (kernel - 1) * field.jump, field.jump * stride)


def _padded(fields: Fields, padding: Sequence[int]) -> Fields:
    """Shift fields by `padding`, which torch orders left, right, top, bottom."""
    left, top = padding[0], padding[2] if len(padding) > 2 else 0
    height, width = fields
    return (
        Field(height.low - top * height.jump, height.high - top * height.jump, height.jump),
        Field(width.low - left * width.jump, width.high - left * width.jump, width.jump),
    )


def _convolution(args: Sequence[Any]) -> Geometry:
    _, weight, _, stride, padding, dilation = args[:6]
    kernel = tuple(weight.shape[2:])
    spread = tuple(d * (k - 1) + 1 for k, d in zip(kernel, _pair(dilation), strict=True))
    return _pair(spread), _pair(stride), _pair(padding)


def _pooling(args: Sequence[Any]) -> Geometry:
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    return kernel, stride, _pair(args[3]) if len(args) > 3 else (0, 0)


def _adaptive(args: Sequence[Any]) -> Geometry:
    """Return the widest window: output i of n reads floor(i size / n) to ceil((i + 1) size / n)."""
    shape, outputs = args[0].shape[-2:], _pair(args[1])
    kernel = _pair(
        [
            max(-(-(i + 1) * size // n) - i * size // n for i in range(n))
            for size, n in zip(shape, outputs, strict=True)
        ]
    )
    stride = _pair([max(1, size // n) for size, n in zip(shape, outputs, strict=True)])
    return kernel, stride, (0, 0)


def _mean(args: Sequence[Any]) -> Geometry:
    """Return a mean's window: all of each averaged direction of height and width, else one."""
    source = args[0]
    averaged = {axis % source.ndim for axis in (args[1:] and args[1]) or range(source.ndim)}
    directions = (2, 3) if source.ndim == 4 else ()
    kernel = [source.shape[axis] if axis in averaged else 1 for axis in directions]
    return _pair(kernel or 1), (1, 1), (0, 0)


GEOMETRY: dict[Any, Callable[[Sequence[Any]], Geometry]] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _pooling,
    aten.avg_pool2d: _pooling,
    aten._adaptive_avg_pool2d: _adaptive,
    aten.adaptive_max_pool2d: _adaptive,
    aten.mean: _mean,
}


def _pair(value: Any) -> Pair:
    values = [value, value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))


def _window_layer(
    name: str, module: nn.Module, window: Geometry, output: Tensor, fields: Fields
) -> WindowLayer:
    kernel, stride, padding = window
    height, width = fields
    return WindowLayer(
        name=name,
        type=type(module).__name__,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output=_pair(output.shape[-2:]),
        field=(height.size, width.size),
        jump=(height.jump, width.jump),
    )
