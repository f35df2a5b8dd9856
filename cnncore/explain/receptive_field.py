"""How much of the image one element of a layer's maps can see, for any network.

A network is run once on zeros while every operation is watched: windows (convolutions, pooling)
widen the field of what they are given, padding shifts it, all else takes the union of its inputs'
fields. So branches, joined by adding or concatenating, need no knowledge of the network.
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
    """Along one direction: element 0 sees pixels `low` to `high`, element 1 those `jump` further.

    Pixels below 0 lie in the padding.
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
class Window:
    """A layer that looks through a window, and what its elements see of the image.

    Pairs are height and width. `kernel`, `stride` and `padding` are the layer's own; `field` is in
    pixels, and `jump` the pixels between the fields of neighbours.
    """

    name: str
    type: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    output: tuple[int, int]
    field: tuple[int, int]
    jump: tuple[int, int]


def receptive_fields(model: nn.Module, image_size: int) -> list[Window]:
    """Every convolution and pooling layer in the order of execution.

    The field of an element is what the network's windows reach, the corners of which may weigh
    nothing in a trained network. Adaptive pooling counts with its widest window.
    """
    weight = next(model.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=weight.device)
    watch = _Watch(image)
    names = {module: name for name, module in model.named_modules()}
    found: list[Window] = []

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        fields = watch.fields(output)
        if fields is not None and watch.window is not None and output.ndim == 4:
            found.append(_described(names[module], module, watch.window, output, fields))

    windows = [module for module in model.modules() if isinstance(module, WINDOWS)]
    handles = [module.register_forward_hook(add) for module in windows]
    try:
        with eval_mode(model), torch.no_grad(), watch:
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)

Pair = tuple[int, int]
# Kernel, stride and padding, each by height and width; the kernel with its dilation.
Geometry = tuple[Pair, Pair, Pair]


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Follows the fields of the image's elements through every operation.

    Tensors are known by identity and kept alive, so that no address is used twice.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[Tensor, Fields]] = {id(image): (image, (Field(), Field()))}
        self.window: Geometry | None = None

    def fields(self, tensor: Any) -> Fields | None:
        """What an element of a tensor sees, by height and width; None where it sees nothing."""
        known = self._known.get(id(tensor))
        return known[1] if known else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        sources = [fields for one in _tensors(args) if (fields := self.fields(one)) is not None]
        if not sources:
            return output
        fields = (_union([f[0] for f in sources]), _union([f[1] for f in sources]))
        operation = func.overloadpacket
        if operation in GEOMETRY:
            self.window = GEOMETRY[operation](args)
            fields = (_seen(fields[0], self.window, 0), _seen(fields[1], self.window, 1))
        elif operation is aten.constant_pad_nd:
            fields = _padded(fields, args[1])
        for one in _tensors([output]):
            self._known[id(one)] = (one, fields)
        return output


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _union(fields: Sequence[Field]) -> Field:
    """The least jump counts: a map of one element, spread over a larger one, has a larger jump."""
    return Field(
        min(one.low for one in fields),
        max(one.high for one in fields),
        min(one.jump for one in fields),
    )


def _seen(field: Field, window: Geometry, axis: int) -> Field:
    kernel, stride, padding = (pair[axis] for pair in window)
    low = field.low - padding * field.jump
    return Field(low, low + field.size - 1 + (kernel - 1) * field.jump, field.jump * stride)


def _padded(fields: Fields, padding: Sequence[int]) -> Fields:
    """Padding is given from the last direction on: left, right, top, bottom."""
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
    """Output i of n takes the inputs from floor(i size / n) to ceil((i + 1) size / n)."""
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
    """A mean over height or width is a window over all of it, over other directions none."""
    source = args[0]
    over = {axis % source.ndim for axis in (args[1:] and args[1]) or range(source.ndim)}
    places = (2, 3) if source.ndim == 4 else ()
    kernel = [source.shape[axis] if axis in over else 1 for axis in places]
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


def _described(
    name: str, module: nn.Module, window: Geometry, output: Tensor, fields: Fields
) -> Window:
    kernel, stride, padding = window
    height, width = fields
    return Window(
        name=name,
        type=type(module).__name__,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output=_pair(output.shape[-2:]),
        field=(height.size, width.size),
        jump=(height.jump, width.jump),
    )
