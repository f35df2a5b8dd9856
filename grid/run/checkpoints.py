"""Which checkpoints of ended trials stay: the best of each cell, and what `disk_gib` has room for.

Everything is worked out from what the results folder has, so it is the same after a restart. A
trial that falls behind k others stays behind them, so what was removed is never wanted back.
"""

from __future__ import annotations

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

# A running trial's share for its rows, far more than they take.
ROWS_BYTES = MIB
# A complete trial in its cell, the best first: less its val_top1, when it ended, its id.
Place = tuple[float, int, str]


@dataclass
class Keeper:
    """The checkpoints of one results folder while a driver holds it.

    `sizes` says what a trial's checkpoints will take, `sources` which ended trials others will go
    on from; both are asked only under `disk_gib`.
    """

    plan: Plan
    store: Store
    sizes: Callable[[Trial], Sizes]
    sources: Callable[[], Collection[str]]
    note: Callable[[str], None]
    _ranked: dict[str, list[Place]] = field(default_factory=dict)
    # Every trial of the plan that was ever handed out or asked, ended or not.
    _members: set[str] = field(default_factory=set)
    _said: bool = False

    def restore(self, finished: Mapping[str, Finished]) -> None:
        """Take up what the results folder says, and remove what `keep` does not want."""
        cells = {cell.cell_id for cell in self.plan.cells}
        member_of = {trial.trial_id: trial.cell_id for trial in self.plan.trials}
        for asked in self.store.asked() if self.plan.spec.tune else ():
            if asked["cell_id"] in cells:
                member_of.update(dict.fromkeys(asked["trial_ids"], asked["cell_id"]))
        self._members.update(member_of)
        for trial_id, row in finished.items():
            if trial_id in member_of and row.state == "complete":
                self._place(member_of[trial_id], row.val_top1, row.ended_at, trial_id)
        there = taken_by_trial(self.store.folder / "checkpoints")
        for cell_id in self._ranked:
            for trial_id in self._fallen_out(cell_id):
                if trial_id in there:
                    drop_checkpoints(self.store, trial_id)

    def take(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """A trial is complete: of its cell only the best keep their weights."""
        ended_at = (row["ended_at"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        self._place(trial.cell_id, row["val_top1"], ended_at, trial.trial_id)
        for trial_id in self._fallen_out(trial.cell_id):
            drop_checkpoints(self.store, trial_id)

    def has_room(self, trial: Trial, running: Collection[Trial]) -> bool:
        """Whether a trial may start under `disk_gib`; frees what is least worth keeping for it.

        Raises `StoreError` where it may not and nothing runs that could change it.
        """
        if self.plan.spec.disk_gib is None:
            return True
        self._members.add(trial.trial_id)
        there = taken_by_trial(self.store.folder / "checkpoints")
        reserved = {t.trial_id: self.sizes(t).most + ROWS_BYTES for t in (*running, trial)}
        more = sum(max(0, size - there.get(name, 0)) for name, size in reserved.items())
        now = taken(self.store.folder)
        excess = now + more - int(self.plan.spec.disk_gib * GIB)
        if excess <= 0:
            return True
        victims = self._least_worth(there)
        if sum(there[victim] for victim in victims) < excess:
            if running:
                return False
            raise StoreError(self._full(now, more))
        self._say()
        for victim in victims:
            drop_checkpoints(self.store, victim)
            excess -= there[victim]
            if excess <= 0:
                break
        return True

    def _place(self, cell_id: str, val_top1: float | None, ended_at: int, trial_id: str) -> None:
        insort(self._ranked.setdefault(cell_id, []), (-(val_top1 or 0.0), ended_at, trial_id))

    def _fallen_out(self, cell_id: str) -> list[str]:
        """Trials of a cell that `keep` has no place for; they are no longer ranked."""
        ranked, top = self._ranked[cell_id], self.plan.spec.keep_top
        if top is None:
            return []
        fallen = [trial_id for _, _, trial_id in ranked[top:]]
        del ranked[top:]
        return fallen

    def _least_worth(self, there: Mapping[str, int]) -> list[str]:
        """Trials whose checkpoints may go, the least worth keeping first.

        Those that the plan no longer has; then the complete ones that are not the best of their
        cell, the furthest behind first, of equals the least accurate. Never those that a trial of
        the plan goes on from, its own or another's.
        """
        sources = self.sources()
        strangers = [name for name in sorted(there) if name not in self._members | set(sources)]
        behind = [
            (-rank, -worse, trial_id)
            for ranked in self._ranked.values()
            for rank, (worse, _, trial_id) in enumerate(ranked)
            if rank >= (self.plan.spec.keep_top or 1)
            and trial_id in there
            and trial_id not in sources
        ]
        return [*strangers, *(trial_id for _, _, trial_id in sorted(behind))]

    def _say(self) -> None:
        if not self._said:
            self._said = True
            self.note(
                f"disk_gib {self.plan.spec.disk_gib:g} is reached: checkpoints that are least "
                "worth keeping are removed (docs/sweep-file.md says which)"
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
    """The keeper of a folder that a driver holds; `restore` it first."""

    def sizes(trial: Trial) -> Sizes:
        return trial_sizes(trial.config, data_dir, skip_unreadable=plan.skip_unreadable)

    def sources() -> set[str]:
        trials = search.trials()
        left = [trials[trial_id] for trial_id in search.unfinished()]
        return {start.trial_id for trial in left if (start := lineage.start(trial))}

    def note(text: str) -> None:
        console.print(text, style="yellow", highlight=False, markup=False)

    return Keeper(plan, store, sizes, sources, note)
