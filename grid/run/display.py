"""The live display: running trials, their accuracy so far, the share done, the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cnncore.config import Objective
from grid.cost.forecast import CellWork, StartedTrial, time_left_s
from grid.phrases import format_s

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from grid.plan.ids import Trial
    from grid.run.capacity import Capacity
    from grid.store.folder import Finished
    from grid.sweep.spec import Stop
    from grid.trial.assignment import Progress

# Without a terminal (a log file, CI): at most one line in this many seconds, and one per trial
# that did not complete.
LINE_EVERY_S = 10.0
# Running trials that such a line names.
LINE_TRIALS = 4
# Lines of the terminal that the running trials leave to the summary and what stands above it.
OTHER_LINES = 6
# The shortest time between two forecasts, and the largest share of a processor that they take:
# counting a large sweep takes longer than drawing it.
FORECAST_EVERY_S = 1.0
FORECAST_SHARE = 0.02


@dataclass
class _Running:
    trial: Trial
    label: str
    started: float
    last: Progress | None = None


@dataclass
class Display:
    """Follows a sweep; `live` draws it while the block runs."""

    console: Console
    sweep: str
    planned: int
    capacity: Capacity
    labels: Mapping[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    earlier: int = 0
    # Epochs and seconds of the cells' trials so far, by cell, and the rule that stops some early.
    work: dict[str, CellWork] = field(default_factory=dict)
    stop: Stop | None = None
    # Number of configs of a cell that are trained to the end whatever the rule decides.
    wanted: int = 1
    # Seed and fold of the trials that the rule compares.
    first: tuple[int, int | None] = (0, None)
    # The highest score so far, and the trial's label.
    best: tuple[float, str] | None = None
    objective: Objective = field(default_factory=Objective)
    _running: dict[str, _Running] = field(default_factory=dict)
    # Trials that wait with a checkpoint.
    _paused: set[str] = field(default_factory=set)
    _last_line: float = 0.0
    # Time of the next forecast, and the result of the last.
    _left: tuple[float, float | None] = (float("-inf"), None)

    @property
    def done(self) -> int:
        """Number of trials that have ended, in this run or before."""
        return self.earlier + sum(self.counts.values())

    @property
    def _draws(self) -> bool:
        """True on a terminal that moves its cursor; a dumb one gets lines."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw while the block runs; where that cannot be, `_line` prints a line now and then."""
        if not self._draws:
            yield
            return
        from rich.live import Live

        with Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=4,
            transient=True,
            redirect_stderr=False,
        ):
            yield

    def take_up(self, trial: Trial, row: Finished) -> None:
        """Count a trial that ended before this run."""
        self.earlier += 1
        self._record(trial, row.state)
        started = self.work[trial.cell_id].started
        started[trial.trial_id] = replace(
            started[trial.trial_id], epochs=row.epochs_run or 0, seconds=row.wall_time_s or 0.0
        )

    def start(self, trial: Trial) -> None:
        """Show a trial that was handed to a slot."""
        self._paused.discard(trial.trial_id)
        self._record(trial, "running")
        label = f"{self.labels.get(trial.cell_id, trial.cell_id)} seed {trial.seed}"
        if trial.suggestion is not None:
            label += f" #{trial.suggestion}"
        self._running[trial.trial_id] = _Running(trial, label, time.monotonic())

    def update(self, progress: Progress) -> None:
        """Show an ended epoch of a running trial."""
        if running := self._running.get(progress.trial_id):
            running.last = progress
            self._record(running.trial, "running", progress)
        self._line()

    def end(self, progress: Progress, state: str, reason: str | None) -> None:
        """Count a trial that ended with a stored row; note failures."""
        running = self._running.pop(progress.trial_id, None)
        self.counts[state] = self.counts.get(state, 0) + 1
        label = running.label if running else progress.trial_id
        if running:
            self._record(running.trial, state, progress)
        row = progress.row
        score = self.objective.score_if_any(row.get("val_top1"), row.get("objective"))
        if state == "complete":
            self._note_best(score, label)
        if state in ("failed", "diverged"):
            self.note(f"{state}: {label} ({progress.trial_id}): {reason}")
        self._line()

    def _note_best(self, score: float | None, label: str) -> None:
        if score is not None and (not self.best or score > self.best[0]):
            self.best = (score, label)

    def pause(self, trial_id: str) -> None:
        """Count a trial that gave up its slot and may go on later."""
        if running := self._running.pop(trial_id, None):
            self._record(running.trial, "paused")
        self._paused.add(trial_id)
        self._line()

    def count(self, trial: Trial, state: str) -> None:
        """Count a trial that ended without running (again)."""
        self._paused.discard(trial.trial_id)
        self._record(trial, state)
        self.counts[state] = self.counts.get(state, 0) + 1

    def lost(self, trial: Trial, why: str) -> None:
        """Note the loss of a trial's process; the trial will be started again."""
        running = self._running.pop(trial.trial_id, None)
        self._record(trial, "planned")
        label = f"{running.label} ({trial.trial_id})" if running else trial.trial_id
        self.note(f"lost: {label}: {why}; it goes on from its last checkpoint")

    def retry_alone(self, trial: Trial, reason: str) -> None:
        """Note a trial that ran out of memory; it will be started again, alone."""
        running = self._running.pop(trial.trial_id, None)
        self._record(trial, "planned")
        label = running.label if running else trial.trial_id
        self.note(
            f"again: {label} ({trial.trial_id}): {reason}; it will run once more with the device "
            "to itself"
        )

    def note(self, text: str) -> None:
        """Print a line that stays on the screen."""
        print_note(self.console, text)

    def time_left_s(self) -> float | None:
        """Forecast the seconds left from the epochs so far; None before the first has ended."""
        if (started := time.monotonic()) > self._left[0]:
            # Copies, because another thread draws.
            work = [replace(cell, started=dict(cell.started)) for cell in self.work.values()]
            left = time_left_s(work, self.stop, self.wanted, self.capacity.slots)
            ended = time.monotonic()
            pause_s = max(FORECAST_EVERY_S, (ended - started) / FORECAST_SHARE)
            self._left = (ended + pause_s, left)
        return self._left[1]

    def _record(self, trial: Trial, state: str, progress: Progress | None = None) -> None:
        if (cell := self.work.get(trial.cell_id)) is None:
            return
        known = cell.started.get(trial.trial_id) or StartedTrial(
            state,
            0,
            confirmed=trial.role == "confirmed",
            first=(trial.seed, trial.fold) == self.first,
        )
        if progress is None:
            known = replace(known, state=state)
        else:
            seconds = progress.row.get("wall_time_s") or known.seconds
            epochs = max(progress.epoch, progress.row.get("epochs_run") or 0)
            known = replace(known, state=state, epochs=epochs, seconds=seconds)
        cell.started[trial.trial_id] = known

    def summary(self) -> str:
        """Return one line: done/total, states, best so far, time left."""
        counts = {**self.counts, **({"paused": len(self._paused)} if self._paused else {})}
        states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        earlier = f"{self.earlier} from before, " if self.earlier else ""
        parts = [f"{self.done}/{self.planned} done ({earlier}{states or 'none yet'})"]
        if self.best:
            parts.append(f"best {self._in_words(self.best[0])} ({self.best[1]})")
        if (left := self.time_left_s()) is not None and self.done < self.planned:
            parts.append(f"{format_s(left)} left")
        return ", ".join(parts)

    def render(self) -> RenderableType:
        """Return the whole picture: the summary, and a line per running trial that has room."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_row("", "", "", "", "")
        now = time.monotonic()
        running_now = list(self._running.values())
        room = max(self.console.size.height - OTHER_LINES, 1)
        for running in running_now[:room]:
            last = running.last
            epochs = running.trial.config.epochs
            table.add_row(
                Text(f"  {running.label}"),
                ProgressBar(total=epochs, completed=last.epoch if last else 0, width=20),
                f"epoch {last.epoch if last else 0}/{epochs}",
                self._value_text(last) if last else "",
                format_s(now - running.started),
            )
        if (more := len(running_now) - room) > 0:
            table.add_row(Text(f"  ... and {more:,} more"))
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            Text(self.sweep, style="bold"),
            ProgressBar(total=max(self.planned, 1), completed=self.done, width=30),
            Text(self.summary()),
        )
        return Group(bar, table)

    def _in_words(self, score: float) -> str:
        """Return a score as text, accuracy in percent."""
        if self.objective.is_default:
            return f"val top-1 {100 * score:.2f} %"
        return self.objective.text(score)

    def _value_text(self, last: Progress) -> str:
        """Return the objective after a trial's last epoch as text."""
        score = self.objective.score_if_any(last.val_top1, last.objective)
        return "" if score is None else self._in_words(score)

    def _short_text(self, last: Progress) -> str:
        if self.objective.is_default and last.val_top1 is not None:
            return f"{100 * last.val_top1:.1f} %"
        return self._value_text(last)

    def _line(self) -> None:
        if self._draws or time.monotonic() - self._last_line < LINE_EVERY_S:
            return
        self._last_line = time.monotonic()
        seen = [(r.label, r.last) for r in self._running.values() if r.last]
        named = [
            f"{label} {last.epoch}/{last.epochs} {self._short_text(last)}"
            for label, last in seen[:LINE_TRIALS]
        ]
        more = [f"and {len(seen) - LINE_TRIALS:,} more"] if len(seen) > LINE_TRIALS else []
        running = "; ".join([*named, *more])
        self.console.print(
            f"{self.sweep}: {self.summary()}" + (f" [{running}]" if running else ""),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def print_note(console: Console, text: str) -> None:
    """Print a warning or a remark in yellow."""
    console.print(text, style="yellow", highlight=False, markup=False)
