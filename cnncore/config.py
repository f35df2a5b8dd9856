"""What one trial trains and how: `TrialConfig`, frozen and checked when built.

A key whose value is null means exactly the behaviour before that key existed, so a key added
later (always with the default null) changes no id. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cnncore.catalog import AUX_WEIGHT, NETWORKS

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Part(BaseModel):
    """A frozen piece of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Constant(Part):
    """The learning rate stays at `lr` (after warm-up)."""

    kind: Literal["constant"] = "constant"


class Step(Part):
    """The learning rate is multiplied by `factor` after every `every` epochs."""

    kind: Literal["step"] = "step"
    every: PositiveInt
    factor: PositiveFloat = 0.1


class Milestones(Part):
    """The learning rate is multiplied by `factor` at each of `at`, shares of all epochs.

    A share that falls within an epoch counts from that epoch's end.
    """

    kind: Literal["milestones"] = "milestones"
    at: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], Field(min_length=1)]
    factor: PositiveFloat = 0.1


class Cosine(Part):
    """Half a cosine from `lr` to `lr * final` over all steps (arXiv 1608.03983, no restarts)."""

    kind: Literal["cosine"] = "cosine"
    final: Fraction = 0.0


class Restarts(Part):
    """Cosines from `lr` to `lr * final`, the first over `first` epochs, each next one over
    `factor` times as many (arXiv 1608.03983).
    """

    kind: Literal["restarts"] = "restarts"
    first: PositiveInt
    factor: PositiveInt = 1
    final: Fraction = 0.0


class Plateau(Part):
    """`lr` is multiplied by `factor` after more than `patience` epochs without a better `metric`
    (as PyTorch's `ReduceLROnPlateau` with `threshold=0` counts).

    `metric: null` is `val_loss`, which resolves to null.
    """

    kind: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    patience: NonNegativeInt = 10
    metric: Literal["val_loss", "val_top1"] | None = None

    @field_validator("metric")
    @classmethod
    def _plain_metric(cls, value: str | None) -> str | None:
        return None if value == "val_loss" else value


class Flip(Part):
    """Each training image is mirrored left to right with probability one half."""

    kind: Literal["flip"] = "flip"


class Crop(Part):
    """Each training image is zero-padded by `padding` pixels and cut back at a random place.

    `padding: null` is an eighth of the image's side (4 at 32 pixels).
    """

    kind: Literal["crop"] = "crop"
    padding: PositiveInt | None = None


class Rotate(Part):
    """Each training image is turned by up to `degrees`, either way; corners become black."""

    kind: Literal["rotate"] = "rotate"
    degrees: Annotated[float, Field(gt=0.0, le=180.0)]


class Translate(Part):
    """Each training image is moved by up to `fraction` of its side, along each axis."""

    kind: Literal["translate"] = "translate"
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]


class Between(Part):
    """A factor from `low` to `high`, drawn for each training image."""

    low: NonNegativeFloat
    high: NonNegativeFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, but got low={self.low:g}, high={self.high:g}")
        return self


class Scale(Between):
    """Each training image is enlarged about its centre by a factor above 0; below 1 it shrinks."""

    kind: Literal["scale"] = "scale"
    low: PositiveFloat


class Brightness(Between):
    """Factor of brightness: 0 is black, 1 changes nothing (Pillow's `ImageEnhance`)."""

    kind: Literal["brightness"] = "brightness"


class Contrast(Between):
    """Factor of contrast: 0 is grey, 1 changes nothing."""

    kind: Literal["contrast"] = "contrast"


class Saturation(Between):
    """Factor of colour: 0 is black and white, 1 changes nothing."""

    kind: Literal["saturation"] = "saturation"


class Sharpness(Between):
    """Factor of sharpness: 0 is smoothed, 1 changes nothing."""

    kind: Literal["sharpness"] = "sharpness"


class Erase(Part):
    """A square of `size` pixels anywhere in each training image becomes random pixels.

    Its centre lies in the image, so the border may cut it (arXiv 1708.04552).
    """

    kind: Literal["erase"] = "erase"
    size: PositiveInt


class Enhance(Part):
    """Fixed factors of Pillow's `ImageEnhance` for the images of every split, in this order."""

    brightness: NonNegativeFloat = 1.0
    contrast: NonNegativeFloat = 1.0
    sharpness: NonNegativeFloat = 1.0


