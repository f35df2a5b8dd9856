"""The JSON Schema of a sweep file, for editors."""

from __future__ import annotations

from typing import Any

from cnncore.catalog import DATASETS, NETWORKS
from cnncore.config import TrialConfig
from grid.spec import SweepSpec
from grid.values import config_keys


def sweep_schema() -> dict[str, Any]:
    """JSON Schema (2020-12): the sweep's keys, and every config key where one may stand."""
    schema = SweepSpec.model_json_schema()
    config = TrialConfig.model_json_schema()
    definitions = {**schema.pop("$defs", {}), **config.pop("$defs", {})}
    for name, spelled in _SHORT.items():
        definitions[name] = {"anyOf": [definitions[name], *spelled]}
    keys = {key: config["properties"][key] for key in config_keys()}
    keys["arch"] = {**keys["arch"], "anyOf": [{"enum": sorted(NETWORKS)}, {"pattern": ":"}]}
    keys["dataset"] = {**keys["dataset"], "anyOf": [{"enum": sorted(DATASETS)}, {"pattern": ":"}]}
    for value in keys.values():
        value.pop("default", None)
    lists = {key: {"type": "array", "minItems": 1, "items": value} for key, value in keys.items()}
    once = {"type": "object", "properties": keys, "additionalProperties": False}
    schema["properties"]["fixed"] = once
    schema["properties"]["compare"] = {
        "type": "object", "properties": lists, "additionalProperties": False, "minProperties": 1
    }  # fmt: skip
    definitions["Rule"]["properties"]["set"] = once
    axes = definitions["Tune"]["properties"]["axes"]
    axes["propertyNames"] = {"enum": list(config_keys())}
    axes["additionalProperties"] = AXIS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cnngrid sweep",
        **schema,
        "$defs": definitions,
    }


_NAMED: dict[str, Any] = {"type": "object", "minProperties": 1, "maxProperties": 1}
# Parts that may be written as a name, or as a name with its options.
_SHORT: dict[str, list[dict[str, Any]]] = {
    "Constant": [{"const": "constant"}],
    "Cosine": [{"const": "cosine"}, {**_NAMED, "required": ["cosine"]}],
    "Step": [{**_NAMED, "required": ["step"]}],
    "Milestones": [{**_NAMED, "required": ["milestones"]}],
    "Restarts": [{**_NAMED, "required": ["restarts"]}],
    "Plateau": [{"const": "plateau"}, {**_NAMED, "required": ["plateau"]}],
    "Flip": [{"const": "flip"}],
    "Crop": [{"const": "crop"}, {**_NAMED, "required": ["crop"]}],
}

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
