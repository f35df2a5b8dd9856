"""The driver of a sweep: hands out trials and takes their results.

`local.py` and `ray_tune/tune.py` are two ways to run the trials; every decision is made here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from grid.cost.slots import gpus_per_trial
from grid.errors import GridError, StoreError
from grid.lock.heartbeat import POLL_S
from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.run.checkpoints import Keeper
from grid.run.lost_trials import MAX_UNSTARTED, Cause, note_loss, reason_to_give_up
from grid.search.outcomes import Outcome
from grid.search.sweep_search import Search
from grid.store.folder import Store, moment
from grid.trial.assignment import Assignment, Progress
from grid.trial.lineage import Lineage
from grid.trial.network_check import TriedNetworks
from grid.trial.rows import unstarted_row, write_failed, write_paused, write_pruned

if TYPE_CHECKING:
    from grid.run.capacity import Capacity
    from grid.run.display import Display
    from grid.run.signals import StopSignals
    from grid.run.speed_log import SpeedLog

# Small files are merged each time this many trials have ended.
COMPACT_EVERY = 500
# Seconds between two renewals of a running trial's claim, at most; less if `hung_after_s` is short.
HEARTBEAT_S = 10.0
# A cell is given up after this many trials in a row that failed alike before their first epoch.
SAME_ERRORS = 3


@dataclass(frozen=True)
class RunOptions:
    """Options of a run; none of them changes a metric."""

    results: Path | str
    data_dir: Path
    local: bool = False
    slots: int | None = None
    address: str | None = None
    # States whose trials are run again.
    retry: frozenset[str] = frozenset()
    # Other drivers work on the same folder; each takes units that no other has.
    share: bool = False
    on_error: Literal["continue", "stop"] = "continue"

    def __post_init__(self) -> None:
        """Refuse values that the command cannot give. Raises `ValueError`."""
        known = ("failed", "diverged")
        if unknown := sorted(map(str, self.retry - set(known))):
            raise ValueError(f"retry: states are {' and '.join(known)}, got {', '.join(unknown)}")
        if self.on_error not in ("continue", "stop"):
            raise ValueError(f"on_error must be 'continue' or 'stop', got {self.on_error!r}")
        if self.slots is not None and not _is_count(self.slots):
            raise ValueError(f"slots must be a whole number from 1, got {self.slots!r}")
        if self.local and (self.slots or self.address):
            raise GridError(
                "--local runs one trial at a time here; leave --slots and --address out"
            )


def _is_count(value: object) -> bool:
    """Check for a whole number from 1, of NumPy too."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


