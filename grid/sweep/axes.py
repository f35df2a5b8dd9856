"""Axes: the values of a tuned hyperparameter, and the conditions it depends on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cnncore.config import ConfigPart, Real, Whole
from grid.sweep.plain_values import plain_value

# A condition: each key must have the value, or one of the values.
When = dict[str, Any]


def holds(when: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Check that `values` meets every condition; a key that `values` lacks meets none."""
    for key, wanted in when.items():
        if key not in values:
            return False
        options = wanted if isinstance(wanted, (list, tuple)) else (wanted,)
        if values[key] not in options:
            return False
    return True


class Axis(ConfigPart):
    """One hyperparameter; it exists only if `when` holds."""

    when: When | None = None


class Choice(Axis):
    """One of a list of values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Any, ...], Field(min_length=1)]


class Span(Axis):
    """Numbers from `low` to `high`, both included."""

    low: Real
    high: Real

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, but got low={self.low:g}, high={self.high:g}")
        return self


class Uniform(Span):
    """Numbers of a span, all equally likely."""

    kind: Literal["uniform"] = "uniform"


class LogUniform(Span):
    """Numbers whose logarithm is uniform; `low` is above 0."""

    kind: Literal["log_uniform"] = "log_uniform"

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if not self.low > 0:
            raise ValueError(f"low > 0 must hold on a logarithmic axis, but got low={self.low:g}")
        return self


class IntRange(Axis):
    """Whole numbers from `low` to `high`, both included."""

    kind: Literal["int_range"] = "int_range"
    low: Annotated[Whole, Field(ge=-(2**53), le=2**53)]
    high: Annotated[Whole, Field(ge=-(2**53), le=2**53)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, but got low={self.low}, high={self.high}")
        return self


SPANS = ("uniform", "log_uniform", "int_range")


def _read(value: Any) -> Any:
    """Read `[a, b]` as a choice and `{log_uniform: [low, high], when: {...}}` as a span."""
    value = plain_value(value)
    if isinstance(value, (list, tuple)):
        return {"kind": "choice", "values": value}
    if not isinstance(value, dict) or "kind" in value:
        return value
    kinds = [key for key in value if key != "when"]
    if len(kinds) != 1:
        raise ValueError(f"write one of choice, {', '.join(SPANS)}, such as {{uniform: [0, 1]}}")
    kind, body = kinds[0], value[kinds[0]]
    rest = {"when": value["when"]} if "when" in value else {}
    if kind == "choice":
        return {"kind": kind, "values": body, **rest}
    if kind in SPANS:
        if not isinstance(body, (list, tuple)) or len(body) != 2:
            raise ValueError(f"{kind} takes [low, high]")
        return {"kind": kind, "low": body[0], "high": body[1], **rest}
    raise ValueError(f"unknown kind of axis {kind!r}; known: choice, {', '.join(SPANS)}")


AxisKind = Choice | Uniform | LogUniform | IntRange
TunedAxis = Annotated[
    Annotated[AxisKind, Field(discriminator="kind")],
    BeforeValidator(_read),
]


def in_order(axes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the axes of a cell, each after those that its condition names; no circles exist."""
    waiting = dict(axes)
    while waiting:
        key = next(
            k for k, axis in waiting.items() if not (set(axis.when or {}) - {k}) & set(waiting)
        )
        yield key, waiting.pop(key)


def applies(axis: Any, axes: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Check that an axis exists, given the values `params` of the axes before it."""
    return holds({k: v for k, v in (axis.when or {}).items() if k in axes}, params)


def finite_points(axes: Mapping[str, Any], most: int) -> list[dict[str, Any]] | None:
    """Return every point of a cell's axes; None if more than `most` or a continuous axis exist."""
    count = 1
    for axis in axes.values():
        if isinstance(axis, Choice):
            count *= len(axis.values)
        elif isinstance(axis, IntRange):
            count *= axis.high - axis.low + 1
        elif axis.low < axis.high:
            return None
        if count > most:
            return None
    ordered = list(in_order(axes))
    points: dict[str, dict[str, Any]] = {}
    for values in product(*(_values(axis) for _, axis in ordered)):
        params: dict[str, Any] = {}
        for (key, axis), value in zip(ordered, values, strict=True):
            if applies(axis, axes, params):
                params[key] = value
        points.setdefault(json.dumps(params, sort_keys=True), params)
    return list(points.values())


def contains(axis: Any, value: Any) -> bool:
    """Check that an axis of the present sweep file can have a stored value."""
    if isinstance(axis, Choice):
        return any(json.dumps(value) == json.dumps(option) for option in axis.values)
    return isinstance(value, (int, float)) and axis.low <= value <= axis.high


def _values(axis: Any) -> list[Any]:
    if isinstance(axis, Choice):
        return list(axis.values)
    if isinstance(axis, IntRange):
        return list(range(axis.low, axis.high + 1))
    return [axis.low]
