"""Changes of images: random ones (`augment`), fixed ones (`enhance`), normalisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cnncore.config.transforms import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    OwnTransform,
    Posterize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Solarize,
    TrivialAugment,
    VerticalFlip,
)
from cnncore.config.values import (
    ConfigPart,
    NonNegativeFloat,
    Pixels,
    PositiveFloat,
    Real,
    Share,
    Whole,
    with_kind,
)

# Ways to make a square image of a picture that is none; null is "crop".
Resize = Literal["squash", "crop", "pad"]
Level = Annotated[Whole, Field(ge=0, le=255)]
# Colour behind transparency and around a padded picture; null is Pillow's rule by picture
# (`cnncore/data/folders/pictures.py`), and black around it.
Background = Literal["white", "black"] | tuple[Level, Level, Level]
NAMED_COLOURS: dict[Literal["white", "black"], tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


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


AugmentKind = (
    Flip
    | Crop
    | OwnTransform
    | VerticalFlip
    | RandomResizedCrop
    | Rotate
    | Translate
    | Scale
    | Brightness
    | Contrast
    | Saturation
    | Sharpness
    | ColorJitter
    | Grayscale
    | GaussianBlur
    | Solarize
    | Posterize
    | TrivialAugment
    | RandAugment
    | Erase
    | RandomErasing
)
# Kinds that do one thing in two ways, and what that is.
ALTERNATIVES = (
    ("crop", "random_resized_crop", "cut each image to a random part"),
    ("trivial_augment", "rand_augment", "draw each image's operations"),
    ("erase", "random_erasing", "cover a random part of each image"),
)


def _with_kind(value: Any) -> Any:
    """Read an entry of `augment`; `package.module:Class` is one of kind `own`."""
    if isinstance(value, str) and ":" in value:
        return {"kind": "own", "name": value}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        if ":" in str(name) and (options is None or isinstance(options, dict)):
            return {"kind": "own", "name": name, "options": options}
    return with_kind(value)


Augment = Annotated[
    Annotated[AugmentKind, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]


def each_once(parts: tuple[AugmentKind, ...]) -> tuple[AugmentKind, ...]:
    """Refuse kinds that stand twice, and kinds that exclude each other."""
    kinds = [part.name if isinstance(part, OwnTransform) else part.kind for part in parts]
    if repeated := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"each kind once, but got {', '.join(repeated)} more than once")
    for one, other, what in ALTERNATIVES:
        if one in kinds and other in kinds:
            raise ValueError(f"{one} and {other} both {what}; give one of them")
    return parts
