"""A CUDA device that is not there: numbers computed on the CPU, PyTorch's rules of devices kept.

Inside `pretend_cuda()` tensors can be made on `cuda` and moved there. They are CPU tensors of a
class of their own that says `cuda:0`. Every operation on them comes through `__torch_dispatch__`,
which raises what CUDA would raise if devices are mixed, and counts how often the host would wait
for the device. Random draws come from a generator of the device's own. What a real device does in
its kernels is not covered: strides, memory, and the operations that CUDA's autocast changes.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from cnncore.training.repeatable import UNREPEATABLE

CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).resolve().parents[2]
# Operations with index tensors that may lie on the CPU.
INDEXING = {
    *("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"),
    *("aten::_unsafe_index", "aten::_unsafe_index_put"),
}
# Operations with a result shape that depends on values: the host must wait for the device.
SHAPED_BY_VALUES = {
    *("aten::nonzero", "aten::masked_select", "aten::repeat_interleave"),
    *("aten::unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"),
}


@dataclass
class Log:
    """Launches and waits that a real device would have had."""

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)  # by reason and place
    ops: Counter[str] = field(default_factory=Counter)  # launched operations by name
    seeds: list[int] = field(default_factory=list)
    emptied: int = 0  # calls of torch.cuda.empty_cache
    # Bytes that came from the host, by type, as they cross the bus.
    host_bytes: Counter[str] = field(default_factory=Counter)
    stream_waits: int = 0  # waits of one stream for another
    fraction: float = 1.0  # the process's limit of memory
    synchronised: int = 0  # explicit calls of torch.cuda.synchronize

    def wait(self, why: str) -> None:
        """Count a wait at the line of this project that is running."""
        self.waits[why, _where()] += 1

    @property
    def launches(self) -> int:
        """Number of launched operations."""
        return sum(self.ops.values())

    def clear(self) -> None:
        """Forget waits and launches."""
        self.waits.clear()
        self.ops.clear()
        self.host_bytes.clear()


LOG = Log()


class Event:
    """An event; everything before it is done, as the CPU computes at once."""

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Stream:
    """A queue of launches, beside the one that computes."""

    def __init__(self, device: Any = None) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        LOG.stream_waits += 1


FILE = Path(__file__).name


def _where() -> str:
    """File and line of the innermost frame in this project's own code."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts and path.name != FILE:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "?"


# Views and metadata: no kernel is launched.
FREE = {
    "view",
    "_unsafe_view",
    "permute",
    "transpose",
    "t",
    "expand",
    "slice",
    "select",
    "unsqueeze",
    "squeeze",
    "as_strided",
    "detach",
    "alias",
    "split",
    "split_with_sizes",
    "unbind",
    "_reshape_alias",
    "lift_fresh",
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
    "set_",
    "resize_",
    "unfold",
    "diagonal",
    "is_same_size",
    "_local_scalar_dense",
}


class OnCuda(torch.Tensor):
    """A CPU tensor that reports the device `cuda:0`."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # private

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        LOG.wait("tolist")
        return plain(self).tolist()

    def record_stream(self, stream: Any) -> None:
        pass

    def pin_memory(self, *args: Any) -> Any:
        raise RuntimeError(
            "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        LOG.wait("pickle")
        return plain(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        with torch.no_grad():
            new = on_cuda(plain(self).clone())
        if isinstance(self, torch.nn.Parameter) or getattr(self, "_is_param", False):
            new = torch.nn.Parameter(new, requires_grad=self.requires_grad)
        else:
            new.requires_grad_(self.requires_grad)
        memo[id(self)] = new
        return new

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"OnCuda({plain(self.detach())!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.name().partition(".")[0]
        _check(name, func, args, kwargs)
        short = name.removeprefix("aten::")
        if short not in FREE:
            LOG.ops[short] += 1
        if "device" in kwargs and kwargs["device"] is not None:
            # Moves between devices are left to `Moves`; the memory is the CPU's in any case.
            kwargs["device"] = torch.device("cpu")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if name in ("aten::_to_copy", "aten::copy_", "aten::_copy_from"):
            _count_copy(name, args, kwargs)
        if name == "aten::_local_scalar_dense":
            LOG.wait("item")
        elif name in SHAPED_BY_VALUES or (
            name == "aten::index"
            and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        ):
            LOG.wait(f"shape of {short}")
        random = torch.Tag.nondeterministic_seeded in func.tags and short not in ("_fused_adam_",)
        generator = device_generator() if random else contextlib.nullcontext()
        with generator, torch._C._DisableTorchDispatch():
            result = func(*args, **kwargs)
        if name == "aten::copy_" and not isinstance(args[0], OnCuda):
            return result
        return tree_map(lambda x: on_cuda(x) if isinstance(x, torch.Tensor) else x, result)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return an ordinary CPU tensor in the same memory."""
    if not isinstance(tensor, OnCuda):
        return tensor
    with torch._C._DisableTorchDispatch():
        return tensor.detach().as_subclass(torch.Tensor)


