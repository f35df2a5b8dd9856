"""Grids of small images with captions, as one RGB image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito's palette (jfly.uni-koeln.de/color), as in the other figures.
INK, GREY = (34, 34, 34), (110, 110, 110)
GREEN, VERMILION, BLUE = (0, 128, 96), (213, 94, 0), (0, 114, 178)

TILE, GAP, MARGIN = 120, 10, 20
TEXT, LINE, TITLE, TITLE_LINE = 14, 19, 20, 32


@dataclass(frozen=True)
class Tile:
    """Image, `(height, width, 3)` or grey `(height, width)`, with lines of text below it."""

    image: Pixels
    lines: tuple[str, ...] = ()
    colour: tuple[int, int, int] = INK


def tile_grid(
    tiles: Sequence[Tile],
    columns: int,
    *,
    title: str,
    note: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Image.Image:
    """Draw the tiles row by row under a title and a note, all at one size.

    Small images are enlarged without interpolation, so that only their own pixels are drawn. A
    line that is wider than its tile ends in an ellipsis; title and note are wrapped; a column's
    label may run over the next columns if they have none.
    """
    rows = -(-len(tiles) // columns)
    label_width = max((_width(label, TEXT) for label in row_labels), default=0)
    left = MARGIN + (label_width + GAP if label_width else 0)
    width = left + columns * (TILE + GAP) - GAP + MARGIN
    title_lines = _wrapped(title, TITLE, width - 2 * MARGIN)
    note_lines = _wrapped(note, TEXT, width - 2 * MARGIN) if note else []
    top = MARGIN + len(title_lines) * TITLE_LINE + len(note_lines) * LINE + GAP
    top += LINE if column_labels else 0
    text_height = max((len(tile.lines) for tile in tiles), default=0) * LINE
    row_height = TILE + GAP + (text_height + 4 if text_height else 0)
    canvas = Image.new("RGB", (width, top + rows * row_height - GAP + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(title_lines):
        draw.text((MARGIN, MARGIN + i * TITLE_LINE), line, INK, _font(TITLE))
    for i, line in enumerate(note_lines):
        y = MARGIN + len(title_lines) * TITLE_LINE + i * LINE
        draw.text((MARGIN, y), line, GREY, _font(TEXT))
    for i, label in enumerate(column_labels):
        draw.text((left + i * (TILE + GAP), top - LINE - 3), label, INK, _font(TEXT))
    for i, label in enumerate(row_labels):
        y = top + i * row_height + TILE // 2 - TEXT // 2
        draw.text((left - GAP, y), label, INK, _font(TEXT), anchor="ra")
    for i, tile in enumerate(tiles):
        x, y = left + i % columns * (TILE + GAP), top + i // columns * row_height
        canvas.paste(_scaled(tile.image), (x, y))
        for n, line in enumerate(tile.lines):
            position = (x, y + TILE + 4 + n * LINE)
            draw.text(position, _shortened(line, TILE), tile.colour if n else INK, _font(TEXT))
    return canvas


def grey(values: NDArray[np.floating]) -> Pixels:
    """Map values `(height, width)` to grey: the lowest black, the highest white."""
    low, span = float(values.min()), float(np.ptp(values)) or 1.0
    return np.asarray(np.rint((values - low) / span * 255), dtype=np.uint8)


def signed(values: NDArray[np.floating]) -> Pixels:
    """Map values `(height, width)` to colours: blue below zero, white at zero, vermilion above.

    The strongest colour stands for the 99th percentile of the absolute values and above.
    """
    strongest = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
    share = np.clip(values / strongest, -1, 1)[..., None]
    end = np.where(share > 0, VERMILION, BLUE)
    return np.asarray(np.rint(255 + np.abs(share) * (end - 255.0)), dtype=np.uint8)


def _scaled(image: Pixels) -> Image.Image:
    picture = Image.fromarray(image).convert("RGB")
    small = max(picture.size) <= TILE
    method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((TILE, TILE), method)


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _width(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1


def _shortened(text: str, width: int) -> str:
    """Return the text, or as much of its beginning as fits."""
    if _width(text, TEXT) <= width:
        return text
    while text and _width(f"{text}…", TEXT) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Break the text between words into lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