@dataclass
class Driver:
    """Hands out trials and takes their results; used by one thread."""

    plan: Plan
    store: Store
    options: RunOptions
    search: Search
    lineage: Lineage
    display: Display
    keeper: Keeper
    capacity: Capacity
    signals: StopSignals
    commit: str | None
    # The earlier ends of trials that are run again, in microseconds.
    ended_before: Mapping[str, int] = field(default_factory=dict)
    # Networks that were tried before the run; trials of those with a problem fail unstarted.
    tried: TriedNetworks = field(default_factory=TriedNetworks)
    # What trials tell of this machine's speed.
    speeds: SpeedLog | None = None
    # Counts of the trials that this run ended, by state.
    states: dict[str, int] = field(default_factory=dict)
    running: dict[str, Trial] = field(default_factory=dict)
    # Trials to run once more with a device to themselves; and all that ever ran out of memory.
    retry_alone: list[Trial] = field(default_factory=list)
    ran_out_of_memory: set[str] = field(default_factory=set)
    # The problem that ends the sweep, such as a full disk.
    fatal: GridError | None = None
    # True after a failed trial under `--on-error stop`.
    gave_up: bool = False
    # True while `disk_gib` has no room for one more trial: nothing starts before something ends.
    _no_room: bool = False
    _since_compaction: int = 0
    # Processes in a row that could not be started.
    _unstarted: int = 0
    # Cell -> reasons of its last trials that failed before their first epoch.
    _first_errors: dict[str, list[str]] = field(default_factory=dict)
    # Notes on changed settings and missing metrics that are on the screen already.
    _noted: set[str] = field(default_factory=set)

    def next(self) -> Assignment | None:
        """Return the next trial with all it needs, or None if there is none now (see `over`)."""
        self.signals.reinstall()
        self.capacity.refresh()
        full = self._no_room or self.capacity.full
        trial = None if self.stopping or full else self._next_trial()
        while trial is None and not (full or self.running or self.over):
            time.sleep(POLL_S)  # until it is certain what the other drivers of the folder do
            trial = self._next_trial()
        if trial is None or not self._has_room(trial):
            return None
        return self._start(trial)

    def _start(self, trial: Trial) -> Assignment:
        try:
            module_path = str(Path.cwd())
        except FileNotFoundError:
            raise StoreError(
                "the folder in which this command was typed is gone: it was deleted while the "
                "sweep ran; put it back and run the same command again"
            ) from None
        self.running[trial.trial_id] = trial
        self.display.start(trial)
        self._prepare()
        spec = self.plan.spec
        code_folder, code = self.plan.resolver.code.row(
            trial.config, self.plan.sources, spec.metrics
        )
        return Assignment(
            trial=trial,
            sweep=spec.sweep,
            results=self.store.location,
            data_dir=str(self.options.data_dir),
            threads=spec.resources.cpus,
            device=self.capacity.device,
            keep=spec.keep_at_end,
            keep_predictions=spec.keep_predictions,
            checkpoint_s=spec.checkpoint_s,
            git_commit=self.commit,
            module_path=module_path,
            code_folder=code_folder,
            code=code,
            skip_unreadable=self.plan.skip_unreadable,
            pause_epochs=self.search.pause_epochs(trial),
            continued_from=start.trial_id if (start := self.lineage.start(trial)) else None,
            heartbeat_s=min(HEARTBEAT_S, spec.hung_after_s / 4 or HEARTBEAT_S),
            alone=trial.trial_id in self.ran_out_of_memory,
            gpu_share=self._gpu_share(),
            slot=self.capacity.take(trial.trial_id),
            metrics=self.plan.metrics,
        )

    def _gpu_share(self) -> float | None:
        """Return the share of a GPU that a trial has; without Ray one trial runs at a time."""
        share = gpus_per_trial(self.plan.spec.resources, self.capacity.device)
        return 1.0 if share and self.options.local else share or None

    def _vacate(self, trial_id: str) -> Trial:
        """Free the slot of a trial that no longer runs."""
        self.capacity.release(trial_id)
        return self.running.pop(trial_id)

    @property
    def over(self) -> bool:
        """True if `next`, having returned None, will return None for ever."""
        return self.stopping or self.search.over

    def _has_room(self, trial: Trial) -> bool:
        """Return whether a trial may start now; otherwise it comes again once another has ended."""
        try:
            if self.keeper.has_room(trial, self.running.values()):
                return True
        except StoreError as problem:
            self.fail(problem)
        if trial.trial_id in self.ran_out_of_memory:
            self.retry_alone.insert(0, trial)
        else:
            self.search.give_back(trial)
        self._no_room = True
        return False

    def _next_trial(self) -> Trial | None:
        if self.capacity.device == "cpu" and self.ran_out_of_memory & self.running.keys():
            return None  # on a GPU the trial that runs alone has asked Ray for a whole one
        while True:
            trial = self.search.next()
            for reused in self.search.take_reused():
                if row := self.lineage.finished.get(reused.trial_id):
                    self.display.take_up(reused, row)
            self._end_skipped()
            if trial is None:
                return self._next_alone()
            if not self._given_up(trial) and not self._pruned_before(trial):
                return trial

    def _next_alone(self) -> Trial | None:
        """Return a trial that ran out of memory, if no other is left to hand out.

        Without a GPU it also waits until no other trial runs.
        """
        if not self.retry_alone or (self.capacity.device == "cpu" and self.running):
            return None
        return self.retry_alone.pop(0)

    def progress(self, progress: Progress) -> bool:
        """Take an epoch's result; return True if the trial must stop now, its row stored."""
        if progress.within_epoch:
            return False
        trial = self.running[progress.trial_id]
        self._unstarted = 0
        self.display.update(progress)
        self._note_remarks(progress)
        score = self.plan.objective.score_if_any(progress.val_top1, progress.objective)
        verdict = self.search.judge(trial, progress.epoch, score)
        if verdict.action == "go":
            self._prepare()
            return False
        if verdict.action == "end":
            self._ended(progress, write_pruned(self.store, progress.row, verdict.reason))
            return True
        self._no_room = False
        row = write_paused(self.store, progress, verdict.reason)
        self._vacate(progress.trial_id)
        self.display.pause(progress.trial_id)
        self.search.wait(trial, Outcome("paused", self._score(row), row.get("epochs_run")))
        return True

    def finished(self, progress: Progress) -> None:
        """Take the end of a trial whose row is stored, or that must run once more."""
        if progress.retry_alone is None:
            self._ended(progress, progress.row)
            return
        self._no_room = False
        self.retry_alone.append(trial := self._vacate(progress.trial_id))
        self.ran_out_of_memory.add(trial.trial_id)
        self.display.retry_alone(trial, progress.retry_alone)

    def lost(self, trial_id: str, cause: Cause) -> None:
        """Take the loss of a trial's process: the trial comes again, before others."""
        if self.stopping or (trial := self.running.get(trial_id)) is None:
            return  # it had to end anyway, or died after its end was reported
        row = self.store.row(trial_id)
        if row and row["ended_at"] != self.ended_before.get(trial_id):  # it died before its report
            row["ended_at"] = moment(row["ended_at"])
            epochs = trial.config.epochs
            self.finished(Progress(trial_id, row["epochs_run"], epochs, None, True, row))
            return
        self._no_room = False
        note_loss(self.store, trial_id, cause)
        if self._given_up(trial):
            return
        self._vacate(trial_id)
        self.display.lost(trial, cause.text)
        self.search.give_back(trial)
        self._unstarted = self._unstarted + 1 if cause.what == "start" else 0
        if self._unstarted >= MAX_UNSTARTED:
            self.fail(GridError(f"no trial can be started: {cause.reason}"))

    def _given_up(self, trial: Trial) -> bool:
        """Mark a trial failed that exceeds its allowed losses or cannot work; return whether."""
        trial_id = trial.trial_id
        reason = self.tried.problem(trial.config) or reason_to_give_up(
            self.store, trial_id, self.plan.spec.max_attempts
        )
        if reason is None:
            return False
        row = write_failed(self.store, trial, self.plan.spec.sweep, reason)
        if trial_id not in self.running:  # it was about to start
            self.running[trial_id] = trial
            self.display.start(trial)
        self._ended(Progress(trial_id, 0, trial.config.epochs, None, True, row), row)
        return True

    @property
    def interrupted(self) -> bool:
        """True once a signal asked for the end of the sweep: nothing more starts."""
        return self.signals.received

    def fail(self, problem: GridError) -> None:
        """Start nothing more, because nothing can be stored; the caller raises `problem`."""
        self.fatal = self.fatal or problem

    @property
    def stopping(self) -> bool:
        """True if running trials are to be stopped too."""
        return self.interrupted or self.gave_up or self.fatal is not None

    def _prepare(self) -> None:
        if self.capacity.slots > 1:
            self.search.prepare()

    def _pruned_before(self, trial: Trial) -> bool:
        """Prune a trial that continues a pruned one; return whether it did."""
        rungs = self.search.pause_epochs(trial) if trial.lineage_id else ()
        shorter = self.lineage.shorter(trial) if rungs else None
        if shorter is None or shorter.state != "pruned":
            return False
        own = {"trial_id": trial.trial_id, "attempt": 0}
        rows = [{**row, **own} for row in self.store.epochs(shorter.trial_id)]
        self.store.write("epochs", trial.trial_id, rows)
        for row in rows:
            self.search.judge(trial, row["epoch"], self._score(row))
        if metrics := self.store.metrics(shorter.trial_id).get(shorter.trial_id):
            own_metrics = [{**row, "trial_id": trial.trial_id} for row in metrics]
            self.store.write("metrics", trial.trial_id, own_metrics)
        row = {
            **unstarted_row(trial, self.plan.spec.sweep),
            "continued_from": shorter.trial_id,
            "val_top1": shorter.val_top1,
            "objective": shorter.objective,
            "epochs_run": shorter.epochs_run,
        }
        row = write_pruned(self.store, row, shorter.reason or "")
        self.search.tell(trial, Outcome("pruned", self._score(row), shorter.epochs_run))
        self._count("pruned")
        self.display.count(trial, "pruned")
        return True

    def _end_skipped(self) -> None:
        for trial in end_skipped(self.search, self.store, self.plan.spec.sweep):
            self._count("pruned")
            self.display.count(trial, "pruned")

    def _score(self, row: Mapping[str, Any]) -> float | None:
        """Return the objective's score of a row; None if no epoch of it has ended."""
        return self.plan.objective.score_if_any(row.get("val_top1"), row.get("objective"))

    def _count(self, state: str) -> None:
        self.states[state] = self.states.get(state, 0) + 1

    def _ended(self, progress: Progress, row: dict[str, Any]) -> None:
        beside = len(self.running)
        trial = self._vacate(progress.trial_id)
        state = str(row["state"])
        self._no_room = False
        if state == "complete":
            if self.speeds:
                self.speeds.take(trial, row, beside)
            self.keeper.take(trial, row)
        self._count(state)
        self.search.tell(trial, Outcome(state, self._score(row), row.get("epochs_run")))
        self.display.end(progress, state, row.get("reason"))
        self._note_remarks(progress)
        self._watch_errors(trial, row)
        self._note_changed_settings(trial, row)
        self._end_skipped()
        self._since_compaction += 1
        # Not beside other drivers: they may be reading the files that compaction removes.
        if self._since_compaction >= COMPACT_EVERY and not self.options.share:
            self.store.tidy()
            self._since_compaction = 0

    def _note_changed_settings(self, trial: Trial, row: dict[str, Any]) -> None:
        """Tell once what a network changes in the process that trains it."""
        changed = row.get("changed_settings")
        if changed and (noted := f"{trial.config.arch}: {changed}") not in self._noted:
            self._noted.add(noted)
            self.display.note(
                f"{trial.config.arch} changed settings of its process: {changed}; they were put "
                "back, so other trials do not see them (column changed_settings)"
            )

    def _note_remarks(self, progress: Progress) -> None:
        """Tell once of each metric that has no value, and why."""
        for remark in progress.remarks:
            if remark not in self._noted:
                self._noted.add(remark)
                self.display.note(f"no value of the metric {remark}")

    def _watch_errors(self, trial: Trial, row: dict[str, Any]) -> None:
        """Stop after a failure if the user wants it; give up a cell that keeps failing alike."""
        if row["state"] == "failed" and self.options.on_error == "stop":
            self.gave_up = True
            self.display.note("stopping after a failed trial (--on-error stop)")
        early = row["state"] == "failed" and not row.get("epochs_run")
        errors = [*self._first_errors.get(trial.cell_id, []), row.get("reason") or ""]
        self._first_errors[trial.cell_id] = errors[-SAME_ERRORS:] if early else []
        if early and errors[-SAME_ERRORS:] == [errors[-1]] * SAME_ERRORS:
            self.search.halt(trial.cell_id)
            cell = self.display.labels.get(trial.cell_id, trial.cell_id)
            self.display.note(
                f"{cell}: given up, {SAME_ERRORS} trials in a row failed at their start: "
                f"{errors[-1]}; fix it and run again with --retry failed"
            )


def end_skipped(search: Search, store: Store, sweep: str) -> Iterator[Trial]:
    """Store the rows of trials that ended without running (again); yield each trial."""
    for trial, reason in search.skipped():
        paused = {} if reason else store.paused(trial.trial_id).get(trial.trial_id, {})
        row = paused or unstarted_row(trial, sweep)
        write_pruned(store, row, reason or paused.get("reason") or "")
        yield trial
