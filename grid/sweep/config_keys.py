"""Config keys of a sweep file, checks of single values, and the text of their problems."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from cnncore.catalog import DATASETS, NETWORKS, unknown_name
from cnncore.config import AugmentKind, ScheduleKind, TrialConfig
from cnncore.spelling import closest_hint
from grid.sweep.axes import AxisKind
from grid.sweep.yaml_source import dotted

# Keys that the planner fills in; a sweep file may not.
FILLED_BY_PLAN = ("data_fingerprint", "pretrained_fingerprint")


@cache
def _key_model(key: str) -> type[BaseModel]:
    """Make a model of one config key alone, under the name `value`."""
    info = TrialConfig.model_fields[key]
    field: Any = (info.annotation, info)
    return create_model("Key", __config__=TrialConfig.model_config, value=field)


def config_keys() -> tuple[str, ...]:
    """Return every key of a config that a sweep file may set."""
    return tuple(key for key in TrialConfig.model_fields if key not in FILLED_BY_PLAN)


def check_value(key: str, value: Any) -> tuple[Any, list[str]]:
    """Return a config value converted to its type, and its problems."""
    if key not in config_keys():
        return value, [unknown_key(key, config_keys())]
    try:
        value = _key_model(key)(value=value).value  # type: ignore[attr-defined]  # made above
    except ValidationError as error:
        return value, [_describe_nested(details) for details in error.errors()]
    problem = _unknown_choice(key, value)
    return value, [problem] if problem else []


def _unknown_choice(key: str, value: Any) -> str | None:
    """Return the problem of an unknown architecture or data set, if the value is one."""
    if not isinstance(value, str):
        return None
    if key == "arch" and ":" not in value and value not in NETWORKS:
        return unknown_name("architecture", value, NETWORKS)
    if key == "dataset" and ":" not in value and value not in DATASETS:
        return unknown_name("data set", value, DATASETS)
    return None


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Describe a key that is not among `known`."""
    known = list(known)
    hint = closest_hint(key, known, cutoff=0.5) or f"; known: {', '.join(sorted(known))}"
    return f"unknown key {key!r}{hint}"


def describe_error(details: Any) -> str:
    """Describe one of pydantic's errors in a phrase, with the value that was got."""
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    kind = details["type"]
    got = details.get("input")
    if kind == "missing":
        return "is required"
    if kind == "union_tag_invalid":
        context = details["ctx"]
        tags = context["expected_tags"].replace("'", "")
        hint = closest_hint(context["tag"], tags.split(", "))
        return f"unknown name {context['tag']!r}{hint}; known: {tags}"
    if kind == "literal_error":
        expected = details["ctx"]["expected"].replace("'", "")
        hint = closest_hint(got, expected.replace(" or ", ", ").split(", "))
        return f"unknown value {got!r}{hint}; known: {expected}"
    if kind in ("tuple_type", "list_type"):
        return f"wants a list, such as [{got}], but got {got!r}"
    if kind in ("dict_type", "model_type", "model_attributes_type", "union_tag_not_found"):
        return f"wants keys and values, but got {got!r}"
    if kind == "too_short":
        return "is empty; give at least one value"
    if kind == "extra_forbidden":
        return f"unknown key {details['loc'][-1]!r}"
    if kind == "string_pattern_mismatch":
        return f"a name of letters, digits, '.', '_' and '-' (it becomes a folder), but got {got!r}"
    if kind == "value_error":
        return str(message)
    return f"{message[0].lower()}{message[1:]}, but got {got!r}"


def _describe_nested(details: Any) -> str:
    """Describe an error inside a value with keys of its own: `every: is required`."""
    path = [part for part in details["loc"][1:] if part not in UNION_TAGS]
    if details["type"] == "extra_forbidden":
        path = path[:-1]
    key = dotted(tuple(path))
    return f"{key}: {describe_error(details)}" if key else describe_error(details)


WITH_KIND = AxisKind | ScheduleKind | AugmentKind
# Tags of unions and validators appear in pydantic's path, not in the file.
UNION_TAGS = {
    *(get_args(part.model_fields["kind"].annotation)[0] for part in get_args(WITH_KIND)),
    *("literal['auto']", "constrained-float", "float"),
    *("literal['dataset','imagenet','half']", "MeanStd"),
    *("keep_name", "keep_top"),
}
