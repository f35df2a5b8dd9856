"""One picture file: facts about it, and its pixels as 8-bit RGB, by one rule per mode.

Upright by its EXIF orientation; the first frame or page; transparency laid on a stated background,
or else on white, or on black if hardly anything would show on white; grey of more than 8 bits and
floats scaled by a range that holds for the whole data set (`Ranges`); every other mode by Pillow's
`convert("RGB")`. A picture is given as its file, or as the bytes of one.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncore.regular_file import check_regular

if TYPE_CHECKING:
    from PIL import Image

Range = tuple[float, float]
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)

# Read by another program (Ghostscript, Windows) or known to Pillow by name only.
NOT_READ = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
# Told by their first bytes, for files whose suffix says nothing. Not TIFF: raw files of cameras
# begin alike and would be read as their thumbnail.
TOLD_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF", "JPEG2000")
# An image whose channels all vary by less than this on a background does not show there.
LEAST_SPREAD = 16


@dataclass(frozen=True)
class Picture:
    """Facts about a file: what it shows, or why it cannot be read.

    `mode` is Pillow's, empty if the file is no picture. `turned` says that its EXIF orientation
    changes it; `background` names the colour that its transparency is laid on; `several` says that
    it has more than one frame or page. `low` and `high` are the extremes of wide grey and of
    floats. `decoded` says that all its pixels were read, not just its header.
    """

    sha256: str
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    background: str = ""
    several: bool = False
    low: float = 0.0
    high: float = 0.0
    decoded: bool = False
    problem: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether it is grey of more than 8 bits."""
        return _is_wide(self.mode)


@dataclass(frozen=True)
class Ranges:
    """Values that become black and white, for a folder's wide integers and for its floats."""

    integers: Range = (0, 255)
    floats: Range = (0, 1)

    def of(self, mode: str) -> Range:
        """Return the range for images of this mode of Pillow's."""
        return self.floats if mode == "F" else self.integers


def find_ranges(pictures: Iterable[Picture]) -> Ranges:
    """Return the ranges of a folder.

    Integers: 0 to the largest number of as many bits as the folder's largest value needs, at least
    8. Floats: 0 to 1 or 0 to 255, if they lie in there. Other values: lowest to highest. Resampling
    overshoots, so floats from -0.5 to 1.5 still count as 0 to 1, and are clipped.
    """
    integers, floats = _extremes(pictures, floats=False), _extremes(pictures, floats=True)
    if integers[0] >= 0:
        integers = (0, 2 ** max(8, int(integers[1]).bit_length()) - 1)
    if floats[0] >= -0.5 and floats[1] <= 1.5:
        floats = (0, 1)
    elif floats[0] >= 0 and floats[1] <= 255:
        floats = (0, 255)
    return Ranges(integers, floats)


def change(picture: Picture, ranges: Ranges) -> str:
    """Describe how decoding changes a picture beyond Pillow's `convert("RGB")`; empty if not."""
    parts = ["turned"] if picture.turned else []
    if picture.background:
        parts.append(f"on {picture.background}")
    if picture.is_wide:
        low, high = ranges.of(picture.mode)
        parts.append(f"{low!r} to {high!r}")
    return ", ".join(parts)


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of pictures that this Pillow reads by itself, in lower case."""
    from PIL import Image

    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in _formats())


def look_at(content: Path | bytes, *, fully: bool = False, listed: bool = False) -> Picture:
    """Read a picture and return its facts; with `fully`, decode it to see if it is whole.

    A file of a folder may be no picture at all; with `listed` it is said to be one, whatever its
    name. Wide grey and images with transparency are decoded in any case.
    """
    any_format = listed or told_by_suffix(content)
    if not any_format and not _begins_like_a_picture(content):
        return Picture("")
    try:
        content = read_bytes(content)
    except OSError as error:
        return Picture("", problem=error.strerror or str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        with _open(io.BytesIO(content), any_format) as image:
            return _facts(image, content, Picture(digest), fully)
    except Exception as error:  # Pillow raises many types for a damaged file
        return Picture(digest, problem=str(error) or type(error).__name__)


def read_rgb(
    content: bytes, ranges: Ranges, *, background: Colour | None = None, any_format: bool = False
) -> Image.Image:
    """Return a picture as 8-bit RGB. Raises Pillow's errors for a damaged one.

    `background` lies behind transparency; without it, the colour follows from the picture. Without
    `any_format` only those formats are read that are told by their first bytes.
    """
    with _open(io.BytesIO(content), any_format) as image:
        _turn_upright(image)
        if _is_wide(image.mode):
            return _from_wide(image, ranges.of(image.mode), background or WHITE)
        if image.has_transparency_data:
            return _laid_on(image, background) if background else _laid(image)[0]
        if image.mode == "RGB":  # to convert it would copy it, under Python's lock
            image.load()
            return image
        return image.convert("RGB")


def told_by_suffix(content: Path | bytes) -> bool:
    """Tell if a file's name says that it is a picture."""
    return isinstance(content, Path) and content.suffix.lower() in suffixes()


