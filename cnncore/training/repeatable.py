"""`deterministic: true`: operations that a GPU does not repeat to the bit, replaced or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operations without a deterministic kernel on CUDA (documentation of
# `torch.use_deterministic_algorithms`) that a network may come to, as PyTorch's dispatcher names
# them, and the layer or function that they belong to.
UNREPEATABLE = {
    "_adaptive_avg_pool2d_backward": "AdaptiveAvgPool2d",
    "_adaptive_avg_pool3d_backward": "AdaptiveAvgPool3d",
    "adaptive_max_pool2d_backward": "AdaptiveMaxPool2d",
    "adaptive_max_pool3d_backward": "AdaptiveMaxPool3d",
    "avg_pool3d_backward": "AvgPool3d",
    "fractional_max_pool2d_backward": "FractionalMaxPool2d",
    "fractional_max_pool3d_backward": "FractionalMaxPool3d",
    "max_unpool2d": "MaxUnpool2d",
    "max_unpool3d": "MaxUnpool3d",
    "reflection_pad1d_backward": "ReflectionPad1d",
    "reflection_pad2d_backward": "ReflectionPad2d",
    "reflection_pad3d_backward": "ReflectionPad3d",
    "upsample_bicubic2d_backward": "interpolate (bicubic)",
    "grid_sampler_2d_backward": "grid_sample",
    "grid_sampler_3d_backward": "grid_sample",
    "histc": "histc",
    "median.dim": "median",
    "kthvalue": "kthvalue",
}


class RepeatablePooling(TorchFunctionMode):
    """Adaptive average pooling with a gradient that CUDA repeats; on a CPU it is PyTorch's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace `F.adaptive_avg_pool2d`, which every layer and library calls."""
        kwargs = kwargs or {}
        if func is F.adaptive_avg_pool2d:
            return adaptive_avg_pool2d(*args, **kwargs)
        return func(*args, **kwargs)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Return `F.adaptive_avg_pool2d(input, output_size)`, images on a device by windows.

    Windows of a single pixel are copied, so their values are PyTorch's to the bit; others may
    differ in the last digit, because their sums are in another order.
    """
    sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    heights, widths = (
        input.shape[dim] if size is None else size
        for dim, size in zip((-2, -1), sizes, strict=True)
    )
    if input.device.type == "cpu" or (heights, widths) == (1, 1):  # then it is a mean
        return F.adaptive_avg_pool2d(input, (heights, widths))
    return _means(_means(input, -2, heights), -1, widths)


def _means(images: Tensor, dim: int, windows: int) -> Tensor:
    """Return the means along a dimension over windows as PyTorch places them."""
    size = images.shape[dim]
    if size == windows:
        return images
    parts = []
    for index in range(windows):
        first, end = index * size // windows, -(-(index + 1) * size // windows)
        parts.append(images.narrow(dim, first, end - first).mean(dim))
    return torch.stack(parts, dim)


def use_deterministic(deterministic: bool, device: torch.device) -> None:
    """Switch PyTorch's deterministic mode, and on a GPU replace what it would refuse.

    Both are settings of the process, which `ProcessSettings` puts back.
    """
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)
    if deterministic and device.type != "cpu" and not _pools_repeatably():
        RepeatablePooling().__enter__()  # type: ignore[no-untyped-call]  # until it is put back


def _pools_repeatably() -> bool:
    modes = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(isinstance(mode, RepeatablePooling) for mode in modes)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Notes the operations that CUDA does not repeat."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").removesuffix(".default")
        if layer := UNREPEATABLE.get(name):
            self.found[f"{layer} ({name})"] = None
        return func(*args, **(kwargs or {}))


@contextmanager
def repeatable_only() -> Iterator[None]:
    """Run the block as on a GPU in deterministic mode.

    Raises `ValueError` at its end if an operation in it has no deterministic kernel there.
    """
    with RepeatablePooling(), _Watch() as watch:
        yield
    if watch.found:
        raise ValueError(
            f"deterministic: true, but a GPU has no deterministic kernel for "
            f"{', '.join(watch.found)}: leave deterministic out, or replace the operation"
        )
