"""Checks of a library's network while a sweep is planned: on `meta`, where nothing is computed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from torch import nn

from cnncore.catalog import WITH_AUXILIARY_HEADS
from cnncore.error_text import error_line
from cnncore.models.image_sides import describe_sides
from cnncore.models.libraries.names import check_name, split_name
from cnncore.models.libraries.networks import (
    build_library_network,
    class_parameters,
    is_built_for_side,
    torchvision_class,
)
from cnncore.models.on_meta import build_on_meta, show_images
from cnncore.spelling import closest_hint

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
# An option that no network has: a network that takes it ignores what it does not know.
NO_OPTION = "cnngrid_no_such_option"


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
        key = side if is_built_for_side(arch) else None
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
        kind = torchvision_class(name.network)
        # These come from torchvision's function for the network.
        needed = [k for k, p in class_parameters(kind).items() if p.default is p.empty]
    else:
        kind = type(build_on_meta(lambda: build_library_network(arch, 2, None, {})))
        needed = []
    given = {*GIVEN[name.library], *needed}
    return tuple(sorted(key for key in class_parameters(kind) if key not in given))