def on_cuda(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the same memory that reports the device."""
    if isinstance(tensor, OnCuda):
        return tensor
    return torch.Tensor._make_subclass(OnCuda, tensor, tensor.requires_grad)


def _check(name: str, func: Any, args: Any, kwargs: Any) -> None:
    """Raise the errors of CUDA for tensors of both devices or a wrong generator."""
    if name in ("aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::set_"):
        return
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    short = str(func).removeprefix("aten.").removesuffix(".default")
    if torch.are_deterministic_algorithms_enabled() and short in UNREPEATABLE:
        raise RuntimeError(f"{short}_cuda does not have a deterministic implementation")
    if any(isinstance(x, torch.Generator) for x in flat):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if name in INDEXING:
        tensors = [args[0], *(args[2:3] if "put" in name else ())]
    strangers = [x for x in tensors if not isinstance(x, OnCuda)]
    lists = any(isinstance(a, (list, tuple)) and a and isinstance(a[0], torch.Tensor) for a in args)
    if any(x.dim() or lists for x in strangers):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two "
            f"devices, cuda:0 and cpu! (in {func})"
        )


def _count_copy(name: str, args: Any, kwargs: Any) -> None:
    """Count a wait if the copy goes from one device to the other, unless from pinned memory."""
    if name == "aten::copy_":
        to, source = isinstance(args[0], OnCuda), args[1]
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    else:
        to, source = True, args[0]
        non_blocking = kwargs.get("non_blocking", False)
    if isinstance(source, OnCuda) == to:
        return
    if to:
        # PyTorch converts on the side that the copy comes from (`copy_requires_temporaries`).
        dtype = args[0].dtype if name == "aten::copy_" else kwargs.get("dtype") or source.dtype
        LOG.host_bytes[str(dtype)] += source.numel() * dtype.itemsize
    if to and non_blocking and is_pinned(source):
        return
    LOG.wait("copy from host" if to else "copy to host")


# Pinned memory, by the address of its storage; held so that no other tensor gets the address.
_PINNED: dict[int, torch.Tensor] = {}


def is_pinned(tensor: torch.Tensor) -> bool:
    """Return whether a tensor, or a view of one, was made in pinned memory."""
    return tensor.untyped_storage().data_ptr() in _PINNED


# The state of the device's generator.
_GENERATOR: dict[str, torch.Tensor] = {}


@contextlib.contextmanager
def device_generator() -> Iterator[None]:
    """Draw from the device's generator, and leave the CPU's as it was."""
    host = torch.default_generator.get_state()
    torch.default_generator.set_state(_GENERATOR["state"])
    try:
        yield
    finally:
        _GENERATOR["state"] = torch.default_generator.get_state()
        torch.default_generator.set_state(host)


def _seed(seed: int) -> None:
    """Seed the device's generator, unlike the CPU's with the same seed."""
    LOG.seeds.append(seed)
    generator = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
    _GENERATOR["state"] = generator.get_state()


class Moves(TorchFunctionMode):
    """Tensors made on or moved to the device, before PyTorch itself looks for one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func in (torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu):
            return self._move(func, args, kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            kwargs["device"] = torch.device("cpu")
            if kwargs.pop("pin_memory", False):
                raise RuntimeError("only dense CPU tensors can be pinned")
            if name == "tensor" or name == "as_tensor":
                LOG.wait("copy from host")
            if name.startswith(("rand", "bernoulli", "normal")) and isinstance(
                kwargs.get("generator"), torch.Generator
            ):
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
            LOG.ops[name] += name not in FREE
            with device_generator() if name.startswith("rand") else contextlib.nullcontext():
                output = func(*args, **kwargs)
            return on_cuda(output)
        if kwargs.pop("pin_memory", False):  # which needs a real device
            pinned: torch.Tensor = func(*args, **kwargs)
            _PINNED[pinned.untyped_storage().data_ptr()] = pinned
            return pinned
        return func(*args, **kwargs)

    def _move(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, *rest = args
        where = None
        if func is torch.Tensor.cuda:
            where = CUDA
            rest, kwargs = [], {k: v for k, v in kwargs.items() if k != "device"}
        elif func is torch.Tensor.cpu:
            where = torch.device("cpu")
        else:
            if rest and isinstance(rest[0], torch.Tensor):
                where, rest = rest[0].device, [rest[0].dtype, *rest[1:]]
            elif rest and isinstance(rest[0], (str, torch.device, int)):
                where, rest = torch.device(rest[0]), rest[1:]
            elif rest and rest[0] is None:
                rest = rest[1:]
            elif kwargs.get("device") is not None:
                where = torch.device(kwargs.pop("device"))
        kwargs.pop("device", None)
        now = "cuda" if isinstance(tensor, OnCuda) else "cpu"
        if where is None or where.type == now:
            if func is not torch.Tensor.to:
                return tensor
            non_blocking = kwargs.pop("non_blocking", False)
            rest = [x for x in rest if isinstance(x, torch.dtype)]
            if not rest and not kwargs:
                return tensor
            return func(tensor, *rest, **kwargs)
        non_blocking = kwargs.pop("non_blocking", False)
        dtype = kwargs.pop("dtype", None)
        if rest:
            if isinstance(rest[0], torch.dtype) or rest[0] is None:
                dtype = dtype or rest[0]
                rest = rest[1:]
            if rest:
                non_blocking = rest[0] or non_blocking
        form = kwargs.pop("memory_format", None) or torch.preserve_format
        if where.type == "cuda":
            LOG.host_bytes[str(dtype or tensor.dtype)] += (
                tensor.numel() * (dtype or tensor.dtype).itemsize
            )
            if not (non_blocking and is_pinned(tensor)):
                LOG.wait("copy from host")
            return ToCuda.apply(tensor, dtype, form)
        LOG.wait("copy to host")
        return ToHost.apply(tensor, dtype, form)


class ToCuda(torch.autograd.Function):
    """A copy to the device; its gradient returns to the host."""

    @staticmethod
    def forward(ctx: Any, tensor: Any, dtype: Any, form: Any) -> Any:
        LOG.ops["copy from host"] += 1
        return on_cuda(tensor.detach().to(dtype or tensor.dtype, copy=True, memory_format=form))

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return plain(gradient).clone(), None, None


class ToHost(torch.autograd.Function):
    """A copy to the host; its gradient returns to the device."""

    @staticmethod
    def forward(ctx: Any, tensor: Any, dtype: Any, form: Any) -> Any:
        LOG.ops["copy to host"] += 1
        return plain(tensor).to(dtype or tensor.dtype, copy=True, memory_format=form)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return on_cuda(gradient.clone()), None, None


@contextlib.contextmanager
def pretend_cuda(devices: int = 1, memory_mib: int = 80_000) -> Iterator[Log]:
    """Pretend that there is a CUDA device; yield the log of its operations."""
    total = memory_mib * 2**20
    properties = SimpleNamespace(
        name="Pretended",
        total_memory=total,
        uuid="00000000-0000-0000-0000-000000000000",
        multi_processor_count=132,
        major=9,
        minor=0,
    )
    autocast = torch.autocast

    def cpu_autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    def synchronize(device: Any = None) -> None:
        LOG.synchronised += 1

    cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: devices,
        "current_device": lambda: 0,
        "synchronize": synchronize,
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": Stream,
        "empty_cache": lambda: setattr(LOG, "emptied", LOG.emptied + 1),
        "mem_get_info": lambda device=None: (total, total),
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: "Pretended",
        "get_device_capability": lambda device=None: (9, 0),
        "memory_reserved": lambda device=None: 0,
        "get_per_process_memory_fraction": lambda device=None: LOG.fraction,
        "set_per_process_memory_fraction": lambda share, device=None: setattr(
            LOG, "fraction", share
        ),
        "max_memory_allocated": lambda device=None: 50 * 2**20,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state": lambda device="cuda": _GENERATOR["state"].clone(),
        "set_rng_state": lambda state, device="cuda": _GENERATOR.update(state=state.clone()),
        "manual_seed_all": _seed,
        "manual_seed": _seed,
        "_lazy_init": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: True,
    }
    _seed(0)
    _PINNED.clear()
    LOG.clear()
    LOG.fraction, LOG.emptied, LOG.stream_waits = 1.0, 0, 0
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "autocast", cpu_autocast))
        # The original asks the driver if a graph is being captured.
        for name in dir(torch.optim.Optimizer):
            if name.endswith("graph_capture_health_check"):
                stack.enter_context(mock.patch.object(torch.optim.Optimizer, name))
        # The C++ code groups tensors by the device of their memory.
        group = torch._C._group_tensors_by_device_and_dtype

        def grouped(lists: Any, with_indices: bool = False) -> Any:
            on = {
                t.dtype: CUDA if isinstance(t, OnCuda) else torch.device("cpu")
                for t in lists[0]
                if t is not None
            }
            groups = group([[None if t is None else plain(t) for t in one] for one in lists], True)
            return {
                (on[dtype], dtype): (
                    [[one[i] for i in indices] if one else [] for one in lists],
                    indices,
                )
                for (_, dtype), (_, indices) in groups.items()
            }

        stack.enter_context(
            mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", grouped)
        )
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(Moves())
        yield LOG
