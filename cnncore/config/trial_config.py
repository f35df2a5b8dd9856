"""Settings of one trial: `TrialConfig`, frozen and checked when built.

A key with the value null means exactly the behaviour before that key existed. So a key added
later (always with the default null) changes no id. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cnncore.catalog import aux_weight_of
from cnncore.config.images import (
    NAMED_COLOURS,
    Augment,
    Background,
    Enhance,
    MeanStd,
    Resize,
    each_once,
)
from cnncore.config.losses import ClassWeights, CrossEntropy, Focal, Loss
from cnncore.config.objective import VAL_TOP1, check_objective
from cnncore.config.optimizers import (
    OPTIMIZER_KEYS,
    OPTIMIZERS,
    check_optimizer,
    check_options,
    decays_apart,
)
from cnncore.config.schedules import OWN_WARMUP, Constant, OwnSchedule, Plateau, Schedule
from cnncore.config.values import (
    ConfigPart,
    Count,
    Epochs,
    EpochsFrom0,
    Fraction,
    FunctionName,
    NonNegativeFloat,
    Pixels,
    PositiveFloat,
    Real,
    Seed,
    Share,
)


class EarlyStop(ConfigPart):
    """End of the trial after `patience` epochs without a `metric` better by `min_delta`."""

    metric: Literal["val_loss", "val_top1"] = "val_loss"
    patience: Epochs
    min_delta: NonNegativeFloat = 0.0


# Deviations from good practice in a study's code, repeated here. Those in `QUIRK_AUGMENT` evaluate
# validation and test images under the training augmentation, which must be the study's own.
Quirk = Literal["hu-mobilenet-crop", "hu-random-test", "kumar-augmented-eval", "simpson-scale"]
QUIRK_AUGMENT: dict[str, tuple[str, ...]] = {
    "hu-mobilenet-crop": ("flip",),
    "hu-random-test": ("crop", "flip"),
    "kumar-augmented-eval": ("flip", "rotate", "scale"),
}
# Side of the images that `hu-mobilenet-crop` crops.
CROP_SIDE = 32

# Keys that are options of a network; null means the network's own default.
NETWORK_KEYS = ("activation", "dropout", "width", "depth", "stem", "aux_weight", "one_bit")

# Keys whose work `train_epoch` does itself.
TAKEN_OVER = ("aux_weight", "mixup", "cutmix", "grad_clip", "loss", "class_weights",
              "label_smoothing")  # fmt: skip


class TrialConfig(ConfigPart):
    """Every setting that can change a trial's result, except its seed and fold."""

    arch: str
    arch_options: dict[str, Any] | None = None
    activation: Literal["relu", "sigmoid"] | None = None
    dropout: Fraction | None = None
    width: PositiveFloat | None = None
    depth: PositiveFloat | None = None
    stem: Literal["cifar", "imagenet"] | None = None
    # Before the keys whose work it takes over (`TAKEN_OVER`), which look for it.
    train_epoch: FunctionName | None = None
    aux_weight: NonNegativeFloat | None = None
    one_bit: bool | None = None
    pretrained: str | None = None
    pretrained_fingerprint: str | None = None
    freeze: Literal["features"] | None = None
    code_fingerprint: str | None = None

    dataset: str
    data_fingerprint: str | None = None
    labels: str | None = None
    limit_train: Count | None = None
    limit_test: Count | None = None
    # Null if `folds` or a validation folder of the data set set the validation images aside; 0 is
    # no validation (`check_validation`).
    val_fraction: Fraction | None = 0.1
    split_seed: Seed = 0
    image_size: Pixels | None = None
    resize: Resize | None = None
    background: Background | None = None
    normalize: Literal["dataset", "imagenet", "half"] | MeanStd = "dataset"
    enhance: Enhance | None = None
    augment: Annotated[tuple[Augment, ...], AfterValidator(each_once)] = ()
    eval_crop: Annotated[Real, Field(ge=0.25, le=1.0)] | None = None
    tta: Literal["flip"] | None = None
    mixup: PositiveFloat | None = None
    cutmix: PositiveFloat | None = None
    sampling: Literal["balanced"] | None = None
    quirk: Quirk | None = None

    optimizer: Annotated[str, AfterValidator(check_optimizer)]
    lr: PositiveFloat
    momentum: Fraction | None = None
    nesterov: bool | None = None
    momentum_form: Literal["sum", "average"] | None = None
    betas: tuple[Fraction, Fraction] | None = None
    # Null if the optimizer has none.
    weight_decay: NonNegativeFloat | None
    optimizer_options: dict[str, Any] | None = None
    decay_norm_bias: bool | None = None
    l2: NonNegativeFloat | None = None
    schedule: Schedule = Constant()
    warmup_epochs: EpochsFrom0 | None = None
    grad_clip: PositiveFloat | None = None
    ema: Share | None = None
    loss: Loss | None = None
    class_weights: ClassWeights | None = None
    label_smoothing: Fraction | None = None

    epochs: Epochs
    # Null is a pass over the training images.
    steps_per_epoch: Count | None = None
    early_stop: EarlyStop | None = None
    select: Literal["best", "last"] = "best"
    # Null is `val_top1`; one for a whole sweep, because everything that ranks goes by it.
    objective: Annotated[str, AfterValidator(check_objective)] | None = None
    batch_size: Count = 128
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_aux_weight(cls, data: Any) -> Any:
        """Fill in the weight of the auxiliary heads' loss for networks that have such heads.

        Under an epoch of the user's own it is 0: without heads the network returns plain logits.
        """
        if not isinstance(data, dict) or data.get("aux_weight") is not None:
            return data
        weight = aux_weight_of(str(data.get("arch")))
        if weight is None:
            return data
        return {**data, "aux_weight": 0.0 if data.get("train_epoch") else weight}

    @model_validator(mode="before")
    @classmethod
    def _complete_optimizer(cls, data: Any) -> Any:
        """Fill in the optimizer's defaults; keys without a meaning for it become null.

        Of an optimizer of the user's own neither is known here: the plan fills them in.
        """
        if not isinstance(data, dict) or not isinstance(data.get("optimizer"), str):
            return data
        if (kind := OPTIMIZERS.get(data["optimizer"])) is None:
            return {"weight_decay": None, **data}
        data = {**data}
        for key, value in kind.keys.items():
            if data.get(key) is None:
                data[key] = value
        for key in OPTIMIZER_KEYS:
            if key not in kind.keys:
                data[key] = None
        return data

    @field_validator("eval_crop")
    @classmethod
    def _null_if_whole(cls, value: float | None) -> float | None:
        """Resolve the whole image, which an evaluation shows without this key, to null."""
        return None if value == 1 else value

    @field_validator("resize")
    @classmethod
    def _check_resize(cls, value: str | None) -> str | None:
        """Resolve `crop`, what is done without the key, to null."""
        return None if value == "crop" else value

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: Background | None) -> Background | None:
        """Name a colour in one way: white and black by their names."""
        return next((name for name, levels in NAMED_COLOURS.items() if levels == value), value)

    @field_validator("objective")
    @classmethod
    def _default_objective_to_null(cls, value: str | None) -> str | None:
        return None if value == VAL_TOP1 else value

    @field_validator("optimizer")
    @classmethod
    def _check_optimizer(cls, value: str, info: ValidationInfo) -> str:
        if value == "muon" and info.data.get("freeze"):
            raise ValueError(
                "muon trains the weights of hidden layers, which freeze: features keeps as they "
                "are; use adamw"
            )
        return value

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("optimizer") == "rprop" and not isinstance(value, Constant):
            raise ValueError(
                "rprop takes lr as its first step alone, so a schedule would change nothing; use "
                f"constant, but got {value.kind}"
            )
        lr = info.data.get("lr")
        if isinstance(value, Plateau) and value.min_lr and lr and value.min_lr >= lr:
            raise ValueError(
                f"plateau: min_lr: below lr, from which the cuts start ({lr:g}), but got "
                f"{value.min_lr:g}"
            )
        return value

    @field_validator("nesterov")
    @classmethod
    def _check_nesterov(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and info.data.get("optimizer") == "sgd" and info.data.get("momentum") == 0:
            raise ValueError("nesterov needs a momentum above 0, but got 0")
        return value

    @field_validator("momentum_form")
    @classmethod
    def _check_momentum_form(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Resolve `sum`, PyTorch's own form, to null; refuse `average` with Nesterov."""
        if value == "average" and info.data.get("nesterov"):
            raise ValueError("momentum_form: average has no Nesterov step; leave nesterov out")
        return None if value == "sum" else value

    @field_validator("optimizer_options")
    @classmethod
    def _check_options(
        cls, value: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        """Check the options of a known optimizer; resolve those that equal the default to null."""
        optimizer = info.data.get("optimizer")
        if value is None or optimizer is None:
            return None
        options = check_options(optimizer, value)
        if options and "dampening" in options:
            if info.data.get("nesterov"):
                raise ValueError("dampening: SGD's Nesterov step takes none; leave one of them out")
            if info.data.get("momentum_form"):
                raise ValueError("dampening: momentum_form: average sets it; leave one of them out")
            if info.data.get("momentum") == 0:
                return {k: v for k, v in options.items() if k != "dampening"} or None
        return options

    @field_validator("decay_norm_bias")
    @classmethod
    def _default_to_null(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        """Resolve to null what changes nothing: true, and any value if no weights decay."""
        own = info.data.get("optimizer") not in OPTIMIZERS
        return False if value is False and (own or info.data.get("weight_decay")) else None

    @field_validator(*TAKEN_OVER)
    @classmethod
    def _refuse_taken_over(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse keys beside an epoch of the user's own that it would not see."""
        own = info.data.get("train_epoch")
        if own is None or not value or isinstance(value, CrossEntropy):
            return value if own is None or info.field_name == "aux_weight" else None
        raise ValueError(
            f"decides nothing beside train_epoch: {own} does this itself; leave "
            f"{info.field_name} out, or set it by a rule for the cells without train_epoch"
        )

    @field_validator("loss")
    @classmethod
    def _resolve_cross_entropy(cls, value: Any) -> Any:
        """Resolve the cross-entropy, and the focal loss that equals it, to null."""
        same = isinstance(value, CrossEntropy) or (isinstance(value, Focal) and value.gamma == 0)
        return None if same else value

    @field_validator("label_smoothing")
    @classmethod
    def _check_smoothing(cls, value: float | None, info: ValidationInfo) -> float | None:
        """Refuse smoothing under other losses than the cross-entropy."""
        if (loss := info.data.get("loss")) is None:
            return value
        if value:
            name = loss if isinstance(loss, str) else loss.kind
            raise ValueError(
                f"is a part of the cross-entropy, but loss is {name}; leave it out, or set it by a "
                "rule for the cells with loss: cross_entropy"
            )
        return None

    @field_validator("l2")
    @classmethod
    def _check_l2(cls, value: float | None, info: ValidationInfo) -> float | None:
        optimizer = info.data.get("optimizer")
        if value is None or optimizer is None:
            return value
        if optimizer not in OPTIMIZERS:
            how = "may decay weights in a way of its own"
        elif OPTIMIZERS[optimizer].decay is None:
            how = "has no weight decay"
        elif decays_apart(optimizer, info.data.get("optimizer_options")):
            how = "decays weights apart from the gradient"
        else:
            return value
        raise ValueError(
            f"{optimizer} {how}, and l2 is a part of the gradient; use weight_decay under "
            "optimizers that have it, or adam with l2"
        )

    @field_validator("warmup_epochs")
    @classmethod
    def _check_warmup(cls, value: int | None, info: ValidationInfo) -> int | None:
        kind = getattr(info.data.get("schedule"), "kind", None)
        if value and info.data.get("optimizer") == "rprop":
            raise ValueError("rprop takes lr as its first step alone; leave warmup_epochs out")
        if value and kind in OWN_WARMUP:
            raise ValueError(
                f"{kind} warms up by itself, as its {OWN_WARMUP[kind]} says; leave warmup_epochs "
                "out"
            )
        return value


def network_options(config: TrialConfig) -> dict[str, Any]:
    """Return the options of `build_model` beside classes and image size."""
    options = {key: getattr(config, key) for key in NETWORK_KEYS}
    return {**{k: v for k, v in options.items() if v is not None}, **(config.arch_options or {})}


def own_training_names(config: TrialConfig) -> list[str]:
    """Return the names `package.module:name` of the optimizer and schedule, if they are own."""
    names = [config.optimizer] if config.optimizer not in OPTIMIZERS else []
    if isinstance(config.schedule, OwnSchedule):
        names.append(config.schedule.function)
    return names


def check_validation(config: TrialConfig) -> Iterator[tuple[str, str]]:
    """Yield each key that goes by validation images where there are none, and its problem."""
    if config.val_fraction != 0:
        return
    without = "val_fraction: 0 leaves no validation images"
    if config.select == "best":
        yield "select", f"select: best chooses by validation, but {without}; set select: last"
    if config.early_stop is not None:
        yield (
            "early_stop",
            f"early_stop goes by {config.early_stop.metric}, but {without}; remove it",
        )
    if isinstance(config.schedule, Plateau):
        metric = config.schedule.metric or "val_loss"
        yield (
            "schedule",
            f"plateau goes by {metric}, but {without}; use a schedule that goes by steps alone",
        )
    if config.objective is not None:
        yield "objective", f"objective: {config.objective} is measured on them, but {without}"


def check_quirk(config: TrialConfig) -> str | None:
    """Return the conflict between the quirk and other settings, or None; needs `image_size`."""
    if config.quirk is None:
        return None
    needed = QUIRK_AUGMENT.get(config.quirk)
    kinds = sorted(part.kind for part in config.augment)
    if needed is not None and kinds != list(needed):
        return (
            f"{config.quirk} evaluates under its study's augmentation, so augment must be "
            f"{', '.join(needed)}, but got {', '.join(kinds) or 'none'}"
        )
    if config.quirk == "hu-mobilenet-crop" and config.eval_crop is not None:
        return f"{config.quirk} cuts evaluated images itself; leave eval_crop out"
    if config.quirk == "hu-mobilenet-crop" and config.image_size != CROP_SIDE:
        return (
            f"{config.quirk} cuts images to {CROP_SIDE} pixels, so image_size must be "
            f"{CROP_SIDE}, but got {config.image_size}"
        )
    return None
