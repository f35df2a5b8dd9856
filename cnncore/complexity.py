"""Complexity of a network: parameters, multiply-accumulates, activations, table of layers."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cnncore.catalog import NETWORKS
from cnncore.measure.evaluate import eval_mode
from cnncore.measure.network_operations import (
    NetworkOperations,
    Operation,
    count_operations,
)
from cnncore.measure.operations import counting
from cnncore.models import build_model
from cnncore.models.classifier_head import freeze_features
from cnncore.models.on_meta import build_on_meta

log = logging.getLogger(__name__)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AnyTensor = TypeVar("AnyTensor", bound=Tensor)

COUNTED_LAYERS = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, nn.Linear)


@dataclass(frozen=True)
class ParameterCount:
    """Elements with a gradient, and elements without: frozen weights and stored statistics."""

    trainable: int
    non_trainable: int


@dataclass(frozen=True)
class Complexity:
    """Multiply-accumulates (FLOPs are twice that) and output elements of one image's forward pass.

    Multiply-accumulates are those of all convolutions and matrix products, output elements those
    of convolutions and linear layers. Both are None if one of them cannot be counted.
    """

    macs: int | None
    activations: int | None


@dataclass(frozen=True)
class Layer:
    """Module with its name, type, output `(channels, height, width)` and its own counts.

    What belongs to a module inside it counts there. `output_shape` is that of its last use, without
    the batch; None if it was never used. `macs` are those of all its uses for one image; None if
    the network does something whose count is not known.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    trainable: int
    non_trainable: int
    macs: int | None


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count parameters as Keras does.

    Frozen weights and BatchNorm's mean and variance are non-trainable. Floating-point buffers
    count; integer ones (BatchNorm's `num_batches_tracked`) never do.
    A tensor shared by several modules counts once.
    """
    return _count(list(model.parameters()), list(model.buffers()))


def measure_complexity(model: nn.Module, image_size: int) -> Complexity:
    """Measure multiply-accumulates and activations for one 3 x side x side image.

    Runs one image of zeros in eval mode on the model's device; weights, statistics, modes and
    random state stay unchanged. Convolutions and matrix products count however they are written:
    as modules, as functions, in TorchScript, inside attention. Both numbers are None if the
    network does something whose count is not known.
    """
    try:
        with counting() as counter:
            _forward(model, image_size)
    except Exception:
        _forward(model, image_size)  # raises the network's own error, if it was not the counting
        return Complexity(None, None)
    if counter.unknown:
        log.info("multiply-accumulates are not counted: %s", counter.unknown)
        return Complexity(None, None)
    return Complexity(counter.macs, counter.activations)


def layer_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Return the multiply-accumulates of one use of a convolution or linear layer, from shapes."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    # Each element takes part in one multiplication per weight of its filter; a transposed
    # convolution applies the filter to its input, the others to their output.
    elements = inputs if isinstance(layer, TRANSPOSED_CONVOLUTIONS) else output
    return elements.numel() * prod(weight.shape[1:])


def layer_table(model: nn.Module, image_size: int) -> list[Layer]:
    """List the layers of `model`, in the order of their registration, for one image.

    A layer is a module without children, or one with parameters or multiply-accumulates of its own,
    such as attention. A tensor that several modules share counts with the first. So the counts add
    up to those of the network. Leaves the model unchanged, as `measure_complexity` does.
    """
    uses = _Uses()
    try:
        with counting() as counter:
            uses.record(model, image_size, lambda: counter.macs)
        known = counter.unknown is None
    except Exception:
        uses, known = _Uses(), False
        uses.record(model, image_size, lambda: 0)
    rows, seen = [], set[int]()
    for name, module in model.named_modules():
        parameters = _unseen(module.parameters(recurse=False), seen)
        buffers = _unseen(module.buffers(recurse=False), seen)
        macs = uses.macs.get(module, 0)
        if any(module.children()) and not (parameters or buffers or macs):
            continue
        count = _count(parameters, buffers)
        rows.append(
            Layer(
                name,
                type(module).__name__,
                uses.shapes.get(module),
                count.trainable,
                count.non_trainable,
                macs if known else None,
            )
        )
    return rows


class _Uses:
    """Output shapes and multiply-accumulates of the modules that one image passes."""

    def __init__(self) -> None:
        self.shapes: dict[nn.Module, tuple[int, ...]] = {}
        self.macs: dict[nn.Module, int] = {}

    def record(self, model: nn.Module, image_size: int, total: Callable[[], int]) -> None:
        """Pass an image through a network; `total` returns the count so far."""
        # Of each module that runs now: the count at its start, and what modules inside it took.
        running: list[list[int]] = []

        def enter(module: nn.Module, inputs: Any) -> None:
            running.append([total(), 0])

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            start, inside = running.pop()
            used = total() - start
            self.macs[module] = self.macs.get(module, 0) + used - inside
            if running:
                running[-1][1] += used
            if isinstance(output, Tensor):
                self.shapes[module] = tuple(output.shape[1:])

        modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
        handles = [module.register_forward_pre_hook(enter) for module in modules]
        handles += [module.register_forward_hook(leave, prepend=True) for module in modules]
        try:
            _forward(model, image_size)
        finally:
            for handle in handles:
                handle.remove()


def _unseen(tensors: Iterable[AnyTensor], seen: set[int]) -> list[AnyTensor]:
    """Return the tensors that are not among those seen, and add them."""
    new = [tensor for tensor in tensors if id(tensor) not in seen]
    seen.update(map(id, new))
    return new


def describe_network(
    arch: str, *, classes: int, image_size: int, **options: Any
) -> tuple[ParameterCount, Complexity]:
    """Count and measure a fresh network by name; torch's random state stays unchanged.

    The result is cached in this process for calls with equal arguments (options compare as JSON).
    Raises the errors of `build_model`.
    """
    return _describe(arch, classes, image_size, json.dumps(options, sort_keys=True))


@lru_cache(maxsize=256)
def _describe(
    arch: str, classes: int, image_size: int, options: str
) -> tuple[ParameterCount, Complexity]:
    arguments = {"classes": classes, "image_size": image_size, **json.loads(options)}
    if arch in NETWORKS:
        # Memory without values: drawing AlexNet's weights takes longer than all the rest. The
        # forward pass does not run on `meta`, because its first use there imports for 0.9 s.
        with torch.device("meta"):
            model = build_model(arch, **arguments)
        model.to_empty(device="cpu")
        return count_parameters(model), measure_complexity(model, image_size)
    states = random.getstate(), np.random.get_state()
    # On `meta` attention is not fused, and nothing is computed; but not every network can go there.
    for on_meta in (True, False):
        try:
            with torch.random.fork_rng(devices=[]):
                if on_meta:
                    model = build_on_meta(lambda: build_model(arch, **arguments))
                else:
                    model = build_model(arch, **arguments)
            complexity = measure_complexity(model, image_size)
        except Exception:
            if not on_meta:
                raise
        else:
            if not on_meta or complexity.macs is not None:
                return count_parameters(model), complexity
        random.setstate(states[0])
        np.random.set_state(states[1])
    raise AssertionError("unreachable")


def network_operations(
    arch: str, *, classes: int, image_size: int, freeze: bool = False, **options: Any
) -> NetworkOperations:
    """Count what the operations of a fresh network by name do, without computing anything.

    With `freeze` all weights but those of the head are frozen. A network that cannot go to `meta`
    is measured by `describe_network`, and counts as a single convolution; with no operation if
    that cannot count it. Cached and random state as for `describe_network`, whose errors it
    raises.
    """
    return _operations(arch, classes, image_size, freeze, json.dumps(options, sort_keys=True))


@lru_cache(maxsize=1024)
def _operations(
    arch: str, classes: int, image_size: int, freeze: bool, options: str
) -> NetworkOperations:
    arguments = {"classes": classes, "image_size": image_size, **json.loads(options)}
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            model = build_on_meta(lambda: build_model(arch, **arguments))
            if freeze:
                freeze_features(model)
            return count_operations(model, image_size)
    except Exception:
        random.setstate(states[0])
        np.random.set_state(states[1])
    parameters, complexity = _describe(arch, classes, image_size, options)
    written = 4.0 * (complexity.activations or 0)
    whole = Operation("convolution", complexity.macs or 0, written, written, 0, gradients=2)
    return NetworkOperations(
        (whole,) if complexity.macs else (),
        trainable=parameters.trainable,
        elements=parameters.trainable + parameters.non_trainable,
        tensors=1,
        matrix_macs=0.0,
    )


def _count(parameters: list[nn.Parameter], buffers: list[Tensor]) -> ParameterCount:
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    statistics = sum(b.numel() for b in buffers if b.is_floating_point())
    return ParameterCount(trainable, frozen + statistics)


def forward_with_hook(
    model: nn.Module, image_size: int, modules: Sequence[nn.Module], hook: Callable[..., None]
) -> None:
    """Run one image of zeros through `model`, on the device and in the type of its weights.

    `hook(module, inputs, output)` is called after every use of each of `modules`.
    """
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        _forward(model, image_size)
    finally:
        for handle in handles:
            handle.remove()


def _forward(model: nn.Module, image_size: int) -> None:
    weight = next(model.parameters(), torch.empty(0))
    devices = [weight.device] if weight.device.type == "cuda" else []
    image = torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)
    # Not `inference_mode`, under which operations do not arrive by their parts.
    with eval_mode(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
        model(image)
