"""Config keys of a sweep file, checks of single values, and the text of their problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model

from cnncore.catalog import DATASETS, NETWORKS, unknown_name
from cnncore.config import (
    OWN_LOSS,
    WEIGHTS_LIST,
    WEIGHTS_MAPPING,
    WEIGHTS_NAME,
    AugmentKind,
    LossKind,
    ScheduleKind,
    TrialConfig,
)
from cnncore.spelling import as_written, closest_hint
from grid.sweep.axes import AxisKind
from grid.sweep.yaml_source import KeyPath, dotted

# Keys that the planner fills in; a sweep file may not.
FILLED_BY_PLAN = ("data_fingerprint", "pretrained_fingerprint", "code_fingerprint")


@cache
def _key_model(key: str) -> type[BaseModel]:
    """Make a model of one config key alone, under the name `value`."""
    info = TrialConfig.model_fields[key]
    field: Any = (info.annotation, info)
    return create_model("Key", __config__=TrialConfig.model_config, value=field)


def config_keys() -> tuple[str, ...]:
    """Return every key of a config that a sweep file may set."""
    return tuple(key for key in TrialConfig.model_fields if key not in FILLED_BY_PLAN)


@cache
def option_keys() -> tuple[str, ...]:
    """Return the config keys that hold options by name, such as `optimizer_options`."""
    fields = TrialConfig.model_fields
    return tuple(key for key in config_keys() if dict in _origins(fields[key].annotation))


def _origins(annotation: Any) -> list[Any]:
    return [get_origin(part) or part for part in (get_args(annotation) or (annotation,))]


def is_config_key(key: object) -> bool:
    """Check for a key of a config, or one of its options: `optimizer_options.alpha`."""
    return key in config_keys() or option_of(key) is not None


def option_of(key: object) -> tuple[str, str] | None:
    """Return the key and the option's name of `optimizer_options.alpha`; None for other keys."""
    whole, dot, name = key.partition(".") if isinstance(key, str) else ("", "", "")
    return (whole, name) if dot and whole in option_keys() and name.isidentifier() else None


def sets_option(key: str, values: Iterable[Any], option: str) -> bool:
    """Check whether a key of whole options, with any of these values, sets a single `option`."""
    whole, name = option_of(option) or ("", "")
    return key == whole and any(isinstance(value, Mapping) and name in value for value in values)


