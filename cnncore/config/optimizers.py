"""Optimizers: their keys and options with the defaults, and what each keeps per weight.

The options of each class of `torch.optim` stand here as literals, although PyTorch knows them too:
this package imports no torch, and a default that a later PyTorch changes must not change a trial
under its old id. `tests/cnncore/training/optimizers/test_registry.py` compares them with the
installed PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from cnncore.config.values import (
    ConfigPart,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Whole,
)
from cnncore.functions import check_function_name
from cnncore.spelling import as_written, closest_hint

Share01 = Annotated[Real, Field(ge=0.0, le=1.0)]


class SgdOptions(ConfigPart):
    """Options of `torch.optim.SGD` beside the keys."""

    dampening: Fraction = 0.0


class AdamWOptions(ConfigPart):
    """Options of `torch.optim.AdamW` beside the keys."""

    eps: NonNegativeFloat = 1e-8
    amsgrad: bool = False


class AdamOptions(AdamWOptions):
    """Options of `torch.optim.Adam` beside the keys."""

    decoupled_weight_decay: bool = False


class AdadeltaOptions(ConfigPart):
    """Options of `torch.optim.Adadelta` beside the keys."""

    rho: Share01 = 0.9
    eps: NonNegativeFloat = 1e-6


class AdafactorOptions(ConfigPart):
    """Options of `torch.optim.Adafactor` beside the keys."""

    beta2_decay: Annotated[Real, Field(le=0.0)] = -0.8
    eps: tuple[NonNegativeFloat | None, NonNegativeFloat] = (None, 1e-3)
    d: Annotated[Real, Field(ge=1.0)] = 1.0


class AdagradOptions(ConfigPart):
    """Options of `torch.optim.Adagrad` beside the keys."""

    lr_decay: NonNegativeFloat = 0.0
    initial_accumulator_value: NonNegativeFloat = 0.0
    eps: NonNegativeFloat = 1e-10


class AdamaxOptions(ConfigPart):
    """Options of `torch.optim.Adamax` beside the keys."""

    eps: NonNegativeFloat = 1e-8


class AsgdOptions(ConfigPart):
    """Options of `torch.optim.ASGD` beside the keys."""

    lambd: NonNegativeFloat = 1e-4
    alpha: NonNegativeFloat = 0.75
    t0: NonNegativeFloat = 1e6


class NAdamOptions(ConfigPart):
    """Options of `torch.optim.NAdam` beside the keys."""

    eps: NonNegativeFloat = 1e-8
    momentum_decay: NonNegativeFloat = 0.004
    decoupled_weight_decay: bool = False


class RAdamOptions(ConfigPart):
    """Options of `torch.optim.RAdam` beside the keys."""

    eps: NonNegativeFloat = 1e-8
    decoupled_weight_decay: bool = False


class RmspropOptions(ConfigPart):
    """Options of `torch.optim.RMSprop` beside the keys."""

    alpha: Fraction = 0.99
    eps: NonNegativeFloat = 1e-8
    centered: bool = False


class RpropOptions(ConfigPart):
    """Options of `torch.optim.Rprop` beside the keys."""

    etas: tuple[Annotated[Real, Field(gt=0.0, lt=1.0)], Annotated[Real, Field(gt=1.0)]] = (0.5, 1.2)
    step_sizes: tuple[PositiveFloat, PositiveFloat] = (1e-6, 50.0)

    @field_validator("step_sizes")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] <= value[1]:
            raise ValueError(f"the smallest step comes first, but got {list(value)}")
        return value


class MuonOptions(ConfigPart):
    """Options of `torch.optim.Muon`, and those of the AdamW beside it.

    `adamw_ratio` is AdamW's learning rate over Muon's. Its default is that of the example in Muon's
    own repository (github.com/KellerJordan/Muon): 3e-4 beside 0.02.
    """

    ns_coefficients: tuple[Real, Real, Real] = (3.4445, -4.775, 2.0315)
    eps: NonNegativeFloat = 1e-7
    # PyTorch refuses 100 and more.
    ns_steps: Annotated[Whole, Field(ge=1, le=99)] = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw", "spectral_unclamped"] | None = None
    adamw_ratio: PositiveFloat = 0.015
    adamw_eps: NonNegativeFloat = 1e-8

    @field_validator("adjust_lr_fn")
    @classmethod
    def _default_to_null(cls, value: str | None) -> str | None:
        return None if value == "original" else value


@dataclass(frozen=True)
class OptimizerKind:
    """One optimizer: the keys of a config that it has, with their defaults, and its own options.

    `decay` tells whether weight decay is a part of the `gradient` or acts `apart` from it; without
    weight decay it is None. `moments` counts the values that are kept per weight.
    """

    torch_class: str
    keys: Mapping[str, Any]
    options: type[ConfigPart]
    decay: Literal["gradient", "apart"] | None
    moments: int


BETAS = (0.9, 0.999)
# Defaults are PyTorch's own, except for SGD's momentum. "SGD" in a comparison of networks means
# momentum 0.9, so the plan says so.
OPTIMIZERS: dict[str, OptimizerKind] = {
    "sgd": OptimizerKind(
        "SGD",
        {"momentum": 0.9, "nesterov": False, "momentum_form": None, "weight_decay": 0.0},
        SgdOptions,
        "gradient",
        1,
    ),
    "adam": OptimizerKind(
        "Adam", {"betas": BETAS, "weight_decay": 0.0}, AdamOptions, "gradient", 2
    ),
    "adamw": OptimizerKind(
        "AdamW", {"betas": BETAS, "weight_decay": 0.01}, AdamWOptions, "apart", 2
    ),
    "adadelta": OptimizerKind("Adadelta", {"weight_decay": 0.0}, AdadeltaOptions, "gradient", 2),
    # A kernel of one pixel has a row and a column for each weight; larger ones have fewer.
    "adafactor": OptimizerKind("Adafactor", {"weight_decay": 0.0}, AdafactorOptions, "apart", 2),
    "adagrad": OptimizerKind("Adagrad", {"weight_decay": 0.0}, AdagradOptions, "gradient", 1),
    "adamax": OptimizerKind(
        "Adamax", {"betas": BETAS, "weight_decay": 0.0}, AdamaxOptions, "gradient", 2
    ),
    "asgd": OptimizerKind("ASGD", {"weight_decay": 0.0}, AsgdOptions, "gradient", 1),
    # One for what Muon trains, two for what AdamW trains.
    "muon": OptimizerKind(
        "Muon",
        {"momentum": 0.95, "nesterov": True, "betas": BETAS, "weight_decay": 0.1},
        MuonOptions,
        "apart",
        2,
    ),
    "nadam": OptimizerKind(
        "NAdam", {"betas": BETAS, "weight_decay": 0.0}, NAdamOptions, "gradient", 2
    ),
    "radam": OptimizerKind(
        "RAdam", {"betas": BETAS, "weight_decay": 0.0}, RAdamOptions, "gradient", 2
    ),
    "rmsprop": OptimizerKind(
        "RMSprop", {"momentum": 0.0, "weight_decay": 0.0}, RmspropOptions, "gradient", 1
    ),
    "rprop": OptimizerKind("Rprop", {}, RpropOptions, None, 2),
}
# Classes of `torch.optim` that no training loop of ours can use.
UNUSABLE = {
    "lbfgs": "its step needs a closure that computes the loss several times, and a trial computes "
    "it once a step",
    "sparse_adam": "it takes sparse gradients only, and those of the networks here are dense",
}
# Keys of a config that some optimizers have; they are null for the others.
OPTIMIZER_KEYS = ("momentum", "nesterov", "momentum_form", "betas", "weight_decay")
# Parameters of optimizers that are no options, and why.
NO_OPTIONS = {
    "params": "they are the network's weights",
    "foreach": "it is how a step is computed, which cnngrid chooses",
    "fused": "it is how a step is computed, which cnngrid chooses",
    "capturable": "it is for CUDA graphs, which no trial uses",
    "differentiable": "it is for gradients through the steps, which no trial takes",
    "maximize": "a trial minimises its loss",
}
# What an optimizer that is not of the table is taken to keep per weight: as Adam.
USUAL_MOMENTS = 2


class NoOption(ValueError):
    """Error for an option that an optimizer does not have."""


def check_optimizer(name: str) -> str:
    """Return the name of an optimizer. Raises `ValueError` if there is none of it."""
    if name in OPTIMIZERS:
        return name
    if ":" in name:
        if problem := check_function_name(name):
            raise ValueError(problem)
        return name
    if name in UNUSABLE:
        raise ValueError(f"{name} cannot be used: {UNUSABLE[name]}; known: {_listed(OPTIMIZERS)}")
    raise ValueError(
        f"unknown optimizer {as_written(name)}{closest_hint(name, OPTIMIZERS)}; known: "
        f"{_listed(OPTIMIZERS)}, or package.module:Class"
    )


def check_options(optimizer: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return options without those that equal the default, None if none are left.

    Null is the default. The options of an optimizer of the user's own are checked once its
    signature is known (`known_options`). Raises pydantic's `ValidationError` with the options as
    its places.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind = OPTIMIZERS.get(optimizer)
    refuse_options(optimizer, given, kind.options.model_fields if kind else None)
    if kind is None:
        return given or None
    default = kind.options().model_dump(mode="json")
    checked = kind.options.model_validate(given).model_dump(mode="json")
    return {name: checked[name] for name in given if checked[name] != default[name]} or None


def refuse_options(optimizer: str, given: Iterable[str], known: Iterable[str] | None) -> None:
    """Raise `ValidationError` for options that are not among `known`, or are no options at all."""
    names = None if known is None else [name for name in known if name not in ("lr", *NO_OPTIONS)]
    errors: list[Any] = []
    for name in given:
        if name in NO_OPTIONS:
            text = f"is no option: {NO_OPTIONS[name]}"
        elif name == "lr" or name in OPTIMIZER_KEYS:
            text = f"is a key of its own: give `{name}` beside optimizer_options"
        elif names is not None and name not in names:
            options = f"its options: {_listed(names)}" if names else "it has no options"
            text = f"{optimizer} has no option {as_written(name)}{closest_hint(name, names)}; "
            text += options
        else:
            continue
        error = {"type": "value_error", "loc": (name,), "input": None}
        errors.append({**error, "ctx": {"error": NoOption(text)}})
    if errors:
        raise ValidationError.from_exception_data("optimizer_options", errors)


def decays_apart(optimizer: str, options: Mapping[str, Any] | None) -> bool:
    """Check that the weight decay of a known optimizer acts apart from the gradient."""
    decoupled = bool((options or {}).get("decoupled_weight_decay", False))
    return OPTIMIZERS[optimizer].decay == "apart" or decoupled


def optimizer_moments(
    optimizer: str, momentum: float | None, options: Mapping[str, Any] | None
) -> int:
    """Return an upper bound of the values that an optimizer keeps per weight."""
    kind = OPTIMIZERS.get(optimizer)
    if kind is None:
        return USUAL_MOMENTS
    if optimizer == "sgd":
        return kind.moments if momentum else 0
    more = {"amsgrad", "centered"} & {name for name, value in (options or {}).items() if value}
    velocity = optimizer == "rmsprop" and bool(momentum)
    return kind.moments + len(more) + velocity


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
