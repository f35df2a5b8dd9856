"""Building of a network with fresh weights from its name or `package.module:function`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from cnncore.catalog import NETWORKS, check_network
from cnncore.functions import import_function


def build_model(arch: str, *, classes: int, image_size: int, **options: Any) -> nn.Module:
    """Build a network that maps `(batch, 3, image_size, image_size)` to logits `(batch, classes)`.

    `arch` is a name of the catalog or the user's own `package.module:function`. That function is
    called with `classes`, with `image_size` if it has this parameter, and with the options. An
    option whose value is None is left out. Weights are drawn from torch's global generator:
    `torch.manual_seed` before the call makes them repeatable.

    Raises `ValueError` for an unknown `arch`, an option it does not take, or an image too small
    or too large for it.
    """
    if problem := check_network(arch, image_size, options):
        raise ValueError(problem)
    network, function = NETWORKS.get(arch), import_network(arch)
    arguments: dict[str, Any] = {"classes": classes} | {
        k: v for k, v in options.items() if v is not None
    }
    parameters = inspect.signature(function).parameters
    if network and "network" in parameters:
        arguments["network"] = network.torchvision
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_any or "image_size" in parameters:
        arguments["image_size"] = image_size
    if not takes_any and (refused := sorted(arguments.keys() - parameters.keys())):
        raise ValueError(
            f"{arch} does not take {', '.join(refused)}; it takes {', '.join(parameters)}"
        )
    model = function(**arguments)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{arch} must return a torch.nn.Module, got {type(model).__name__}")
    return model


def import_network(arch: str) -> Callable[..., Any]:
    """Import the function that builds a network.

    Call it before seeding: a module may draw random numbers when it is first imported. Raises
    `ValueError` if it cannot be imported.
    """
    return import_function(NETWORKS[arch].build if arch in NETWORKS else arch)
