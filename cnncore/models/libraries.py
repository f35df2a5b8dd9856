"""Networks of torchvision and timm by name, such as `timm:resnet18` or `torchvision:swin_t`.

`timm:resnet18.a1_in1k` also names the pre-trained weights, by their tag in timm;
`torchvision:resnet50.IMAGENET1K_V2` by their name in torchvision.
"""

from __future__ import annotations

import inspect
import json
import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from torch import nn

from cnncore.catalog import WITH_AUXILIARY_HEADS, check_network
from cnncore.error_text import error_line
from cnncore.models.image_sides import describe_sides
from cnncore.models.on_meta import build_on_meta, show_images
from cnncore.spelling import as_written, closest_hint

# Parameters of the libraries' functions that cnngrid sets itself, or that load weights unseen.
GIVEN: Mapping[str, tuple[str, ...]] = {
    "torchvision": (
        *("classes", "num_classes", "image_size", "input_size", "weights", "progress"),
        *("weights_backbone", "aux_logits", "transform_input"),
    ),
    "timm": (
        *("classes", "num_classes", "image_size", "img_size", "in_chans", "pretrained"),
        *("pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "checkpoint_path"),
        *("cache_dir", "features_only", "model_name", "scriptable", "no_jit", "exportable"),
        *("cfg", "device", "dtype"),
    ),
}
# Parameters of torchvision's networks that are built for one image side.
SIDES = ("image_size", "input_size")
# An option that no network has: a network that takes it ignores what it does not know.
NO_OPTION = "cnngrid_no_such_option"


@dataclass(frozen=True)
class LibraryName:
    """Library, network and tag of the weights (empty if none is named)."""

    library: str
    network: str
    tag: str

    @property
    def full(self) -> str:
        """The network with its tag, as timm writes both."""
        return f"{self.network}.{self.tag}" if self.tag else self.network


def split_name(arch: str) -> LibraryName:
    """Split `timm:resnet18.a1_in1k` into its parts."""
    library, _, full = arch.partition(":")
    network, _, tag = full.partition(".")
    return LibraryName(library, network, tag)


@cache
def known_networks(library: str) -> tuple[str, ...]:
    """Return the names of a library's networks for classification, sorted."""
    if library == "timm":
        import timm

        return tuple(sorted(timm.list_models()))
    import torchvision

    return tuple(sorted(torchvision.models.list_models(module=torchvision.models)))


@cache
def known_tags(library: str, network: str) -> tuple[str, ...]:
    """Return the names of a network's published weights, the default first."""
    if library == "timm":
        from timm.models import get_arch_pretrained_cfgs

        found = get_arch_pretrained_cfgs(network).items()
        return tuple(
            name.partition(".")[2] for name, about in found if about.has_weights and "." in name
        )
    from torchvision.models import get_model_weights

    # The same version of the weights as for the networks of the catalog comes first.
    return tuple(sorted((w.name for w in get_model_weights(network)), key=_version_order))


def _version_order(tag: str) -> tuple[bool, str]:
    return tag != "IMAGENET1K_V1", tag


def design_side(library: str, network: str) -> int:
    """Return the image side, in pixels, that a network was designed for."""
    if library == "timm":
        import timm

        return int(timm.get_pretrained_cfg(network).input_size[-1])
    from torchvision.models import get_model_weights

    network, _, tag = network.partition(".")
    tag = tag or known_tags(library, network)[0]
    return int(get_model_weights(network)[tag].transforms.keywords["crop_size"])


def check_name(arch: str) -> str | None:
    """Return the problem with a library's network by its name, or None."""
    name = split_name(arch)
    known = known_networks(name.library)
    if name.network not in known:
        return _unknown_network(name, known)
    tags = known_tags(name.library, name.network)
    if name.tag and name.tag not in tags:
        hint = closest_hint(name.tag, tags, cutoff=0.4)
        return (
            f"{name.library}:{name.network} has no weights {as_written(name.tag)}{hint}; it has "
            f"{', '.join(tags) or 'none'}"
        )
    return None


def _unknown_network(name: LibraryName, known: tuple[str, ...]) -> str:
    """Return a message with the closest name of the library."""
    if name.library == "timm":
        from timm.models import get_deprecated_models

        new = get_deprecated_models().get(name.full) or get_deprecated_models().get(name.network)
        if new:
            return f"timm has renamed {name.full}: write timm:{new}"
    closest = closest_hint(name.network, known)
    return (
        f"unknown network {as_written(name.network)} of {name.library}{closest}; "
        f"`cnngrid archs '{name.library}:*'` lists its {len(known)}; a module of your own needs "
        f"another name than {name.library}"
    )


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


def _is_built_for_side(arch: str) -> bool:
    """Check whether the layers of a network depend on the image side."""
    name = split_name(arch)
    if name.library == "timm":
        import timm

        return bool(timm.get_pretrained_cfg(name.full).fixed_input_size)
    return not class_parameters(_torchvision_class(name.network)).keys().isdisjoint(SIDES)


def create_timm(
    full_name: str, classes: int, image_size: int | None, options: Mapping[str, Any], **weights: Any
) -> nn.Module:
    """Call timm's `create_model`; with `img_size` for networks that are built for one side."""
    import timm

    side_matters = timm.get_pretrained_cfg(full_name).fixed_input_size
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
    parameters = class_parameters(_torchvision_class(network))
    if "image_size" in parameters and image_size:
        arguments["image_size"] = image_size
    if "input_size" in parameters and image_size:
        arguments["input_size"] = (image_size, image_size)
    if arch.partition(".")[0] in WITH_AUXILIARY_HEADS:
        arguments["aux_logits"] = aux_weight is None or aux_weight > 0
        arguments.setdefault("init_weights", True)  # torchvision's default, with a warning
    model: nn.Module = get_model(network, weights=None, **arguments)
    return model


def _torchvision_class(network: str) -> type[nn.Module]:
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
        own = dict(inspect.signature(ancestor.__init__).parameters)
        found = {**own, **found}
        if not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in own.values()):
            break
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {key: p for key, p in found.items() if p.kind in named and key != "self"}


