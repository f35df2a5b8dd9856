"""Search of a whole sweep: the next trial, of a grid in its order or of a tuned cell.

Every suggestion is stored before its first trial starts, so a search rebuilt from the results
folder goes on as an uninterrupted one would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from grid.lock.share import Share
from grid.phrases import counted
from grid.plan.ids import Trial
from grid.plan.plan import Cell, Plan
from grid.search.cell_search import CellSearch
from grid.search.outcomes import Outcome, Outcomes
from grid.search.stopping import GO, Verdict
from grid.store.folder import Finished, Store

__all__ = ["Outcome", "Search"]


class Search:
    """Search of a sweep: it hands out trials one by one and takes their outcomes.

    Trials in `finished` are never handed out; trials that were cut off come first. With a `share`
    other drivers' work is left out: trials of a grid, or whole tuned cells.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store | None,
        finished: Mapping[str, Finished],
        *,
        keep: bool = True,
        share: Share | None = None,
        read_finished: Callable[..., Mapping[str, Finished]] = lambda *trial_id: {},
        note: Callable[[str], object] = lambda text: None,
    ) -> None:
        """Without a `store` nothing is read, and without `keep` nothing is written: a rehearsal.

        `read_finished` reads the finished trials again, all or one: with a `share` other drivers
        finish some, too. `note` prints a remark for the user.
        """
        self._plan = plan
        self._store = store
        self._keep = keep
        self._share = share
        self._read_finished = read_finished
        self._print_note = note
        self._outcomes = Outcomes()
        self._note(finished)
        self._queue = deque(t for t in plan.trials if t.trial_id not in self._outcomes.ended)
        self._halted: set[str] = set()
        self._executor = ThreadPoolExecutor(1)  # its thread starts with its first work
        self._cells: dict[str, CellSearch] = {}
        # Work of other drivers: trials of a grid, tuned cells.
        self._elsewhere: deque[Trial] = deque()
        self._untaken = list(plan.cells) if plan.spec.tune else []
        if share is None:
            self._open(self._untaken, finished)
            self._untaken = []

    def _note(self, finished: Mapping[str, Finished]) -> None:
        """Store the outcomes of finished trials."""
        for trial_id, row in finished.items():
            score = self._plan.objective.score_if_any(row.val_top1, row.objective)
            self._outcomes.ended[trial_id] = Outcome(row.state, score, row.epochs_run)

    def _open(self, cells: Iterable[Cell], finished: Mapping[str, Finished]) -> None:
        """Start the search of cells, or resume it from the results folder."""
        tune = self._plan.spec.tune
        if tune is None:
            return
        kept = self._store if self._keep else None
        new = {c.cell_id: CellSearch(self._plan, c, tune, self._outcomes, kept) for c in cells}
        self._cells |= new
        if self._store:
            self._restore(self._store, new, finished)

    def next(self) -> Trial | None:
        """Return the next trial to run; None if there is none now (see `over`)."""
        trial = self._next()
        if trial is not None:
            self._outcomes.running.add(trial.trial_id)
        return trial

    def _next(self) -> Trial | None:
        while True:
            untried, self._elsewhere = self._elsewhere, deque()
            self._queue.extend(untried)
            while self._queue:
                trial = self._queue.popleft()
                if trial.cell_id not in self._halted and self._take(trial):
                    return trial
            if (ready := self._next_of_cells()) is not None or not self._take_cell():
                return ready

    def _next_of_cells(self) -> Trial | None:
        while True:
            # The cell with the fewest suggestions first: all cells make progress alike.
            cells = sorted(self._cells.values(), key=lambda cell: len(cell.suggestions))
            for cell in cells:
                if (ready := cell.next()) is not None:
                    return ready
            if (next_cell := next((cell for cell in cells if cell.may_ask), None)) is None:
                return None
            next_cell.ask()

    def _take(self, trial: Trial) -> bool:
        """Take a trial of a grid, unless another driver runs or finished it."""
        if self._share is None or self._cells:
            return True
        if not self._share.take(trial.trial_id):
            self._elsewhere.append(trial)
            return False
        if ended := self._read_finished(trial.trial_id):
            self._note(ended)
            self._share.release([trial.trial_id])
        return not ended

    def _take_cell(self) -> bool:
        """Take a tuned cell that no other driver has; return whether there was one."""
        for cell in self._untaken if self._share else ():
            if self._share and self._share.take(cell.cell_id):
                self._untaken.remove(cell)
                finished = self._read_finished()
                self._note(finished)
                self._open([cell], finished)
                return True
        return False

    def prepare(self) -> None:
        """Precompute the likely next suggestion if the sampler is slow.

        Only for several slots: with one, a suggestion knows all trials that ended before it.
        """
        next_cell = min(
            (cell for cell in self._cells.values() if cell.may_ask),
            key=lambda cell: len(cell.suggestions),
            default=None,
        )
        if next_cell is not None:
            next_cell.prepare(self._executor)

    @property
    def over(self) -> bool:
        """Return whether `next`, having returned None, never returns another trial.

        Then nothing runs here, and live drivers hold all that is left.
        """
        if self._outcomes.running:
            return False
        return self._share is None or all(self._share.held(unit) for unit in self.elsewhere())

    def elsewhere(self) -> list[str]:
        """Return the units of work that other drivers held at the last check."""
        trials = [trial.trial_id for trial in self._elsewhere]
        return [*trials, *(cell.cell_id for cell in self._untaken)]

    def give_back(self, trial: Trial) -> None:
        """Return a trial that did not run to its end; it is handed out again, first."""
        self._outcomes.running.discard(trial.trial_id)
        self._queue.appendleft(trial)

    def judge(self, trial: Trial, epoch: int, score: float | None) -> Verdict:
        """Decide on a running trial after an epoch by its score: it goes on, waits or ends."""
        cell = self._cells.get(trial.cell_id)
        return cell.judge(trial, epoch, score) if cell else GO

    def pause_epochs(self, trial: Trial) -> tuple[int, ...]:
        """Return the epochs after which a trial may have to wait."""
        cell = self._cells.get(trial.cell_id)
        return cell.pause_epochs(trial) if cell else ()

    def wait(self, trial: Trial, outcome: Outcome) -> None:
        """Let a trial wait with a checkpoint, as `judge` decided."""
        self._outcomes.running.discard(trial.trial_id)
        self._outcomes.waiting[trial.trial_id] = outcome
        self._cells[trial.cell_id].wait(trial, outcome)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the outcome of a trial that ended."""
        self._outcomes.running.discard(trial.trial_id)
        self._outcomes.ended[trial.trial_id] = outcome
        if self._share:
            self._share.release([trial.trial_id])
        if cell := self._cells.get(trial.cell_id):
            cell.end(trial)

    def halt(self, cell_id: str) -> None:
        """Hand out no further trial of a cell."""
        self._halted.add(cell_id)
        if cell := self._cells.get(cell_id):
            cell.halted = True

    def skipped(self) -> list[tuple[Trial, str]]:
        """Return trials pruned since the last call without running (again), with the reason.

        The reason is empty if a trial waited: that row has its own.
        """
        trials = []
        for cell in self._cells.values():
            trials += cell.skipped
            cell.skipped = []
        return trials

    def take_reused(self) -> list[Trial]:
        """Return the trials of new suggestions that ended before, since the last call."""
        trials = []
        for cell in self._cells.values():
            trials += cell.reused
            cell.reused = []
        return trials

    @property
    def left_behind(self) -> int:
        """Number of stored suggestions that the present sweep file could not have made."""
        return sum(cell.left_behind for cell in self._cells.values())

    def unfinished(self) -> list[str]:
        """Return the ids of trials that are planned or asked and have not ended."""
        return [trial_id for trial_id in self.trials() if trial_id not in self._outcomes.ended]

    def waiting(self) -> set[str]:
        """Return the ids of trials that wait at a rung for others of their cell."""
        return set(self._outcomes.waiting)

    def trials(self) -> dict[str, Trial]:
        """Return every trial known so far, by id: planned and asked."""
        asked = (trial for cell in self._cells.values() for trial in cell.trials())
        return {trial.trial_id: trial for trial in (*self._plan.trials, *asked)}

    def _restore(
        self, store: Store, cells: Mapping[str, CellSearch], finished: Mapping[str, Finished]
    ) -> None:
        """Restore cells from the results folder, and queue the trials that were cut off."""
        score_if_any = self._plan.objective.score_if_any
        epochs: dict[str, list[tuple[int, float]]] = {}
        for row in store.epochs() if self._plan.spec.stop else ():
            if (score := score_if_any(row["val_top1"], row["objective"])) is not None:
                epochs.setdefault(row["trial_id"], []).append((row["epoch"], score))
        ended_at = {trial_id: row.ended_at for trial_id, row in finished.items()}
        for trial_id, row in store.paused().items():
            resumed = epochs.get(trial_id, [(0, 0.0)])[-1][0] > (row["epochs_run"] or 0)
            if trial_id not in finished and not resumed:
                ended_at[trial_id] = row["ended_at"]
                score = score_if_any(row["val_top1"], row["objective"])
                self._outcomes.waiting[trial_id] = Outcome("paused", score, row["epochs_run"])
        asked: dict[str, list[dict[str, object]]] = {}
        for row in store.asked():
            asked.setdefault(row["cell_id"], []).append(row)
        for cell_id, cell in cells.items():
            self._queue.extend(cell.restore(asked.get(cell_id, []), ended_at, epochs))
        if count := sum(cell.left_behind for cell in cells.values()):
            self._print_note(
                f"{counted(count, 'suggestion')} of an earlier version of the sweep file no "
                "longer count: their axes, fixed settings, sampler or seed have changed; their "
                "trials stay in the folder, and those that are suggested again are done"
            )
