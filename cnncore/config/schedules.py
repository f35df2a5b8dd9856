"""Learning-rate schedules, as the key `schedule` gives them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from cnncore.config.values import (
    ConfigPart,
    Count,
    Epochs,
    EpochsFrom0,
    Fraction,
    PositiveFloat,
    Share,
    with_kind,
)


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
    `val_loss`, which resolves to null.
    """

    kind: Literal["plateau"] = "plateau"
    factor: Share = 0.1
    patience: EpochsFrom0 = 10
    metric: Literal["val_loss", "val_top1"] | None = None

    @field_validator("metric")
    @classmethod
    def _default_metric_to_null(cls, value: str | None) -> str | None:
        return None if value == "val_loss" else value


ScheduleKind = Constant | Step | Milestones | Cosine | Restarts | Plateau
Schedule = Annotated[
    Annotated[ScheduleKind, Field(discriminator="kind")],
    BeforeValidator(with_kind),
]
