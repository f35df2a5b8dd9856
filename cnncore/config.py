"""Settings of one trial: `TrialConfig`, frozen and checked when built.

A key with the value null means exactly the behaviour before that key existed. So a key added
later (always with the default null) changes no id. This module imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cnncore.catalog import AUX_WEIGHT, NETWORKS


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


class ConfigPart(BaseModel):
    """Frozen part of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class Flip(ConfigPart):
    """Mirroring of each training image, left to right, with probability one half."""

    kind: Literal["flip"] = "flip"


class Crop(ConfigPart):
    """Zero-padding of each training image by `padding` pixels and a random crop to its old size.

    `padding: null` means an eighth of the image's side (4 at 32 pixels).
    """

    kind: Literal["crop"] = "crop"
    padding: Pixels | None = None


class Rotate(ConfigPart):
    """Rotation of each training image by up to `degrees`, either way; corners become black."""

    kind: Literal["rotate"] = "rotate"
    degrees: Annotated[Real, Field(gt=0.0, le=180.0)]


class Translate(ConfigPart):
    """Shift of each training image by up to `fraction` of its side, along each axis."""

    kind: Literal["translate"] = "translate"
    fraction: Share


class FactorRange(ConfigPart):
    """Factor between `low` and `high`, drawn for each training image."""

    low: NonNegativeFloat
    high: NonNegativeFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, but got low={self.low:g}, high={self.high:g}")
        return self


class Scale(FactorRange):
    """Scaling of each training image about its centre by a factor above 0; below 1 it shrinks."""

    kind: Literal["scale"] = "scale"
    low: PositiveFloat


class Brightness(FactorRange):
    """Factor of brightness: 0 is black, 1 changes nothing (Pillow's `ImageEnhance`)."""

    kind: Literal["brightness"] = "brightness"


class Contrast(FactorRange):
    """Factor of contrast: 0 is grey, 1 changes nothing."""

    kind: Literal["contrast"] = "contrast"


class Saturation(FactorRange):
    """Factor of colour: 0 is black and white, 1 changes nothing."""

    kind: Literal["saturation"] = "saturation"


class Sharpness(FactorRange):
    """Factor of sharpness: 0 is smoothed, 1 changes nothing."""

    kind: Literal["sharpness"] = "sharpness"


class Erase(ConfigPart):
    """Random pixels in a square of side `size` at a random position of each training image.

    The centre of the square lies in the image, so the border may cut it (arXiv 1708.04552).
    """

    kind: Literal["erase"] = "erase"
    size: Pixels


class Enhance(ConfigPart):
    """Fixed factors of Pillow's `ImageEnhance` for the images of every split, in this order."""

    brightness: NonNegativeFloat = 1.0
    contrast: NonNegativeFloat = 1.0
    sharpness: NonNegativeFloat = 1.0


class MeanStd(ConfigPart):
    """Per-channel mean and standard deviation of pixel values in [0, 1], red, green, blue."""

    mean: tuple[Real, Real, Real]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class EarlyStop(ConfigPart):
    """End of the trial after `patience` epochs without a `metric` better by `min_delta`."""

    metric: Literal["val_loss", "val_top1"] = "val_loss"
    patience: Epochs
    min_delta: NonNegativeFloat = 0.0


