"""Networks of torchvision and timm, built as the libraries build them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from torch import nn

from cnncore.catalog import WITH_AUXILIARY_HEADS, check_network
from cnncore.models.libraries.names import check_name, split_name, timm_facts

# Parameters of torchvision's networks that are built for one image side.
SIDES = ("image_size", "input_size")


def build_library_network(
    arch: str, classes: int, image_size: int | None, options: Mapping[str, Any]
) -> nn.Module:
    """Build a library's network with fresh weights; `image_size` None is that of its design.

    Raises `ValueError` for an unknown name, else what the library raises.
    """
    if problem := check_network(arch, image_size or 1, options) or check_name(arch):
        raise ValueError(problem)
    name = split_name(arch)
    given = {key: value for key, value in options.items() if value is not None}
    aux_weight = given.pop("aux_weight", None)
    if name.library == "timm":
        return create_timm(name.full, classes, image_size, given)
    return _create_torchvision(arch, name.network, classes, image_size, aux_weight, given)


def is_built_for_side(arch: str) -> bool:
    """Check whether the layers of a network depend on the image side."""
    name = split_name(arch)
    if name.library == "timm":
        return bool(timm_facts(name.full).fixed_input_size)
    return not class_parameters(torchvision_class(name.network)).keys().isdisjoint(SIDES)


def create_timm(
    full_name: str, classes: int, image_size: int | None, options: Mapping[str, Any], **weights: Any
) -> nn.Module:
    """Call timm's `create_model`; with `img_size` for networks that are built for one side."""
    import timm

    side_matters = timm_facts(full_name).fixed_input_size
    size = {"img_size": image_size} if side_matters and image_size else {}
    arguments = {"num_classes": classes, **size, **options, **weights}
    model: nn.Module = timm.create_model(full_name, **arguments)
    return model


def _create_torchvision(
    arch: str,
    network: str,
    classes: int,
    image_size: int | None,
    aux_weight: float | None,
    options: Mapping[str, Any],
) -> nn.Module:
    """Call torchvision's builder with the parameters that the network's class has."""
    from torchvision.models import get_model

    arguments: dict[str, Any] = {"num_classes": classes, **options}
    parameters = class_parameters(torchvision_class(network))
    if "image_size" in parameters and image_size:
        arguments["image_size"] = image_size
    if "input_size" in parameters and image_size:
        arguments["input_size"] = (image_size, image_size)
    if arch.partition(".")[0] in WITH_AUXILIARY_HEADS:
        arguments["aux_logits"] = aux_weight is None or aux_weight > 0
        arguments.setdefault("init_weights", True)  # torchvision's default, with a warning
    model: nn.Module = get_model(network, weights=None, **arguments)
    return model


def torchvision_class(network: str) -> type[nn.Module]:
    """Return the class of a network of torchvision."""
    from torchvision.models import get_model_builder

    hints = typing.get_type_hints(inspect.unwrap(get_model_builder(network)))
    found: type[nn.Module] = hints["return"]
    return found


def class_parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class, and of those that it passes the others on to."""
    found: dict[str, inspect.Parameter] = {}
    for ancestor in kind.__mro__:
        if "__init__" not in vars(ancestor) or ancestor is nn.Module:
            continue
        own = dict(inspect.signature(vars(ancestor)["__init__"]).parameters)
        found = {**own, **found}
        if not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in own.values()):
            break
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key: p for key, p in found.items() if p.kind in named and key != "self"}
