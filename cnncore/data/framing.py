"""How a picture of any shape becomes a square image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncore.config.images import NAMED_COLOURS, Background, Resize

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Framing:
    """Side of the images, the way from pictures that are not square, and the background.

    `resize` "crop" or None scales the shorter side and keeps the centre, "squash" scales both
    sides, "pad" scales the longer side and fills the rest with the background, or black.
    """

    side: int
    resize: Resize | None = None
    background: Background | None = None

    @property
    def colour(self) -> tuple[int, int, int] | None:
        """The background's levels of red, green and blue; None if none is stated."""
        if isinstance(self.background, str):
            return NAMED_COLOURS[self.background]
        return self.background

    @property
    def key(self) -> str:
        """Part of the names of decoded copies; the side alone if nothing else is stated."""
        parts = [str(self.side)]
        if self.resize not in (None, "crop"):
            parts.append(str(self.resize))
        if self.colour:
            parts.append(bytes(self.colour).hex())
        return "-".join(parts)

    def square(self, picture: Image.Image) -> Image.Image:
        """Return a square image of a picture, resampled bilinearly by Pillow."""
        from PIL import Image, ImageOps

        size, method = (self.side, self.side), Image.Resampling.BILINEAR
        if self.resize == "squash":
            return picture.resize(size, method)
        if self.resize == "pad":
            return ImageOps.pad(picture, size, method, self.colour or (0, 0, 0))
        return ImageOps.fit(picture, size, method)