def merge_keys(merged: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put keys into a config's: whole options replace options, a single one changes that alone."""
    for key, value in layer.items():
        if option_of(key) is None:
            merged[key] = value
    for key, value in layer.items():
        if (option := option_of(key)) is not None:
            whole, name = option
            merged[whole] = {**(merged.get(whole) or {}), name: value}


@cache
def required_keys() -> tuple[str, ...]:
    """Return the config keys that have no default; each optimizer has one for `weight_decay`."""
    fields = TrialConfig.model_fields.items()
    return tuple(key for key, field in fields if field.is_required() and key != "weight_decay")


def missing_keys(keys: Iterable[str]) -> str:
    """Describe config keys that a sweep has to set and does not."""
    names = list(keys)
    text = f"{', '.join(names[:-1])} and {names[-1]} are" if names[1:] else f"{names[0]} is"
    it = "them" if names[1:] else "it"
    return f"{text} required: give {it} under fixed, compare or tune.axes"


def check_value(key: str, value: Any) -> tuple[Any, list[str]]:
    """Return a config value converted to its type, and its problems."""
    if option_of(key) is not None:
        return value, []  # its optimizer or network knows what it may be
    if key not in config_keys():
        return value, [unknown_key(key, config_keys())]
    try:
        value = _key_model(key)(value=value).value  # type: ignore[attr-defined]  # made above
    except ValidationError as error:
        return value, [
            f"{dotted(path)}: {text}" if path else text
            for path, text in described(error.errors(), below=1)
        ]
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


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Describe a key that is not among `known`."""
    names = sorted(known)
    hint = closest_hint(key, names, cutoff=0.5) or (f"; known: {', '.join(names)}" if names else "")
    return f"unknown key {as_written(key)}{hint}"


def described(
    errors: Sequence[Any], below: int = 0, known: Callable[[KeyPath], Iterable[str]] | None = None
) -> Iterator[tuple[KeyPath, str]]:
    """Yield pydantic's errors as problems, one a fault, with the path after `below` parts.

    `known` returns the keys that a place may have.
    """
    names = {error["loc"][:-1] for error in errors if _is_word(error)}
    for details in errors:
        place, got = details["loc"][:-1], details["input"]
        if details["type"] == "too_short" and got:
            continue  # said of a list whose items are wrong
        if details["type"] == "invalid_key" or details["loc"][-1:] == ("[key]",):
            continue  # `form_problems` says it
        if place in names and isinstance(got, str) != _is_word(details):
            continue  # of a name or a number, only what the value tried to be
        path = _without_tags(details["loc"][below:])
        if details["type"] == "extra_forbidden":
            keys = known(path[:-1]) if known else ()
            yield path, unknown_key(path[-1], keys)
        else:
            yield path, describe_error(details)


def _is_word(details: Any) -> bool:
    """Check whether an error is that of the names in a union of names and other values."""
    return details["type"] == "literal_error" and str(details["loc"][-1]).startswith("literal[")


def _without_tags(loc: KeyPath) -> KeyPath:
    """Return pydantic's path without tags of unions and validators, which no file has.

    After a tag comes a key, also if it is called as another tag: `scale` of `random_erasing`.
    """
    path: list[Any] = []
    after_tag = False
    for part in loc:
        if str(part).startswith(("literal[", "function-", "tuple[")):
            continue
        after_tag = part in UNION_TAGS and not after_tag
        if not after_tag:
            path.append(part)
    return tuple(path)


def describe_error(details: Any) -> str:
    """Describe one of pydantic's errors in a phrase, with the value that was got."""
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    kind = details["type"]
    value = details.get("input")
    got = as_written(value)
    if kind == "missing":
        return "is required"
    if kind == "union_tag_invalid":
        context = details["ctx"]
        tags = context["expected_tags"].replace("'", "").split(", ")
        hint = closest_hint(context["tag"], tags)
        known = ", ".join("package.module:function" if tag == "own" else tag for tag in tags)
        return f"unknown name {as_written(context['tag'])}{hint}; known: {known}"
    if kind == "literal_error":
        expected = details["ctx"]["expected"].replace("'", "")
        hint = closest_hint(value, expected.replace(" or ", ", ").split(", "))
        return f"unknown value {got}{hint}; known: {expected}"
    if kind in ("tuple_type", "list_type"):
        example = f", such as [{value}]" if isinstance(value, (str, int)) and len(got) < 40 else ""
        return f"wants a list{example}, but got {got}"
    if kind in ("dict_type", "model_type", "model_attributes_type", "union_tag_not_found"):
        return f"wants keys and values, but got {got}"
    if kind == "too_short":
        return "is empty; give at least one value"
    if kind == "string_pattern_mismatch":
        return f"a name of letters, digits, '.', '_' and '-' (it becomes a folder), but got {got}"
    if kind == "value_error":
        return str(message)
    return f"{message[0].lower()}{message[1:]}, but got {got}"


WITH_KIND = AxisKind | ScheduleKind | AugmentKind | LossKind
# Tags of unions and validators appear in pydantic's path, not in the file.
UNION_TAGS = {
    *(get_args(part.model_fields["kind"].annotation)[0] for part in get_args(WITH_KIND)),
    *("MeanStd", "keep_name", "keep_top"),
    *(OWN_LOSS, WEIGHTS_NAME, WEIGHTS_LIST, WEIGHTS_MAPPING),
}