def check_library_network(arch: str, image_size: int, options: Mapping[str, Any]) -> str | None:
    """Return the problem with a library's network, its options or this image side, or None.

    The network is built on `meta` and sees images there, so nothing is computed.
    """
    if problem := check_name(arch):
        return problem
    given = {key: value for key, value in options.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about their own defaults
        return _check(arch, image_size, json.dumps(given, sort_keys=True, default=str))


@lru_cache(maxsize=256)
def _check(arch: str, image_size: int, options_json: str) -> str | None:
    options = json.loads(options_json)
    library = split_name(arch).library
    if given := sorted(options.keys() & set(GIVEN[library])):
        return f"{arch}: {', '.join(given)} is given by cnngrid and cannot be an option"
    if problem := _check_aux_weight(arch, options) or _check_options(arch, options):
        return problem

    models: dict[int | None, nn.Module] = {}

    def problem_at(side: int) -> str | None:
        key = side if _is_built_for_side(arch) else None
        try:
            if key not in models:
                models.clear()
                models[key] = build_on_meta(lambda: build_library_network(arch, 2, side, options))
            show_images(models[key], side, 2)
        except Exception as error:
            return error_line(error)
        return None

    if (reason := problem_at(image_size)) is None:
        return None
    sides = describe_sides(lambda side: problem_at(side) is None, image_size)
    if sides is None:
        return f"{arch} takes no images of {image_size} pixels: {reason}"
    return f"{arch} takes no images of {image_size} pixels; {sides}"


def _check_aux_weight(arch: str, options: Mapping[str, Any]) -> str | None:
    """Return the problem with a weight of auxiliary heads that a network does not have."""
    has_heads = arch.partition(".")[0] in WITH_AUXILIARY_HEADS or options.get("aux_logits")
    if "aux_weight" in options and not has_heads:
        return f"{arch} has no auxiliary heads, so aux_weight means nothing; leave it out"
    return None


def _check_options(arch: str, options: Mapping[str, Any]) -> str | None:
    """Return the problem with options, at the image side of the network's design, or None."""
    names = sorted(options.keys() - {"aux_weight"})
    if not names:
        return None

    def build(**more: Any) -> nn.Module:
        return build_on_meta(lambda: build_library_network(arch, 2, None, {**options, **more}))

    known = _option_names(arch)
    unknown = [name for name in names if name not in known]
    refused = (
        f"{arch} does not take {', '.join(unknown)}"
        f"{closest_hint(unknown[0], known) if unknown else ''}; its options: "
        f"{', '.join(known) or 'none'}"
    )
    try:
        build()
    except TypeError as error:
        if unknown and "unexpected keyword" in str(error):
            return refused
        return f"{arch}: {error_line(error)}"
    except Exception as error:
        return f"{arch}: {error_line(error)}"
    if unknown and _ignores_unknown(build):
        return refused
    return None


def _ignores_unknown(build: Any) -> bool:
    """Check whether a network ignores an option that it does not know."""
    try:
        build(**{NO_OPTION: 1})
    except Exception:
        return False
    return True


@cache
def _option_names(arch: str) -> tuple[str, ...]:
    """Return the options of a network that its class names."""
    name = split_name(arch)
    if name.library == "torchvision":
        kind = _torchvision_class(name.network)
        # These come from torchvision's function for the network.
        needed = [k for k, p in class_parameters(kind).items() if p.default is p.empty]
    else:
        kind = type(build_on_meta(lambda: build_library_network(arch, 2, None, {})))
        needed = []
    given = {*GIVEN[name.library], *needed}
    return tuple(sorted(key for key in class_parameters(kind) if key not in given))
