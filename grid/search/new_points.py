"""New points of a tuned cell: drawn from its study, each once, precomputed if that is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from grid.search.study import SLOW_SAMPLERS, CellStudy, Params, SuggestionResult
from grid.sweep.axes import finite_points
from grid.sweep.spec import Tune

# After this many draws in a row that repeat a point, a new point is chosen at random.
MOST_DUPLICATES = 10
# A suggestion that takes longer is made ahead, so that no slot waits for it.
LONGEST_ASK_S = 0.01
# Axes with more points than this count as continuous.
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Point:
    """Values for a suggestion, and the draw that they belong to.

    `from_sampler` is false if the draws only repeated points, so that a random one replaced them.
    """

    draw: int
    params: Params
    from_sampler: bool


class NewPoints:
    """Source of a cell's points, which tells its study the results."""

    def __init__(self, tune: Tune, axes: Mapping[str, Any], cell_id: str) -> None:
        self._axes = axes
        self._study = CellStudy(tune, axes, cell_id)
        self._slow_sampler = tune.sampler in SLOW_SAMPLERS
        self._draws = 0
        # The latest result of each suggestion, in the order of their first ones.
        self._results: dict[int, SuggestionResult] = {}
        # Results that no stored suggestion has, and how many of them the last draw knew.
        self._unstored: list[SuggestionResult] = []
        self._known = 0
        # Seconds that the last draw took, and a draw that is made ahead.
        self._ask_s = 0.0
        self._ahead: Future[Params] | None = None

    def next(self, is_new: Callable[[Params], bool]) -> Point | None:
        """Take a point that the cell does not have yet; None if there is none."""
        if (point := self._draw_new(is_new)) is not None:
            self._study.take(point.draw, point.params, own=point.from_sampler)
        return point

    def prepare(self, executor: Executor) -> None:
        """Precompute the next point if the sampler is slow.

        It does not know the trials that end until it is taken.
        """
        if self._slow_sampler and self._ask_s > LONGEST_ASK_S and self._ahead is None:
            self._known = len(self._unstored)
            self._ahead = executor.submit(self._ask, self._next_draw())

    def tell(self, result: SuggestionResult) -> None:
        """Tell the study a result, unless it knows that one."""
        if self._results.get(result.number) != result:
            self._results[result.number] = result
            self._unstored.append(result)
            self._study.tell(result)

    def restore(self, point: Point, known: Iterable[SuggestionResult]) -> None:
        """Take a stored point again, after the results that its draw knew."""
        for result in known:
            self._results[result.number] = result
            self._study.tell(result)
        for skipped in range(self._draws, point.draw):
            self._study.skip(skipped)
        self._draws = point.draw + 1
        self._study.take(point.draw, point.params, own=point.from_sampler)

    def known_results(self) -> list[SuggestionResult]:
        """Return the results that the last draw knew and no stored suggestion has."""
        return self._unstored[: self._known]

    def mark_stored(self) -> None:
        """Note that the last suggestion is stored with the results that it knew."""
        self._unstored = self._unstored[self._known :]
        self._known = 0

    def told_order(self) -> list[int]:
        """Return the suggestions with a result, in the order of their first ones."""
        return list(self._results)

    def _draw_new(self, is_new: Callable[[Params], bool]) -> Point | None:
        for _ in range(MOST_DUPLICATES):
            if self._ahead is not None:
                params = self._ahead.result()
                self._ahead = None
            else:
                self._known = len(self._unstored)
                params = self._ask(self._next_draw())
            if is_new(params):
                return Point(self._draws - 1, params, from_sampler=True)
            self._study.skip(self._draws - 1)
        draw = self._next_draw()
        points = finite_points(self._axes, MOST_POINTS)
        if points is None:
            params = self._study.random_point(draw)
            return Point(draw, params, from_sampler=False) if is_new(params) else None
        new = [point for point in points if is_new(point)]
        return Point(draw, new[draw % len(new)], from_sampler=False) if new else None

    def _ask(self, draw: int) -> Params:
        began = perf_counter()
        params = self._study.ask(draw)
        self._ask_s = perf_counter() - began
        return params

    def _next_draw(self) -> int:
        self._draws += 1
        return self._draws - 1
