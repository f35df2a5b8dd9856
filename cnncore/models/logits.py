"""Logits `(batch, classes)` out of what a network of the user's own returns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def return_logits(model: nn.Module, *, keep_heads: bool) -> None:
    """Let `model` return its logits alone, if it returns them with something else.

    With `keep_heads` it returns a tuple as it is while it trains: its logits, then those of its
    auxiliary heads. A TorchScript module stays as it is, because its copies lose such a hook.
    """
    if not isinstance(model, torch.jit.ScriptModule):
        model.register_forward_hook(partial(_only_logits, keep_heads=keep_heads))


def _only_logits(model: nn.Module, inputs: Any, outputs: Any, *, keep_heads: bool) -> Any:
    if keep_heads and model.training and isinstance(outputs, tuple | list):
        return tuple(outputs)
    return find_logits(outputs)


def find_logits(outputs: Any) -> Any:
    """Return `logits` of an object or a dict, or the first of a tuple or list; else `outputs`."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    if hasattr(outputs, "logits"):  # before tuples: GoogLeNet's is one with names
        return outputs.logits
    if isinstance(outputs, tuple | list) and outputs:
        return outputs[0]
    return outputs


def describe_extra(outputs: Any) -> str | None:
    """Return in words what a network returns beside its logits, None if nothing."""
    found = find_logits(outputs)
    if found is outputs:
        return None
    kind = type(outputs).__name__
    if isinstance(outputs, tuple | list) and not hasattr(outputs, "logits"):
        return f"returns a {kind} of {len(outputs)}: its first is taken as the logits"
    return f"returns a {kind}: its `logits` are taken"


def check_logits(logits: Any, batch: int, classes: int | None = None) -> None:
    """Raise `ValueError` unless `logits` are numbers `(batch, classes)`; None is any count."""
    if not isinstance(logits, Tensor):
        got = type(logits).__name__
    elif logits.dim() != 2 or len(logits) != batch or classes not in (None, logits.shape[1]):
        got = f"the shape {tuple(logits.shape)}"
    elif not logits.is_floating_point():
        got = f"numbers of the type {str(logits.dtype).removeprefix('torch.')}"
    else:
        return
    raise ValueError(
        "the network must return logits of the shape (batch, classes), here "
        f"({batch}, {classes or 'classes'}), but got {got}"
    )
