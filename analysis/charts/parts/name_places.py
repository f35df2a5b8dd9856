"""Places of names beside points: none covers another name, and few cover a mark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Size of a bold Helvetica of 12 pixels: the mean width of a character and the height of a line.
CHARACTER, LINE = 7.0, 14.0
# Half the side of a mark, and the gap between a mark and its name.
MARK, GAP = 6.0, 3.0
# Pixels above a plot in which a name may stand, and the share of a name that may cover marks.
HEADROOM, COVERED = 20.0, 0.3


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area that two rectangles share, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def inside(self, width: float, height: float) -> bool:
        """Return whether the rectangle lies within a plot of this size, or just above it."""
        return self.left >= 0 and self.top >= 0 and self.right <= width and self.bottom <= height


def place_names(
    names: Sequence[tuple[str, float, float]],
    marks: Iterable[Box],
    size: tuple[float, float],
) -> list[tuple[float, float] | None]:
    """Return the centre of each name, or None if it fits nowhere.

    `names` are `(text, x, y)` of their points in pixels, the most important first; `marks` is what
    names should not cover; `size` is the plot's width and height. A name covers no other name and
    at most `COVERED` of its own area covers marks. Above and left of the point is tried first: a
    Pareto front has no marks there.
    """
    obstacles = list(marks)
    placed: list[Box] = []
    centres: list[tuple[float, float] | None] = []
    for text, x, y in names:
        allowed = COVERED * CHARACTER * len(text) * LINE
        costs = [
            (sum(box.overlap(mark) for mark in obstacles), order, box)
            for order, box in enumerate(_around(text, x, y))
            if box.inside(*size) and not any(box.overlap(other) for other in placed)
        ]
        cost, _, box = min(costs, default=(math.inf, 0, Box(0, 0, 0, 0)), key=lambda c: c[:2])
        if cost > allowed:
            centres.append(None)
            continue
        placed.append(box)
        centres.append(((box.left + box.right) / 2, (box.top + box.bottom) / 2))
    return centres


def mark_box(x: float, y: float) -> Box:
    """Return the rectangle of a point's mark."""
    return Box(x - MARK, y - MARK, x + MARK, y + MARK)


def _around(text: str, x: float, y: float) -> list[Box]:
    """Return the rectangles around a point in which its name may stand."""
    width, away = CHARACTER * len(text), MARK + GAP
    aside, over = width / 2 + away, LINE / 2 + away
    near = LINE / 2 + 2
    # Offsets of the name's centre: above, its end above the point, left of it, and so on round.
    offsets = [(0.0, -over), (-width / 2, -over), (-aside, -near), (-aside, 0.0)]
    offsets += [(width / 2, -over), (aside, 0.0), (0.0, over), (width / 2, over), (aside, near)]
    offsets += [(-width / 2, over), (0.0, -over - LINE), (0.0, over + LINE)]
    return [
        Box(x + dx - width / 2, y + dy - LINE / 2, x + dx + width / 2, y + dy + LINE / 2)
        for dx, dy in offsets
    ]