def read_bytes(content: Path | bytes) -> bytes:
    """Return the bytes of a picture. Raises `OSError` for what is no regular file."""
    if isinstance(content, bytes):
        return content
    check_regular(content)
    return content.read_bytes()


def flatten(image: Image.Image) -> Image.Image:
    """Return an image without palette and transparency: grey or RGB; wide grey as it is."""
    if _is_wide(image.mode) or image.mode in ("L", "RGB", "1"):
        return image
    return _laid(image)[0] if image.has_transparency_data else image.convert("RGB")


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_READ)


def _begins_like_a_picture(content: Path | bytes) -> bool:
    file = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        with _open(file, any_format=False):
            return True
    except Exception:  # Pillow raises many types
        return False


def _open(file: io.BytesIO | Path, any_format: bool) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    formats = [name for name in _formats() if any_format or name in TOLD_BY_CONTENT]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise ValueError("it is no picture that can be read") from None


def _facts(image: Image.Image, content: bytes, picture: Picture, fully: bool) -> Picture:
    turned = _orientation(image, content) in range(2, 9)
    picture = replace(
        picture, mode=image.mode, width=image.width, height=image.height, turned=turned
    )
    if picture.is_wide:
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are no numbers")
        low, high = float(values.min()), float(values.max())
        picture = replace(picture, low=low, high=high, decoded=True)
    elif image.has_transparency_data:
        picture = replace(picture, background=_laid(image)[1], decoded=True)
    elif fully:
        image.convert("RGB")
        picture = replace(picture, decoded=True)
    # Last, because it may read another frame. The second image of an MPO is a preview.
    several = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    return replace(picture, several=several)


def _orientation(image: Image.Image, content: bytes) -> int:
    """Return the EXIF orientation; 1, upright, if there is none.

    Pillow turns TIFF by itself. It decodes a whole PNG to find its EXIF, so look for that first.
    """
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and not any(
        mark in content for mark in (b"eXIf", b"Raw profile type", b"Orientation")
    ):
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF data: the picture is shown as it is stored
        return 1


def _turn_upright(image: Image.Image) -> None:
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF data; damaged pixels are reported when they are decoded
        return


def _is_wide(mode: str) -> bool:
    return mode == "F" or mode.partition(";")[0] == "I"


def _from_wide(image: Image.Image, values_range: Range, background: Colour) -> Image.Image:
    from PIL import Image

    low, high = values_range
    values = np.asarray(image).astype(np.float64)
    scaled = (values.clip(low, high) - low) * (255 / ((high - low) or 1))
    grey = np.rint(scaled).astype(np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    if isinstance(clear := image.info.get("transparency"), int):
        rgb[values == clear] = background
    return Image.fromarray(rgb)


def _laid(image: Image.Image) -> tuple[Image.Image, str]:
    """Return an image laid on its background, and that colour; empty if nothing is transparent."""

    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A").getextrema()
    if alpha == (255, 255):
        return image.convert("RGB"), ""
    white, black = _laid_on(rgba, WHITE), _laid_on(rgba, (0, 0, 0))
    if _spread(white) < LEAST_SPREAD and _spread(black) > _spread(white):
        return black, "black"
    return white, "white"


def _laid_on(image: Image.Image, colour: Colour) -> Image.Image:
    from PIL import Image

    rgba = image.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, (*colour, 255))
    return Image.alpha_composite(ground, rgba).convert("RGB")


def _spread(image: Image.Image) -> int:
    """Return the largest difference of a channel's values."""
    values = np.asarray(image).reshape(-1, 3)
    return int((values.max(axis=0).astype(int) - values.min(axis=0)).max())


def _extremes(pictures: Iterable[Picture], *, floats: bool) -> Range:
    own = [item for item in pictures if item.is_wide and (item.mode == "F") == floats]
    if not own:
        return (0, 0)
    low, high = min(item.low for item in own), max(item.high for item in own)
    return (low, high) if floats else (int(low), int(high))
