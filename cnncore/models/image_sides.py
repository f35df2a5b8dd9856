"""Image sides that a network takes, searched by trying: for messages about a side that fails."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from time import monotonic

# Sides at which the search starts: those of data sets and of published networks, in pixels.
USUAL = (
    *(1, 2, 4, 8, 16, 20, 24, 28, 32, 40, 48, 56, 64, 75, 80, 96, 112, 128, 160, 192, 224),
    *(240, 256, 288, 299, 320, 336, 384, 448, 512, 768, 1024),
)
# Sides tried one by one around the side that fails.
NEAR = 64
# Sides so far beyond the least are tried, to tell "at least" from "a multiple of".
BEYOND = (1, 2, 3, 5, 17)
# Sides that a message lists beside the nearest.
LISTED = 3
# Most seconds of a search; a large network takes up to a second for each side.
LONGEST_S = 20.0

Fits = Callable[[int], bool]


def describe_sides(fits: Fits, asked: int) -> str | None:
    """Return in words which image sides fit, given that `asked` does not; None if none is found.

    `fits` is asked at most once for each side, and for 20 seconds in all. If the sides around a
    boundary fit on one side of it, all beyond are taken to fit.
    """
    search = _Search(fits)
    larger = next((side for side in USUAL if side > asked and search.fits(side)), None)
    smaller = next((side for side in USUAL[::-1] if side < asked and search.fits(side)), None)
    text = _describe(search, asked, larger, smaller)
    if search.late:  # what was not tried is not known
        known = larger or smaller
        return f"it takes images of {known} pixels, among others" if known else None
    return text


def _describe(search: _Search, asked: int, larger: int | None, smaller: int | None) -> str | None:
    """Describe the sides around `asked`, if these two are the nearest usual ones that fit."""
    if larger and not smaller:
        least = search.boundary(asked, larger)
        if all(search.fits(least + more) for more in BEYOND):
            return f"it needs images of at least {least} pixels"
    if smaller and not larger:
        most = search.boundary(asked, smaller)
        if search.fits(most - 1):
            least = 1 if search.fits(1) else search.boundary(0, most - 1)
            return f"it takes images of {'at most' if least == 1 else f'{least} to'} {most} pixels"
    below = search.nearest(asked, -1) or smaller
    above = search.nearest(asked, 1) or larger
    if below and above:
        return f"the nearest sides that it takes are {below} and {above} pixels"
    only = below or above
    if only is None:
        return None
    others = islice((side for side in USUAL if side != only and search.fits(side)), LISTED)
    sides = sorted([only, *others])
    if len(sides) == 1:
        return f"it takes images of {only} pixels only"
    return f"it takes images of {', '.join(map(str, sides))} pixels, not of every side"


class _Search:
    """Sides that were tried, until the time is up: from then on nothing fits."""

    def __init__(self, fits: Fits) -> None:
        self._fits, self._known, self._end = fits, dict[int, bool](), monotonic() + LONGEST_S
        self.late = False

    def fits(self, side: int) -> bool:
        """Check whether a side fits; False, and `late` from then on, if the time is up."""
        if side not in self._known:
            if side < 1:
                return False
            if monotonic() > self._end:
                self.late = True
                return False
            self._known[side] = self._fits(side)
        return self._known[side]

    def boundary(self, bad: int, good: int) -> int:
        """Return the side nearest to `bad` that fits, if all between it and `good` fit."""
        while abs(good - bad) > 1:
            middle = (bad + good) // 2
            bad, good = (bad, middle) if self.fits(middle) else (middle, good)
        return good

    def nearest(self, asked: int, step: int) -> int | None:
        """Return the nearest side above (`step` 1) or below (-1) that fits, or None."""
        sides = (asked + step * i for i in count(1))
        return next((s for s, _ in zip(sides, range(NEAR), strict=False) if self.fits(s)), None)