class MeanStd(Part):
    """Per-channel mean and standard deviation of pixel values in [0, 1], red, green, blue."""

    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class EarlyStop(Part):
    """End the trial when `metric` was no better by `min_delta` for `patience` epochs."""

    metric: Literal["val_loss", "val_top1"] = "val_loss"
    patience: PositiveInt
    min_delta: NonNegativeFloat = 0.0


def _named(value: Any) -> Any:
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
    BeforeValidator(_named),
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
    BeforeValidator(_named),
]


def _each_once(parts: tuple[AugmentKind, ...]) -> tuple[AugmentKind, ...]:
    kinds = [part.kind for part in parts]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"each kind once, but got {', '.join(twice)} more than once")
    return parts


# What an optimizer uses where the sweep file is silent. PyTorch's own defaults, but for SGD's
# momentum: "SGD" in a comparison of networks means momentum 0.9, so the plan says so.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "adam": {"betas": (0.9, 0.999), "weight_decay": 0.0},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01},
}

# Keys that mean something under some optimizers only; elsewhere they resolve to null.
OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "momentum": ("sgd",),
    "nesterov": ("sgd",),
    "momentum_form": ("sgd",),
    "betas": ("adam", "adamw"),
}


# What a study's code really ran, against good practice. These evaluate validation and test images
# under the training augmentation, which must then be the study's own.
Quirk = Literal["hu-mobilenet-crop", "hu-random-test", "kumar-augmented-eval", "simpson-scale"]
QUIRK_AUGMENT: dict[str, tuple[str, ...]] = {
    "hu-mobilenet-crop": ("flip",),
    "hu-random-test": ("crop", "flip"),
    "kumar-augmented-eval": ("flip", "rotate", "scale"),
}
# The side that `hu-mobilenet-crop` cuts images to.
WINDOW_SIDE = 32

# Keys that are options of a network; where null, the network's own default holds.
NETWORK_KEYS = ("activation", "dropout", "width", "depth", "stem", "aux_weight", "one_bit")


class TrialConfig(Part):
    """Everything that can change a trial's result, without its seed and fold."""

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
    limit_train: PositiveInt | None = None
    limit_test: PositiveInt | None = None
    # Null under `folds`, which set the validation images aside instead.
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = 0.1
    split_seed: NonNegativeInt = 0
    image_size: PositiveInt | None = None
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
    warmup_epochs: NonNegativeInt | None = None
    grad_clip: PositiveFloat | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    label_smoothing: Fraction | None = None

    epochs: PositiveInt
    early_stop: EarlyStop | None = None
    select: Literal["best", "last"] = "best"
    batch_size: PositiveInt = 128
    precision: Literal["fp32", "bf16"] = "fp32"
    deterministic: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_heads(cls, data: Any) -> Any:
        """Fill in what the loss of auxiliary heads counts, for networks that have them."""
        if not isinstance(data, dict) or data.get("aux_weight") is not None:
            return data
        network = NETWORKS.get(str(data.get("arch")))
        if network is None or "aux_weight" not in network.options:
            return data
        return {**data, "aux_weight": AUX_WEIGHT}

    @model_validator(mode="before")
    @classmethod
    def _complete_optimizer(cls, data: Any) -> Any:
        """Fill in the optimizer's defaults; keys that mean nothing to it become null."""
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
        """`sum` is PyTorch's own form and resolves to null."""
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


def check_quirk(config: TrialConfig) -> str | None:
    """What does not go with the config's quirk, or None; `image_size` is filled in."""
    if config.quirk is None:
        return None
    needed = QUIRK_AUGMENT.get(config.quirk)
    kinds = sorted(part.kind for part in config.augment)
    if needed is not None and kinds != list(needed):
        return (
            f"{config.quirk} evaluates under its study's augmentation, so augment must be "
            f"{', '.join(needed)}, but got {', '.join(kinds) or 'none'}"
        )
    if config.quirk == "hu-mobilenet-crop" and config.image_size != WINDOW_SIDE:
        return (
            f"{config.quirk} cuts images to {WINDOW_SIDE} pixels, so image_size must be "
            f"{WINDOW_SIDE}, but got {config.image_size}"
        )
    return None
