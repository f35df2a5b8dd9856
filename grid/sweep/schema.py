"""JSON Schema of a sweep file, for editors."""

from __future__ import annotations

from typing import Any

from cnncore.catalog import DATASETS, NETWORKS
from cnncore.config import OPTIMIZERS, TrialConfig
from grid.sweep.config_keys import config_keys, option_keys
from grid.sweep.spec import SweepSpec


def sweep_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a sweep file, with every config key of each section."""
    schema = SweepSpec.model_json_schema()
    config = TrialConfig.model_json_schema()
    definitions = {**schema.pop("$defs", {}), **config.pop("$defs", {})}
    for name, part in definitions.items():
        if "kind" in part.get("properties", {}):
            definitions[name] = {"anyOf": [part, *_short_forms(part)]}
        if name == "OwnTransform":  # named by the user's own function
            definitions[name]["anyOf"] += [
                {"type": "string", "pattern": ":"},
                {
                    "type": "object",
                    "patternProperties": {":": {"type": ["object", "null"]}},
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ]
    keys = {key: config["properties"][key] for key in config_keys()}
    keys["arch"] = {**keys["arch"], "anyOf": [{"enum": sorted(NETWORKS)}, {"pattern": ":"}]}
    keys["dataset"] = {**keys["dataset"], "anyOf": [{"enum": sorted(DATASETS)}, {"pattern": ":"}]}
    names = {"anyOf": [{"enum": sorted(OPTIMIZERS)}, {"pattern": ":"}]}
    keys["optimizer"] = {**keys["optimizer"], **names}
    keys["schedule"] = {
        "anyOf": [_without_default(keys["schedule"]), {"type": "string", "pattern": ":"}]
    }
    for value in keys.values():
        value.pop("default", None)
    lists = {key: {"type": "array", "minItems": 1, "items": value} for key, value in keys.items()}
    option = rf"^({'|'.join(option_keys())})\.\w+$"
    closed = {"type": "object", "additionalProperties": False}
    once = {**closed, "properties": keys, "patternProperties": {option: {}}}
    schema["properties"]["fixed"] = once
    listed = {option: {"type": "array", "minItems": 1}}
    schema["properties"]["compare"] = {
        **closed, "properties": lists, "patternProperties": listed, "minProperties": 1
    }  # fmt: skip
    definitions["Rule"]["properties"]["set"] = once
    axes = definitions["Tune"]["properties"]["axes"]
    axes["propertyNames"] = {"anyOf": [{"enum": list(config_keys())}, {"pattern": option}]}
    axes["additionalProperties"] = AXIS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cnngrid sweep",
        **schema,
        "$defs": definitions,
    }


def _without_default(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "default"}


def _short_forms(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return short forms of a part: `{kind: options}`, and `kind` if no option is required."""
    kind = part["properties"]["kind"]["const"]
    options = {name: value for name, value in part["properties"].items() if name != "kind"}
    named = {
        "type": "object",
        "properties": {kind: {**part, "properties": options}},
        "required": [kind],
        "additionalProperties": False,
    }
    return [named] if part.get("required") else [{"const": kind}, named]


_PAIR: dict[str, Any] = {
    "type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2
}  # fmt: skip
AXIS: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "minItems": 1},
        {
            "type": "object",
            "properties": {
                "choice": {"type": "array", "minItems": 1},
                "uniform": _PAIR,
                "log_uniform": _PAIR,
                "int_range": _PAIR,
                "when": {"type": "object"},
            },
            "additionalProperties": False,
        },
    ]
}
