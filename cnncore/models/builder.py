"""Building of a network with fresh weights from its name or `package.module:function`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnncore.catalog import NETWORKS, check_network, library_of
from cnncore.functions import import_function
from cnncore.models.logits import return_logits
from cnncore.spelling import closest_hint

# Names that the parameter for the number of classes may have.
COUNT_NAMES = ("classes", "num_classes")


def build_model(arch: str, *, classes: int, image_size: int, **options: Any) -> nn.Module:
    """Build a network that maps `(batch, 3, image_size, image_size)` to logits `(batch, classes)`.

    `arch` is a name of the catalog, a library's network such as `timm:resnet18`, or the user's own
    `package.module:function` or class. The last two are called with `classes` (or `num_classes`, if
    they have this parameter), with `image_size` if they have this parameter, and with the options.
    An option whose value is None is left out. Lazy layers get their shapes from one image of zeros.
    If a network that is not of the catalog returns a tuple, a list, a dict or an object, the one
    built here returns its first entry or `logits`; with the option `aux_weight` it returns a tuple
    as it is while it trains. Weights are drawn from torch's global generator: `torch.manual_seed`
    before the call makes them repeatable.

    Raises `ValueError` for an unknown `arch`, an option it does not take, an image too small
    or too large for it, or layers that cannot be trained here.
    """
    if problem := check_network(arch, image_size, options):
        raise ValueError(problem)
    network, function = NETWORKS.get(arch), import_network(arch)
    arguments = {k: v for k, v in options.items() if v is not None}
    if library_of(arch):
        model = function(classes, image_size, arguments)
    elif network is None:
        model = _call(arch, function, classes, image_size, arguments)
    else:
        parameters = inspect.signature(function).parameters
        if "network" in parameters:
            arguments["network"] = network.torchvision
        if "image_size" in parameters:
            arguments["image_size"] = image_size
        model = function(classes=classes, **arguments)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{arch} must return a torch.nn.Module, got {type(model).__name__}")
    if network is None:
        return_logits(model, keep_heads=bool(options.get("aux_weight")))
        _shape_lazy_layers(arch, model, image_size)
        _check_layers(arch, model)
    return model


def import_network(arch: str) -> Callable[..., Any]:
    """Import the function that builds a network.

    Call it before seeding: a module may draw random numbers when it is first imported. Raises
    `ValueError` if it cannot be imported.
    """
    if library_of(arch):
        from cnncore.models.libraries.networks import build_library_network  # loads the library

        return partial(build_library_network, arch)
    return import_function(NETWORKS[arch].build if arch in NETWORKS else arch)


def _call(
    arch: str,
    function: Callable[..., Any],
    classes: int,
    image_size: int,
    options: Mapping[str, Any],
) -> Any:
    """Call the user's function. Raises `ValueError` if it does not take what it is given."""
    if isinstance(function, nn.Module):
        raise ValueError(f"{arch} is a network: name the function or the class that builds it")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a function of C tells nothing
        return function(**{"classes": classes, **options})
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    count = next((name for name in COUNT_NAMES if name in parameters), None)
    if takes_any and not (count and "image_size" in parameters):
        return _call_passing_on(function, count, classes, image_size, options)
    arguments = {count or "classes": classes, **options}
    if "image_size" in parameters:
        arguments["image_size"] = image_size
    takes = f"it takes {', '.join(parameters)}" if parameters else "it takes nothing"
    if not takes_any and count is None:
        raise ValueError(f"{arch} must take {' or '.join(COUNT_NAMES)}; {takes}")
    if not takes_any and (refused := sorted(arguments.keys() - parameters.keys())):
        hint = closest_hint(refused[0], parameters)
        raise ValueError(f"{arch} does not take {', '.join(refused)}{hint}; {takes}")
    needed = {
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if missing := sorted(needed - arguments.keys()):
        raise ValueError(f"{arch} also needs {', '.join(missing)}: give it under arch_options")
    return function(**arguments)


def _call_passing_on(
    function: Callable[..., Any],
    count: str | None,
    classes: int,
    image_size: int,
    options: Mapping[str, Any],
) -> Any:
    """Call a function that passes any keyword on, as those of torchvision and timm do.

    Only what it calls knows the name of the number of classes, and whether it takes `image_size`.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    # `kwargs["classes"]` in the function itself; torchvision's networks ignore unknown keywords.
    reads = code is not None and "classes" in (*code.co_consts, *code.co_names)
    attempts = [
        {name: classes, **size, **options}
        for name in ([count] if count else COUNT_NAMES if reads else COUNT_NAMES[::-1])
        for size in ({"image_size": image_size}, {})
    ]
    state = torch.get_rng_state()
    for arguments in attempts[:-1]:
        try:
            return function(**arguments)
        except (TypeError, KeyError) as error:
            if not re.search("'(classes|num_classes|image_size)'", str(error)):
                raise
        torch.set_rng_state(state)
    return function(**attempts[-1])


def _shape_lazy_layers(arch: str, model: nn.Module, image_size: int) -> None:
    """Draw the weights of lazy layers, whose shapes a first image tells."""
    tensors = [*model.parameters(), *model.buffers()]
    if not any(map(is_lazy, tensors)):
        return
    was_training, device = model.training, tensors[0].device
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    model.train(was_training)
    unused = [name for name, p in model.named_parameters() if is_lazy(p)]
    if unused:
        raise ValueError(f"{arch}: the lazy layers of {', '.join(unused[:3])} are never used")


def _check_layers(arch: str, model: nn.Module) -> None:
    """Raise `ValueError` for layers and parameters that no trial can train."""
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise ValueError(
                f"{arch}: {name} is a SyncBatchNorm, which needs several processes for one "
                "network; take BatchNorm2d"
            )
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise ValueError(
                f"{arch}: the parameter {name} is complex, and neither costs nor reduced precision "
                "are defined for it; keep its real and imaginary parts, and join them by "
                "torch.view_as_complex"
            )
        if not parameter.is_floating_point():
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(
                f"{arch}: the parameter {name} holds numbers of the type {kind}, which have no "
                "gradient; make it a buffer (register_buffer)"
            )
