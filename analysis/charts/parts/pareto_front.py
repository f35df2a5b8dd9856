"""The points of a figure that no other point beats: the Pareto front of accuracy and cost."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions of the points `(cost, accuracy)` on the front, the cheapest first.

    A point is on it if no other is at least as accurate at no more cost, and better in one of the
    two. Equal points are all on it.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    chosen: list[int] = []
    for place in order:
        best = points[chosen[-1]] if chosen else None
        if best is None or points[place][1] > best[1] or points[place] == best:
            chosen.append(place)
    return chosen


def steps(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the corners of the front's line: the best accuracy to be had for each cost.

    The line goes on at the last point's accuracy to the cost `end`.
    """
    corners: list[tuple[float, float]] = []
    for cost, accuracy in (points[place] for place in front(points)):
        if corners:
            corners.append((cost, corners[-1][1]))
        corners.append((cost, accuracy))
    return [*corners, (end, corners[-1][1])] if corners else []