def _with_kind(value: Any) -> Any:
    """Read `cosine` and `{plateau: {patience: 5}}` as `{kind: cosine}`, `{kind: plateau, ...}`."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict) and "kind" not in value and len(value) == 1:
        ((kind, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"kind": kind, **(options or {})}
    return value


ScheduleKind = Constant | Step | Milestones | Cosine | Restarts | Plateau
Schedule = Annotated[
    Annotated[ScheduleKind, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]
AugmentKind = (
    Flip
    | Crop
    | Rotate
    | Translate
    | Scale
    | Brightness
    | Contrast
    | Saturation
    | Sharpness
    | Erase
)
Augment = Annotated[
    Annotated[AugmentKind, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]


def _each_once(parts: tuple[AugmentKind, ...]) -> tuple[AugmentKind, ...]:
    kinds = [part.kind for part in parts]
    if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"each kind once, but got {', '.join(repeated)} more than once")
    return parts


# Defaults of each optimizer: PyTorch's own, except for SGD's momentum. "SGD" in a comparison of
# networks means momentum 0.9, so the plan says so.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "adam": {"betas": (0.9, 0.999), "weight_decay": 0.0},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01},
}

# Values that each optimizer keeps per weight: a velocity (SGD with momentum), or two moments.
OPTIMIZER_MOMENTS: dict[str, int] = {"sgd": 1, "adam": 2, "adamw": 2}

# Keys with a meaning for some optimizers only; for others they resolve to null.
OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "momentum": ("sgd",),
    "nesterov": ("sgd",),
    "momentum_form": ("sgd",),
    "betas": ("adam", "adamw"),
}

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


class TrialConfig(ConfigPart):
    """Every setting that can change a trial's result, except its seed and fold."""

    arch: str
    arch_options: dict[str, Any] | None = None
    activation: Literal["relu", "sigmoid"] | None = None
    dropout: Fraction | None = None
    width: PositiveFloat | None = None
    depth: PositiveFloat | None = None
    stem: Literal["cifar", "imagenet"] | None = None
    aux_weight: NonNegativeFloat | None = None
    one_bit: bool | None = None
    pretrained: str | None = None
    pretrained_fingerprint: str | None = None
    freeze: Literal["features"] | None = None

    dataset: str
    data_fingerprint: str | None = None
    labels: str | None = None
    limit_train: Count | None = None
    limit_test: Count | None = None
    # Null if `folds` or a validation folder of the data set set the validation images aside.
    val_fraction: Share | None = 0.1
    split_seed: Seed = 0
    image_size: Pixels | None = None
    normalize: Literal["dataset", "imagenet", "half"] | MeanStd = "dataset"
    enhance: Enhance | None = None
    augment: Annotated[tuple[Augment, ...], AfterValidator(_each_once)] = ()
    mixup: PositiveFloat | None = None
    cutmix: PositiveFloat | None = None
    quirk: Quirk | None = None

    optimizer: Literal["sgd", "adam", "adamw"]
    lr: PositiveFloat
    momentum: Fraction | None = None
    nesterov: bool | None = None
    momentum_form: Literal["sum", "average"] | None = None
    betas: tuple[Fraction, Fraction] | None = None
    weight_decay: NonNegativeFloat
    l2: NonNegativeFloat | None = None
    schedule: Schedule = Constant()
    warmup_epochs: EpochsFrom0 | None = None
    grad_clip: PositiveFloat | None = None
    ema: Share | None = None
    label_smoothing: Fraction | None = None

    epochs: Epochs
    early_stop: EarlyStop | None = None
    select: Literal["best", "last"] = "best"
    batch_size: Count = 128
    precision: Literal["fp32", "bf16"] = "fp32"
    deterministic: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_aux_weight(cls, data: Any) -> Any:
        """Fill in the weight of the auxiliary heads' loss for networks that have such heads."""
        if not isinstance(data, dict) or data.get("aux_weight") is not None:
            return data
        network = NETWORKS.get(str(data.get("arch")))
        if network is None or "aux_weight" not in network.options:
            return data
        return {**data, "aux_weight": AUX_WEIGHT}

    @model_validator(mode="before")
    @classmethod
    def _complete_optimizer(cls, data: Any) -> Any:
        """Fill in the optimizer's defaults; keys without a meaning for it become null."""
        if not isinstance(data, dict) or data.get("optimizer") not in OPTIMIZER_DEFAULTS:
            return data
        optimizer = data["optimizer"]
        data = {**data}
        for key, value in OPTIMIZER_DEFAULTS[optimizer].items():
            if data.get(key) is None:
                data[key] = value
        for key, optimizers in OPTIMIZER_KEYS.items():
            if optimizer not in optimizers:
                data[key] = None
        return data

    @field_validator("momentum_form")
    @classmethod
    def _check_momentum_form(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Resolve `sum`, PyTorch's own form, to null; refuse `average` with Nesterov."""
        if value == "average" and info.data.get("nesterov"):
            raise ValueError("momentum_form: average has no Nesterov step; leave nesterov out")
        return None if value == "sum" else value

    @field_validator("l2")
    @classmethod
    def _check_l2(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("optimizer") == "adamw":
            raise ValueError(
                "adamw decays weights apart from the gradient, and l2 is a part of the gradient; "
                "use weight_decay under adamw, or adam with l2"
            )
        return value


def network_options(config: TrialConfig) -> dict[str, Any]:
    """Return the options of `build_model` beside classes and image size."""
    options = {key: getattr(config, key) for key in NETWORK_KEYS}
    return {**{k: v for k, v in options.items() if v is not None}, **(config.arch_options or {})}


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
    if config.quirk == "hu-mobilenet-crop" and config.image_size != CROP_SIDE:
        return (
            f"{config.quirk} cuts images to {CROP_SIDE} pixels, so image_size must be "
            f"{CROP_SIDE}, but got {config.image_size}"
        )
    return None
