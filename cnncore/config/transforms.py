"""Random changes of training images as in torchvision's transforms, and transforms of the user's.

Ranges and defaults are those of `torchvision.transforms.v2` unless a class says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from cnncore.config.values import ConfigPart, NonNegativeFloat, PositiveFloat, Real, Whole
from cnncore.functions import check_function_name

# Bins of a magnitude in TrivialAugment and RandAugment: 0 to 30.
MAGNITUDE_BINS = 31

Probability = Annotated[Real, Field(ge=0.0, le=1.0)]
AreaShare = Annotated[Real, Field(gt=0.0, le=1.0)]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError(f"[low, high] with low <= high, but got [{pair[0]:g}, {pair[1]:g}]")
    return pair


def _as_pair(value: Any) -> Any:
    """Read one number as a range without width."""
    return (value, value) if isinstance(value, (int, float)) else value


AreaRange = Annotated[tuple[AreaShare, AreaShare], AfterValidator(_ordered)]
RatioRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
SigmaRange = Annotated[
    tuple[PositiveFloat, PositiveFloat],
    BeforeValidator(_as_pair, json_schema_input_type=float | tuple[float, float]),
    AfterValidator(_ordered),
]


class VerticalFlip(ConfigPart):
    """Mirroring of each training image, top to bottom, with probability one half."""

    kind: Literal["vertical_flip"] = "vertical_flip"


class RandomResizedCrop(ConfigPart):
    """A box of each training image, brought back to the image's size.

    `scale` is the range of the box's share of the area, `ratio` that of its width over its height.
    """

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    scale: AreaRange = (0.08, 1.0)
    ratio: RatioRange = (3 / 4, 4 / 3)


class ColorJitter(ConfigPart):
    """Brightness, contrast, saturation and hue of each training image, in a random order.

    The factors of the first three are drawn from `1 - value` (at least 0) to `1 + value`; the hue
    is turned by up to `hue` of its circle, either way.
    """

    kind: Literal["color_jitter"] = "color_jitter"
    brightness: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: Annotated[Real, Field(ge=0.0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise ValueError(
                "color_jitter changes nothing; give brightness, contrast, saturation or hue "
                "(0 to 0.5)"
            )
        return self


class Grayscale(ConfigPart):
    """Greyscale, in three equal channels, for a training image with probability `p`."""

    kind: Literal["grayscale"] = "grayscale"
    p: Probability = 0.1


class GaussianBlur(ConfigPart):
    """Gaussian blur of a training image with probability `p`.

    `kernel` is the side of the window in pixels, `sigma` the standard deviation or its range.
    """

    kind: Literal["gaussian_blur"] = "gaussian_blur"
    kernel: Annotated[Whole, Field(ge=3, le=65_535)]
    sigma: SigmaRange = (0.1, 2.0)
    p: Probability = 1.0

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(
                f"an odd number of pixels, but got {value}; {value - 1} or {value + 1} is one"
            )
        return value


class Solarize(ConfigPart):
    """Inversion of pixel values from `threshold` up, for a training image with probability `p`.

    The default threshold is half of the range, as in BYOL (arXiv 2006.07733).
    """

    kind: Literal["solarize"] = "solarize"
    threshold: Annotated[Real, Field(ge=0.0, le=255.0)] = 128.0
    p: Probability = 0.5


class Posterize(ConfigPart):
    """The highest `bits` bits alone of pixel values, for a training image with probability `p`.

    The default is the strongest setting of AutoAugment (arXiv 1805.09501, table 6).
    """

    kind: Literal["posterize"] = "posterize"
    bits: Annotated[Whole, Field(ge=0, le=8)] = 4
    p: Probability = 0.5


class TrivialAugment(ConfigPart):
    """One operation of 14 for each training image, of random strength (arXiv 2103.10158, wide)."""

    kind: Literal["trivial_augment"] = "trivial_augment"


class RandAugment(ConfigPart):
    """`n` operations of 14 for each training image, of one strength (arXiv 1909.13719)."""

    kind: Literal["rand_augment"] = "rand_augment"
    n: Annotated[Whole, Field(ge=1, le=100)] = 2
    magnitude: Annotated[Whole, Field(ge=0, le=MAGNITUDE_BINS - 1)] = 9


class RandomErasing(ConfigPart):
    """One colour in a rectangle of a training image, with probability `p` (arXiv 1708.04896).

    `scale` is the range of the rectangle's share of the area, `ratio` that of its height over its
    width. `fill: mean` is the mean of `normalize`, so 0 in the network's input.
    """

    kind: Literal["random_erasing"] = "random_erasing"
    p: Probability = 0.5
    scale: AreaRange = (0.02, 0.33)
    ratio: RatioRange = (0.3, 3.3)
    fill: Literal["mean", "black"] = "mean"


class OwnTransform(ConfigPart):
    """A transform of the user's: `package.module:Class`, and the keywords that make it."""

    kind: Literal["own"] = "own"
    name: str
    options: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if problem := check_function_name(value):
            raise ValueError(problem.replace("package.module:function", "package.module:Class"))
        return value

    @field_validator("options")
    @classmethod
    def _null_if_empty(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value or None
