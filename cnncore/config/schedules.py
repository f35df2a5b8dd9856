"""Learning-rate schedules, as the key `schedule` gives them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cnncore.config.values import (
    ConfigPart,
    Count,
    Epochs,
    EpochsFrom0,
    Fraction,
    PositiveFloat,
    Real,
    Share,
    with_kind,
)
from cnncore.functions import check_function_name

FactorFrom1 = Annotated[Real, Field(ge=1.0)]


class Constant(ConfigPart):
    """Constant learning rate `lr` (after warm-up)."""

    kind: Literal["constant"] = "constant"


class Step(ConfigPart):
    """Multiplication of the learning rate by `factor` after every `every` epochs."""

    kind: Literal["step"] = "step"
    every: Epochs
    factor: PositiveFloat = 0.1


class Milestones(ConfigPart):
    """Multiplication of the learning rate by `factor` at each of `at`, shares of all epochs.

    A share within an epoch takes effect at that epoch's end.
    """

    kind: Literal["milestones"] = "milestones"
    at: Annotated[tuple[Share, ...], Field(min_length=1)]
    factor: PositiveFloat = 0.1


class Cosine(ConfigPart):
    """Half a cosine from `lr` to `lr * final` over all steps (arXiv 1608.03983, no restarts)."""

    kind: Literal["cosine"] = "cosine"
    final: Fraction = 0.0


class Restarts(ConfigPart):
    """Cosines from `lr` to `lr * final`, each `factor` times as long as the one before.

    The first spans `first` epochs (arXiv 1608.03983).
    """

    kind: Literal["restarts"] = "restarts"
    first: Epochs
    factor: Count = 1
    final: Fraction = 0.0


class Plateau(ConfigPart):
    """Cut of `lr` by `factor` after more than `patience` epochs without a better `metric`.

    Epochs count as in PyTorch's `ReduceLROnPlateau` with `threshold=0`. `metric: null` means
    `val_loss`, which resolves to null. No cut goes below the learning rate `min_lr`.
    """

    kind: Literal["plateau"] = "plateau"
    factor: Share = 0.1
    patience: EpochsFrom0 = 10
    metric: Literal["val_loss", "val_top1"] | None = None
    min_lr: PositiveFloat | None = None

    @field_validator("metric")
    @classmethod
    def _default_metric_to_null(cls, value: str | None) -> str | None:
        return None if value == "val_loss" else value


class OneCycle(ConfigPart):
    """One rise from `lr / div_factor` to `lr` and one fall to `1 / final_div_factor` of the start.

    As PyTorch's `OneCycleLR` (arXiv 1708.07120), whose momentum does not change here. `pct_start`
    is the share of all steps in which the rate rises.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    pct_start: Share = 0.3
    div_factor: FactorFrom1 = 25.0
    final_div_factor: FactorFrom1 = 1e4
    anneal: Literal["cos", "linear"] = "cos"


class Linear(ConfigPart):
    """Straight line from `lr` to `lr * final` over all steps."""

    kind: Literal["linear"] = "linear"
    final: Fraction = 0.0


class Exponential(ConfigPart):
    """Multiplication of the learning rate by `factor` in every epoch, a little at each step.

    At the start of every epoch the rate is that of PyTorch's `ExponentialLR`.
    """

    kind: Literal["exponential"] = "exponential"
    factor: Share


class Polynomial(ConfigPart):
    """Fall from `lr` to `lr * final` over all steps, as the power `power` of the share left."""

    kind: Literal["polynomial"] = "polynomial"
    power: PositiveFloat
    final: Fraction = 0.0


class WarmupStableDecay(ConfigPart):
    """Linear rise to `lr`, a plateau, and a fall to `lr * final` (arXiv 2404.06395, 2405.18392).

    `warmup` and `decay` are shares of all steps, rounded to whole steps. The fall is a line, half a
    cosine, or 1 minus the square root of the share that is done (`sqrt`).
    """

    kind: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    warmup: Fraction = 0.05
    decay: Share = 0.2
    final: Fraction = 0.0
    anneal: Literal["linear", "cos", "sqrt"] = "linear"

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(
                "warmup + decay <= 1 must hold, as they are shares of all steps, but got "
                f"{self.warmup:g} and {self.decay:g}"
            )
        return self


class OwnSchedule(ConfigPart):
    """Function `package.module:function` of the user's, `(step, steps) -> factor` of `lr`.

    `step` counts from 1 to `steps`, all after the warm-up.
    """

    kind: Literal["own"] = "own"
    function: str

    @field_validator("function")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if problem := check_function_name(value):
            raise ValueError(problem)
        return value


# Schedules that begin below `lr` by themselves, and how their own rise is set.
OWN_WARMUP = {"one_cycle": "pct_start", "warmup_stable_decay": "warmup"}

ScheduleKind = (
    Constant
    | Step
    | Milestones
    | Cosine
    | Restarts
    | Plateau
    | OneCycle
    | Linear
    | Exponential
    | Polynomial
    | WarmupStableDecay
    | OwnSchedule
)


def _read(value: Any) -> Any:
    """Read `package.module:function` and the short forms of the other schedules."""
    if isinstance(value, str) and ":" in value:
        return {"kind": "own", "function": value}
    return with_kind(value)


Schedule = Annotated[
    Annotated[ScheduleKind, Field(discriminator="kind")],
    BeforeValidator(_read),
]
