"""Files of weights as training code leaves them: read without running code, names made plain.

A file holds a state dict, alone or beside other values of a checkpoint, and its names may open with
those of wrappers such as `module.` of `DataParallel`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint
from cnncore.models.pretrained_source import WeightsError
from cnncore.regular_file import check_regular

Weights = dict[str, Tensor]

# Keys that checkpoints have their weights under: ours, then averages over training, which are what
# timm and torchvision's references evaluate, then the usual ones.
CHECKPOINT_KEYS = (
    *("weights", "state_dict_ema", "model_ema", "ema_state_dict"),
    *("state_dict", "model_state_dict", "model", "net", "network", "module"),
)
# Parts of names that torch.compile, FSDP and activation checkpointing put in anywhere.
WRAPPERS = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Names that a message lists.
NAMED = 3


class StandIn:
    """Stand-in for an object of any class or the result of any function: it does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        """Ignore the arguments that a pickle gives."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


def read_weights(path: str | Path) -> Weights:
    """Read the tensors of a state dict or of a checkpoint, `.safetensors` too.

    Raises `WeightsError`. No code runs: what is no tensor or plain value becomes a `StandIn`.
    """
    if Path(path).suffix == ".safetensors":
        return _read_safetensors(path)
    # Settings and measurements of others' training loops lie beside the weights.
    foreign = _foreign_names(path)
    try:
        with torch.serialization.safe_globals([(StandIn, name) for name in foreign]):
            payload = load_checkpoint(path, checksums=False)
        if payload is None:
            raise WeightsError(f"pretrained: there is no file {path}")
        return _state_dict(payload, path)
    except (DamagedCheckpoint, WeightsError) as problem:
        foreign = foreign or re.findall(r"GLOBAL (\S+)", str(problem.__cause__))
        if isinstance(problem, WeightsError) and not foreign:
            raise
        reason = f"{path}: holds {_some(foreign)}" if foreign else str(problem)
        raise WeightsError(
            f"{reason}; a weights file must hold tensors only, so that reading it cannot run code: "
            "write it by torch.save(model.state_dict(), FILE)"
        ) from None


def _foreign_names(path: str | Path) -> list[str]:
    """Return the classes and functions that the pickle of a file names; none if it has no such."""
    try:
        check_regular(path)
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of an older or damaged file; reading it tells more
        return []


def _read_safetensors(path: str | Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular(path)
        weights: Weights = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"pretrained: there is no file {path}") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}") from None
    return weights


def _state_dict(payload: Mapping[Any, Any], path: str | Path) -> Weights:
    """Return the state dict of a checkpoint. Raises `WeightsError` if it is not exactly one."""
    if weights := _tensors(payload):
        return weights
    inner = {str(key): found for key, value in payload.items() if (found := _tensors(value))}
    keys = [key for key in CHECKPOINT_KEYS if key in inner] or list(inner)
    if len(keys) == 1 or (keys and keys[0] in CHECKPOINT_KEYS):
        return inner[keys[0]]
    has = f"it has several: {', '.join(keys)}" if keys else f"its keys: {_some(payload)}"
    raise WeightsError(
        f"{path}: expected a state dict, or a checkpoint with one under "
        f"{', '.join(CHECKPOINT_KEYS)}; {has}"
    )


def _tensors(value: Any) -> Weights:
    """Return a state dict without modules' extra state; empty if it is none."""
    if not isinstance(value, Mapping):
        return {}
    named = {key: v for key, v in value.items() if not str(key).endswith("_extra_state")}
    right = all(isinstance(key, str) and torch.is_tensor(v) for key, v in named.items())
    return named if right else {}


def with_names_of(weights: Weights, own: Collection[str], source: str) -> tuple[Weights, str]:
    """Return weights under the network's own names, and the prefix that was taken off.

    Of several modules in a file, such as a network and its loss, it is the one that has all the
    names of the network. Raises `WeightsError` if several have, or if no name fits.
    """
    plain = {WRAPPERS.sub("", name): value for name, value in weights.items()}
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    prefixes: Counter[str] = Counter()
    for name in plain:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        prefixes.update(name[:start] for start in starts if name[start:] in wanted)
    if not prefixes:
        raise WeightsError(
            f"{source} does not fit: none of its names is the network's: {_some(weights)} in the "
            f"file, {_some(own)} in the network"
        )
    whole = sorted(prefix for prefix, count in prefixes.items() if count == len(wanted))
    if len(whole) > 1 and "" not in whole:
        raise WeightsError(
            f"{source} has several networks, by the prefixes of their names: {', '.join(whole)}; "
            "write the one that is meant into a file of its own"
        )
    [(likeliest, count)] = prefixes.most_common(1)
    prefix = "" if "" in whole or 2 * count < len(wanted) else (whole or [likeliest])[0]
    return {
        name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)
    }, prefix


def _some(names: Collection[Any]) -> str:
    """Return the first names as text."""
    first = ", ".join(str(name) for name, _ in zip(names, range(NAMED), strict=False)) or "none"
    return f"{first}, ..." if len(names) > NAMED else first
