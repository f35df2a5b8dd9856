"""What an epoch of the user's own keeps from epoch to epoch: tensors and plain containers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Exact types, because a checkpoint is read without running code, which others need.
PLAIN = (type(None), bool, int, float, str, bytes)
MAPPINGS, SEQUENCES = (dict, OrderedDict), (list, tuple)
TENSORS = (Tensor, nn.Parameter)
DEEPEST = 50


def check_memory(memory: Any, theirs: Mapping[int, str]) -> None:
    """Raise `ValueError` with the path of what a checkpoint could not give back as it is.

    `theirs` names the tensors that the trial itself holds, by the address of their storage: a
    memory that shares them would follow every step, and no longer after it was read again.
    """
    for path, value in _leaves(memory, "memory"):
        kind = type(value)
        if kind in TENSORS:
            if value.grad_fn is not None:
                raise ValueError(f"{path} hangs on a gradient: store {path}.detach().clone()")
            if value.layout is not torch.strided:
                raise ValueError(f"{path} is a sparse tensor: store {path}.to_dense()")
            address = value.untyped_storage().data_ptr()
            if address and address in theirs:
                raise ValueError(
                    f"{path} is the memory of {theirs[address]} itself, which every step changes: "
                    "store a copy, .detach().clone()"
                )
        elif kind not in PLAIN:
            name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
            raise ValueError(
                f"{path} is a {name}: a checkpoint holds tensors, numbers, text, None, dicts, "
                f"lists and tuples of them{_remedy(value)}"
            )


def memory_tensors(memory: Any) -> Iterator[Tensor]:
    """Yield every tensor, in the order of the containers."""
    yield from (value for _, value in _leaves(memory, "memory") if isinstance(value, Tensor))


def moved_back(memory: Any, places: list[str], device: torch.device) -> Any:
    """Return a memory read from a checkpoint, its tensors where they were when it was written.

    `places` are the kinds of device in the order of `memory_tensors`; what was on an accelerator
    comes to `device`. A tensor that stands in several places stays one.
    """
    place = iter(places)
    moved: dict[int, Tensor] = {}

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            there = value if next(place) == "cpu" else value.to(device)
            return moved.setdefault(id(value), there)
        if isinstance(value, dict):
            for key in value:
                value[key] = move(value[key])
            return value
        if isinstance(value, list | tuple):
            return type(value)(map(move, value))
        return value

    return move(memory)


def _leaves(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield what is no container, with its path, such as `memory['teacher'][0]`."""
    if depth > DEEPEST:
        raise ValueError(f"{path[:80]}... is nested too deeply, or holds itself")
    if type(value) in MAPPINGS:
        for key, item in value.items():
            if type(key) not in (str, int):
                raise ValueError(f"the keys of {path} must be text or whole numbers, got {key!r}")
            yield from _leaves(item, f"{path}[{key!r}]", depth + 1)
    elif type(value) in SEQUENCES:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]", depth + 1)
    else:
        yield path, value


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _remedy(value: Any) -> str:
    if isinstance(value, nn.Module | torch.optim.Optimizer):
        return "; store its state_dict()"
    if type(value).__module__ == "numpy":
        return "; store torch.as_tensor() of it, or .item()"
    return ""
