"""One suggestion of a tuned cell, and its row in the table `asked`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grid.plan.ids import Trial, config_json, digest
from grid.search.new_points import Point
from grid.search.study import Params, SuggestionResult
from grid.store.folder import now
from grid.sweep.axes import applies, contains, in_order
from grid.sweep.spec import Tune


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
    config_id: str
    # The search that asked it; null in folders of earlier versions, which have only the sampler.
    search_id: str | None
    sampled_by: str

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
            config_id=row["config_id"],
            search_id=row["search_id"],
            sampled_by=row["sampled_by"],
        )

    def possible(self, axes: Mapping[str, Any], search_id: str, sampler: str) -> bool:
        """Check that the present search can have asked it: its axes, its sampler, its seed."""
        if self.search_id is not None and self.search_id != search_id:
            return False
        if self.sampled_by not in (sampler, "fallback"):
            return False
        params = self.point.params
        active = {key for key, axis in in_order(axes) if applies(axis, axes, params)}
        return set(params) == active and all(contains(axes[key], params[key]) for key in params)


def make_search_id(tune: Tune, axes: Mapping[str, Any]) -> str:
    """Return a digest of what decides a cell's points beside results: axes, sampler and seed."""
    content = {key: axis.model_dump(mode="json") for key, axis in axes.items()}
    return digest({"axes": content, "sampler": tune.sampler, "seed": tune.seed})


def suggestion_row(
    cell_id: str,
    suggestion: Suggestion,
    sampler: str,
    search_id: str,
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
        "search_id": search_id,
    }


def suggestion_name(cell_id: str, number: int, role: str) -> str:
    """Return the name of a suggestion's file in the table `asked`."""
    return f"{cell_id}-{'confirmed-' if role == 'confirmed' else ''}{number}"
