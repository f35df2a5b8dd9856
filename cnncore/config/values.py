"""Types of single values, shared by all keys of a trial."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cnncore.functions import check_function_name


def _refuse_boolean(value: Any) -> Any:
    """Refuse `true` and `false`, which pydantic would read as the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, but got {str(value).lower()}")
    return value


Real = Annotated[float, BeforeValidator(_refuse_boolean)]
PositiveFloat = Annotated[Real, Field(gt=0.0)]
NonNegativeFloat = Annotated[Real, Field(ge=0.0)]
Fraction = Annotated[Real, Field(ge=0.0, lt=1.0)]
Share = Annotated[Real, Field(gt=0.0, lt=1.0)]

# Counts end far above what any machine trains, so that arithmetic with them fits 64 bits.
Whole = Annotated[int, BeforeValidator(_refuse_boolean)]
Seed = Annotated[Whole, Field(ge=0, le=2**63 - 1)]  # stored in 64 bits
Count = Annotated[Whole, Field(gt=0, le=1_000_000_000)]
Epochs = Annotated[Whole, Field(gt=0, le=1_000_000)]
EpochsFrom0 = Annotated[Whole, Field(ge=0, le=1_000_000)]
Pixels = Annotated[Whole, Field(gt=0, le=65_536)]


def _check_function(name: str) -> str:
    if ":" not in name:
        raise ValueError(f"must be package.module:function, but got {name!r}")
    if problem := check_function_name(name):
        raise ValueError(problem)
    return name


# A function of the user's own, `package.module:function`; nothing is imported here.
FunctionName = Annotated[str, AfterValidator(_check_function)]


class ConfigPart(BaseModel):
    """Frozen part of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def with_kind(value: Any) -> Any:
    """Read `cosine` and `{plateau: {patience: 5}}` as `{kind: cosine}`, `{kind: plateau, ...}`."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict) and "kind" not in value and len(value) == 1:
        ((kind, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"kind": kind, **(options or {})}
    return value
