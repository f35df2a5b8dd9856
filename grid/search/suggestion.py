"""One suggestion of a tuned cell, and its row in the table `asked`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grid.plan.ids import Trial, config_json
from grid.search.new_points import Point
from grid.search.study import Params, SuggestionResult
from grid.store.folder import now
from grid.sweep.axes import contains


@dataclass
class Suggestion:
    """One config of a tuned cell: its values and its trials; the first `released` may run."""

    number: int
    params: Params
    trials: tuple[Trial, ...]
    released: int = 0
    settled: bool = False

    @property
    def trial_ids(self) -> list[str]:
        """Ids of its trials."""
        return [trial.trial_id for trial in self.trials]


@dataclass(frozen=True)
class StoredSuggestion:
    """Searched suggestion as the results folder has it.

    `known` are the results that its draw knew and no suggestion before it did.
    """

    number: int
    point: Point
    known: tuple[SuggestionResult, ...]
    trial_ids: list[str]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> StoredSuggestion:
        """Read a row of the table `asked`."""
        return cls(
            number=row["suggestion"],
            point=Point(
                draw=row["suggestion"] if row["draw"] is None else row["draw"],
                params=json.loads(row["params"]),
                from_sampler=row["sampled_by"] != "fallback",
            ),
            known=tuple(SuggestionResult(*result) for result in json.loads(row["told"] or "[]")),
            trial_ids=row["trial_ids"],
        )

    def possible(self, axes: Mapping[str, Any]) -> bool:
        """Check that the axes of the present sweep file can make these values."""
        params = self.point.params
        return all(key in axes and contains(axes[key], params[key]) for key in params)


def suggestion_row(
    cell_id: str,
    suggestion: Suggestion,
    sampler: str,
    point: Point | None,
    known: Iterable[SuggestionResult],
    told_order: list[int],
) -> dict[str, Any]:
    """Make a suggestion's row in the table `asked`; a confirmed one has no `point`."""
    first = suggestion.trials[0] if suggestion.trials else None
    return {
        "cell_id": cell_id,
        "suggestion": suggestion.number,
        "config_id": first.config_id if first else None,
        "config": config_json(first.config) if first else None,
        "params": json.dumps(suggestion.params),
        "role": "searched" if point else "confirmed",
        "draw": point.draw if point else None,
        "sampled_by": (sampler if point.from_sampler else "fallback") if point else None,
        "trial_ids": suggestion.trial_ids,
        "told": json.dumps([result.as_list() for result in known]),
        "told_order": told_order,
        "asked_at": now(),
    }
