"""Checkpoints that stay after their trial: the best of each cell, as many as `disk_gib` allows.

All decisions follow from the results folder, so they are the same after a restart. A trial that
falls behind k others stays behind them, so no removed checkpoint is ever wanted back.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grid.cost.disk import Sizes, trial_sizes
from grid.errors import StoreError
from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.search.sweep_search import Search
from grid.store.folder import Finished, Store
from grid.store.usage import GIB, MIB, taken, taken_by_trial
from grid.trial.lineage import Lineage
from grid.trial.rows import drop_checkpoints

if TYPE_CHECKING:
    from rich.console import Console

# Room reserved for a running trial's rows, far more than they take.
ROWS_BYTES = MIB
# The folder is measured anew at least once in this many starts, as others may write into it.
MEASURE_EVERY = 50
# A complete trial in the ranking of its cell: minus its score, the time of its end, its id.
Ranked = tuple[float, int, str]


@dataclass
class Keeper:
    """The checkpoints of one results folder while a driver holds it.

    `sizes` returns the bytes of a trial's checkpoints, `sources` the ended trials that others will
    continue; both are called only under `disk_gib`.
    """

    plan: Plan
    store: Store
    sizes: Callable[[Trial], Sizes]
    sources: Callable[[], Collection[str]]
    note: Callable[[str], None]
    _ranked: dict[str, list[Ranked]] = field(default_factory=dict)
    # Every trial of the plan that was ever handed out or suggested, ended or not.
    _members: set[str] = field(default_factory=set)
    _noted: bool = False
    # The most bytes that the folder takes once all trials since it was last measured have taken
    # theirs, and the number of these trials. Before it is measured there is no bound.
    _bound: float = math.inf
    _starts: int = 0

    def restore(self, finished: Mapping[str, Finished]) -> None:
        """Rank the complete trials of the folder; remove the checkpoints that `keep` excludes."""
        cells = {cell.cell_id for cell in self.plan.cells}
        member_of = {trial.trial_id: trial.cell_id for trial in self.plan.trials}
        for asked in self.store.asked() if self.plan.spec.tune else ():
            if asked["cell_id"] in cells:
                member_of.update(dict.fromkeys(asked["trial_ids"], asked["cell_id"]))
        self._members.update(member_of)
        for trial_id, row in finished.items():
            if trial_id in member_of and row.state == "complete":
                score = self.plan.objective.score_if_any(row.val_top1, row.objective)
                self._rank(member_of[trial_id], score, row.ended_at, trial_id)
        on_disk = taken_by_trial(self.store.folder / "checkpoints")
        for cell_id in self._ranked:
            for trial_id in self._fallen_out(cell_id):
                if trial_id in on_disk:
                    drop_checkpoints(self.store, trial_id)

    def take(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Rank a complete trial; remove the checkpoints of trials no longer among the best."""
        ended_at = (row["ended_at"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        score = self.plan.objective.score_if_any(row["val_top1"], row.get("objective"))
        self._rank(trial.cell_id, score, ended_at, trial.trial_id)
        for trial_id in self._fallen_out(trial.cell_id):
            drop_checkpoints(self.store, trial_id)

    def has_room(self, trial: Trial, running: Collection[Trial]) -> bool:
        """Return whether a trial may start under `disk_gib`; free the least valuable checkpoints.

        Raises `StoreError` if it may not and nothing runs that could change this.
        """
        if self.plan.spec.disk_gib is None:
            return True
        self._members.add(trial.trial_id)
        budget = int(self.plan.spec.disk_gib * GIB)
        self._bound += self.sizes(trial).most + ROWS_BYTES
        self._starts += 1
        if self._bound <= budget and self._starts < MEASURE_EVERY:
            return True
        on_disk = taken_by_trial(self.store.folder / "checkpoints")
        reserved = {t.trial_id: self.sizes(t).most + ROWS_BYTES for t in (*running, trial)}
        more = sum(max(0, size - on_disk.get(name, 0)) for name, size in reserved.items())
        now = taken(self.store.folder)
        excess = now + more - budget
        self._bound, self._starts = now + more, 0
        if excess <= 0:
            return True
        victims = self._least_worth(on_disk)
        if sum(on_disk[victim] for victim in victims) < excess:
            if running:
                return False
            raise StoreError(self._full(now, more))
        self._note_removal()
        for victim in victims:
            drop_checkpoints(self.store, victim)
            excess -= on_disk[victim]
            if excess <= 0:
                break
        return True

    def _rank(self, cell_id: str, score: float | None, ended_at: int, trial_id: str) -> None:
        worse = math.inf if score is None else -score
        insort(self._ranked.setdefault(cell_id, []), (worse, ended_at, trial_id))

    def _fallen_out(self, cell_id: str) -> list[str]:
        """Remove the trials beyond `keep`'s number from a cell's ranking and return them."""
        ranked, top = self._ranked[cell_id], self.plan.spec.keep_top
        if top is None:
            return []
        fallen = [trial_id for _, _, trial_id in ranked[top:]]
        del ranked[top:]
        return fallen

    def _least_worth(self, on_disk: Mapping[str, int]) -> list[str]:
        """Return the trials whose checkpoints may go, the least valuable first.

        First come trials that the plan no longer has; then complete ones that are not the best of
        their cell, the lowest ranks first, of equal ranks those of the lowest score. Never those
        that a trial of the plan continues, itself or a longer one.
        """
        sources = self.sources()
        strangers = [name for name in sorted(on_disk) if name not in self._members | set(sources)]
        behind = [
            (-rank, -worse, trial_id)
            for ranked in self._ranked.values()
            for rank, (worse, _, trial_id) in enumerate(ranked)
            if rank >= (self.plan.spec.keep_top or 1)
            and trial_id in on_disk
            and trial_id not in sources
        ]
        return [*strangers, *(trial_id for _, _, trial_id in sorted(behind))]

    def _note_removal(self) -> None:
        if not self._noted:
            self._noted = True
            self.note(
                f"disk_gib {self.plan.spec.disk_gib:g} is reached: checkpoints that are least "
                "worth keeping are removed (see docs/sweep-file.md)"
            )

    def _full(self, now: int, more: int) -> str:
        return (
            f"{self.store.folder}: takes {now / GIB:.3g} GiB of disk_gib "
            f"{self.plan.spec.disk_gib:g}, the next trial needs {more / GIB:.3g} more, and only "
            "checkpoints are left that are to be kept; what finished is kept: raise disk_gib or "
            "let `keep` keep less, and run the same command again"
        )


def open_keeper(
    plan: Plan, store: Store, data_dir: Path, search: Search, lineage: Lineage, console: Console
) -> Keeper:
    """Make the keeper of a folder that a driver holds; call its `restore` first."""

    def sizes(trial: Trial) -> Sizes:
        return trial_sizes(plan, trial.config, data_dir)

    def sources() -> set[str]:
        trials = search.trials()
        left = [trials[trial_id] for trial_id in search.unfinished()]
        return {start.trial_id for trial in left if (start := lineage.start(trial))}

    def note(text: str) -> None:
        console.print(text, style="yellow", highlight=False, markup=False)

    return Keeper(plan, store, sizes, sources, note)
