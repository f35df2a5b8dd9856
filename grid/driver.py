"""The driver of a sweep: plan and results folder in, trials handed out, records kept.

`local.py` and `tune.py` are two ways to run what it hands out; every decision is made here.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from analysis.place import inside
from cnncore.data import prepare_dataset
from grid.attempt import end_failed, end_pruned, never_started, pause
from grid.errors import GridError, StoreError
from grid.ids import Trial
from grid.job import Job, Progress
from grid.keeping import Keeper, open_keeper
from grid.lineage import Lineage
from grid.lock import POLL_S, hold, join
from grid.losses import MAX_UNSTARTED, Cause, hopeless, note_loss, settle_claims
from grid.plan import Plan, plan_rows
from grid.provenance import git_commit
from grid.results import open_store
from grid.search import Outcome, Search
from grid.share import Share
from grid.store import Finished, Store, moment, now

if TYPE_CHECKING:
    from rich.console import Console

    from grid.job import Job, Progress
    from grid.progress import Display

# Merge small files whenever this many trials have ended since the last time.
COMPACT_EVERY = 500
# A running trial renews its claim at least this often, more often where `hung_after_s` is short.
HEARTBEAT_S = 10.0
# A cell is given up after so many trials in a row that failed alike before their first epoch.
SAME_ERRORS = 3


@dataclass(frozen=True)
class Summary:
    """What a run of a sweep did."""

    folder: Path | str  # an address where the results are in an object store
    planned: int
    states: dict[str, int]
    ran: int
    wall_time_s: float
    interrupted: bool
    unfinished: int
    warnings: tuple[str, ...] = ()
    # Trials, or tuned cells, that other drivers of the folder have.
    elsewhere: int = 0

    @property
    def exit_code(self) -> int:
        """0 everything finished, 1 some trials failed or are missing, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.states.get("failed") or self.unfinished else 0


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run, none of which changes a metric."""

    results: Path | str
    data_dir: Path
    local: bool = False
    slots: int | None = None
    address: str | None = None
    # Trials that ended in these states are run again.
    retry: frozenset[str] = frozenset()
    # Other drivers work on the same folder; each takes what nobody else has.
    share: bool = False
    on_error: Literal["continue", "stop"] = "continue"


@dataclass
class Driver:
    """Hands out trials and takes what becomes of them; used by one thread."""

    plan: Plan
    store: Store
    options: RunOptions
    search: Search
    lineage: Lineage
    display: Display
    keeper: Keeper
    device: str
    commit: str | None
    started: float = field(default_factory=time.monotonic)
    states: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    # What made it impossible to go on: the disk is full, say.
    fatal: GridError | None = None
    # `--on-error stop`: a trial failed.
    gave_up: bool = False
    out: dict[str, Trial] = field(default_factory=dict)
    # When trials that are run again ended before, in microseconds.
    ended_before: dict[str, int] = field(default_factory=dict)
    # Takes the signals back: `ray.init` and Tune put handlers of their own in place of ours.
    listen: Callable[[], None] = lambda: None
    # Trials that ran out of memory, to be run with a device to themselves; and all that ever did.
    again: list[Trial] = field(default_factory=list)
    alone: set[str] = field(default_factory=set)
    # Nothing starts before something ends: `disk_gib` has no room for one more.
    _no_room: bool = False
    # Brings `display.slots` up to date, on a cluster whose nodes come and go.
    fit: Callable[[], None] = lambda: None
    _since_compaction: int = 0
    # Processes in a row that could not be started.
    _unstarted: int = 0
    # Cell -> why its last trials failed before their first epoch.
    _first_errors: dict[str, list[str]] = field(default_factory=dict)

    def next(self) -> Job | None:
        """The next trial with all it needs, or None when there is none now (see `over`)."""
        self.listen()
        self.fit()
        full = self._no_room or len(self.out) >= self.display.slots
        trial = None if self.stopping or full else self._next_trial()
        while trial is None and not (full or self.out or self.over):
            time.sleep(POLL_S)  # until it is certain what the other drivers of the folder do
            trial = self._next_trial()
        if trial is None or not self._has_room(trial):
            return None
        self.out[trial.trial_id] = trial
        self.display.start(trial)
        self._prepare()
        spec = self.plan.spec
        return Job(
            trial=trial,
            sweep=spec.sweep,
            results=self.store.place,
            data_dir=str(self.options.data_dir),
            threads=spec.resources.cpus,
            device=self.device,
            keep=spec.keep_at_end,
            keep_predictions=spec.keep_predictions,
            checkpoint_s=spec.checkpoint_s,
            git_commit=self.commit,
            module_path=str(Path.cwd()),
            skip_unreadable=self.plan.skip_unreadable,
            waits=self.search.waits(trial),
            continued_from=start.trial_id if (start := self.lineage.start(trial)) else None,
            heartbeat_s=min(HEARTBEAT_S, spec.hung_after_s / 4 or HEARTBEAT_S),
            alone=trial.trial_id in self.alone,
        )

    @property
    def over(self) -> bool:
        """Whether `next`, having returned None, will do so for ever."""
        return self.stopping or self.search.over

    def _has_room(self, trial: Trial) -> bool:
        """Whether a trial may start now; else it comes again once something has ended."""
        try:
            if self.keeper.has_room(trial, self.out.values()):
                return True
        except StoreError as problem:
            self.fail(problem)
        if trial.trial_id in self.alone:
            self.again.insert(0, trial)
        else:
            self.search.give_back(trial)
        self._no_room = True
        return False

    def _next_trial(self) -> Trial | None:
        if self.device == "cpu" and self.alone & self.out.keys():
            return None  # on a GPU the one that runs alone has asked for a whole one
        while True:
            trial = self.search.next()
            self._end_skipped()
            if trial is None:
                return self._next_alone()
            if not self._given_up(trial) and not self._pruned_before(trial):
                return trial

    def _next_alone(self) -> Trial | None:
        """A trial that ran out of memory, once there is nothing else to hand out; without a GPU
        once nothing else runs.
        """
        if not self.again or (self.device == "cpu" and self.out):
            return None
        return self.again.pop(0)

    def progress(self, progress: Progress) -> bool:
        """Take an epoch's result; True if the trial must stop now (its row is then stored)."""
        if progress.pause:
            return False
        trial = self.out[progress.trial_id]
        self._unstarted = 0
        self.display.update(progress)
        verdict = self.search.judge(trial, progress.epoch, progress.val_top1)
        if verdict.action == "go":
            self._prepare()
            return False
        if verdict.action == "end":
            self._ended(progress, end_pruned(self.store, progress.row, verdict.reason))
            return True
        self._no_room = False
        row = pause(self.store, progress, verdict.reason)
        del self.out[progress.trial_id]
        self.display.pause(progress.trial_id)
        self.search.wait(trial, Outcome("paused", row.get("val_top1"), row.get("epochs_run")))
        return True

    def finished(self, progress: Progress) -> None:
        """Take the end of a trial whose row is stored, or that must run again."""
        if progress.again is None:
            self._ended(progress, progress.row)
            return
        self._no_room = False
        self.again.append(trial := self.out.pop(progress.trial_id))
        self.alone.add(trial.trial_id)
        self.display.again(trial, progress.again)

    def lost(self, trial_id: str, cause: Cause) -> None:
        """A trial's process is gone: the trial comes again, first."""
        if self.stopping or (trial := self.out.get(trial_id)) is None:
            return  # it had to end anyway, or died after it had said so
        row = self.store.row(trial_id)
        if row and row["ended_at"] != self.ended_before.get(trial_id):  # it died before it said so
            row["ended_at"] = moment(row["ended_at"])
            epochs = trial.config.epochs
            self.finished(Progress(trial_id, row["epochs_run"], epochs, None, True, row))
            return
        self._no_room = False
        note_loss(self.store, trial_id, cause)
        if self._given_up(trial):
            return
        del self.out[trial_id]
        self.display.lost(trial, cause.text)
        self.search.give_back(trial)
        self._unstarted = self._unstarted + 1 if cause.what == "start" else 0
        if self._unstarted >= MAX_UNSTARTED:
            self.fail(GridError(f"no trial can be started: {cause.reason}"))

    def _given_up(self, trial: Trial) -> bool:
        """Whether a trial was lost once too often; it is `failed` then."""
        reason = hopeless(self.store, trial.trial_id, self.plan.spec.max_attempts)
        if reason:
            self.out[trial.trial_id] = trial
            failed = end_failed(self.store, trial, self.plan.spec.sweep, reason)
            self._ended(failed, failed.row)
        return reason is not None

    def interrupt(self) -> None:
        """Start nothing more."""
        self.interrupted = True

    def fail(self, problem: GridError) -> None:
        """Nothing can be stored any more: start nothing, and let the caller raise `problem`."""
        self.fatal = self.fatal or problem

    @property
    def stopping(self) -> bool:
        """Whether what runs is to be stopped too."""
        return self.interrupted or self.gave_up or self.fatal is not None

    def _prepare(self) -> None:
        if self.display.slots > 1:
            self.search.prepare()

    def _pruned_before(self, trial: Trial) -> bool:
        """Whether a trial ends where its shorter one was pruned; it is stored then."""
        rungs = self.search.waits(trial) if trial.lineage_id else ()
        shorter = self.lineage.shorter(trial) if rungs else None
        if shorter is None or shorter.state != "pruned":
            return False
        own = {"trial_id": trial.trial_id, "attempt": 0}
        rows = [{**row, **own} for row in self.store.epochs(shorter.trial_id)]
        self.store.write("epochs", trial.trial_id, rows)
        for row in rows:
            self.search.judge(trial, row["epoch"], row["val_top1"])
        row = {
            **never_started(trial, self.plan.spec.sweep),
            "continued_from": shorter.trial_id,
            "val_top1": shorter.val_top1,
            "epochs_run": shorter.epochs_run,
        }
        row = end_pruned(self.store, row, shorter.reason or "")
        self.search.tell(trial, Outcome("pruned", shorter.val_top1, shorter.epochs_run))
        self._count("pruned")
        self.display.count(trial, "pruned")
        return True

    def _end_skipped(self) -> None:
        for trial in end_skipped(self.search, self.store, self.plan.spec.sweep):
            self._count("pruned")
            self.display.count(trial, "pruned")

    def _count(self, state: str) -> None:
        self.states[state] = self.states.get(state, 0) + 1

    def _ended(self, progress: Progress, row: dict[str, Any]) -> None:
        trial = self.out.pop(progress.trial_id)
        state = str(row["state"])
        self._no_room = False
        if state == "complete":
            self.keeper.take(trial, row)
        self._count(state)
        self.search.tell(trial, Outcome(state, row.get("val_top1"), row.get("epochs_run")))
        self.display.end(progress, state, row.get("reason"))
        self._watch_errors(trial, row)
        self._end_skipped()
        self._since_compaction += 1
        # Beside other drivers this would take files from under their eyes.
        if self._since_compaction >= COMPACT_EVERY and not self.options.share:
            self.store.tidy()
            self._since_compaction = 0

    def _watch_errors(self, trial: Trial, row: dict[str, Any]) -> None:
        """Stop where the user said so, and give a cell up that fails in the same way again."""
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
                f"{errors[-1]}; mend it and run again with --retry failed"
            )


def end_skipped(search: Search, store: Store, sweep: str) -> Iterator[Trial]:
    """Store the rows of trials that ended without running (again); yields each trial."""
    for trial, reason in search.skipped():
        waited = {} if reason else store.paused(trial.trial_id).get(trial.trial_id, {})
        row = waited or never_started(trial, sweep)
        end_pruned(store, row, reason or waited.get("reason") or "")
        yield trial


def run_plan(plan: Plan, options: RunOptions, console: Console) -> Summary:
    """Run what the results folder lacks of a plan. Raises `GridError` children.

    With nothing to do it returns at once, and neither torch nor Ray is loaded.
    """
    store = open_store(inside(options.results, plan.folder))
    _check_options(store, plan, options)
    store.check_usable(plan.spec.sweep)
    if not options.share:
        with hold(store):
            return _run_held(plan, options, console, store, None)
    with join(store) as name:
        share = Share(store, name)
        try:
            return _run_held(plan, options, console, store, share)
        finally:
            share.release()


def _check_options(store: Store, plan: Plan, options: RunOptions) -> None:
    for name, given in (("--retry", options.retry), ("disk_gib", plan.spec.disk_gib)):
        if options.share and given:
            raise GridError(f"{name} wants the results folder for itself: leave --share out")
    for name, given in (("--share", options.share), ("disk_gib", plan.spec.disk_gib)):
        if store.remote and given:
            raise GridError(f"{name} wants a results folder, not an object store ({store.shown})")


def _run_held(
    plan: Plan, options: RunOptions, console: Console, store: Store, share: Share | None
) -> Summary:
    started = time.monotonic()
    warnings = [
        f"{store.shown}/{path.relative_to(store.folder)}: damaged, set aside as "
        f"{path.name}.damaged; its trial is run again"
        for path in store.set_damaged_aside()
    ]
    for warning in (*plan.warnings, *warnings):
        console.print(warning, style="yellow", highlight=False, markup=False)
    store.remove_temporary()
    # JSON is YAML too: a sweep made in Python has no text of its own.
    store.write_sweep(plan.spec.source.text or plan.spec.model_dump_json(indent=2))

    def reread(trial_id: str | None = None) -> dict[str, Finished]:
        return _finished(store.finished(trial_id), plan, retry=options.retry)

    rows = store.finished()
    finished = _finished(rows, plan, retry=options.retry)
    if share is None:  # else what is claimed may run elsewhere
        settle_claims(store, finished, local=options.local)
    _write_plan(store, plan)
    search = Search(plan, store, finished, share=share, reread=reread)
    trials = search.trials()
    earlier = {trial_id: row for trial_id, row in finished.items() if trial_id in trials}
    lineage = Lineage(store, finished)
    keeper = open_keeper(plan, store, options.data_dir, search, lineage, console)
    keeper.restore(finished)
    if finished and trials and not earlier and not any(map(lineage.shorter, trials.values())):
        _warn_of_strangers(console, store, finished)
    while (first := search.next()) is None and not search.over:
        time.sleep(POLL_S)
    skipped = list(end_skipped(search, store, plan.spec.sweep))
    if first is None:
        summary = _summary(plan, search, store, None, earlier, 0.0, warnings)
        if skipped:
            summary.states["pruned"] = summary.states.get("pruned", 0) + len(skipped)
        return summary
    search.give_back(first)
    driver = _driver(plan, store, options, search, lineage, keeper, earlier, console)
    driver.ended_before = {
        trial_id: row.ended_at for trial_id, row in rows.items() if trial_id not in finished
    }
    if skipped:
        driver.states["pruned"] = len(skipped)
    for trial in skipped:
        driver.display.count(trial, "pruned")
    with _signals(driver), driver.display.live():
        _run(driver)
    for trial_id in driver.out:
        with suppress(StoreError):  # where it matters, `fatal` says it
            store.silence_claim(trial_id)
    if driver.fatal:
        raise driver.fatal
    wall_time_s = time.monotonic() - started
    summary = _summary(plan, search, store, driver, earlier, wall_time_s, warnings)
    if share:  # others ended trials too
        known = search.trials()
        ended = Counter(row.state for trial_id, row in reread().items() if trial_id in known)
        summary = replace(summary, states=dict(sorted(ended.items())))
    return summary


def _run(driver: Driver) -> None:
    if driver.options.local:
        from grid.local import run_local

        run_local(driver)
        return
    from grid.ray_environment import ray_environment

    with ray_environment(driver.options.address) as scratch:
        from grid.tune import run_tune

        run_tune(driver, scratch)


def _driver(
    plan: Plan,
    store: Store,
    options: RunOptions,
    search: Search,
    lineage: Lineage,
    keeper: Keeper,
    earlier: Mapping[str, Finished],
    console: Console,
) -> Driver:
    from grid.forecast import planned_work
    from grid.progress import Display
    from grid.slots import count_slots, pick_device

    for name, image_size in plan.resolver.datasets():
        # Once here, not in every trial.
        prepare_dataset(name, options.data_dir, image_size, skip_unreadable=plan.skip_unreadable)
    for name, skipped in plan.resolver.skipped().items() if plan.skip_unreadable else ():
        console.print(
            f"{name}: left {skipped} unreadable image(s) out", style="yellow", highlight=False
        )
    resources = plan.spec.resources
    if options.address:  # the cluster says, once it is joined
        device, slots = "cpu", 1
    else:
        device = pick_device(resources)
        slots = 1 if options.local else count_slots(resources, options.slots, device)
    display = Display(
        console,
        plan.folder,
        plan.planned,
        slots,
        {cell.cell_id: cell.label() for cell in plan.cells},
        work=planned_work(plan),
        stop=plan.spec.stop,
        wanted=tune.confirm.top if (tune := plan.spec.tune) and tune.confirm else 1,
        first=plan.replicates[0],
    )
    display.take_up(search.trials(), earlier)
    return Driver(
        plan,
        store,
        options,
        search,
        lineage,
        display,
        keeper,
        device,
        git_commit(Path.cwd()),
    )


def _finished(
    rows: Mapping[str, Finished], plan: Plan, *, retry: Collection[str]
) -> dict[str, Finished]:
    """Ended trials that count as done for this plan."""
    tune = plan.spec.tune
    prunes = plan.spec.stop is not None or (tune is not None and tune.drop is not None)
    return {
        trial_id: row
        for trial_id, row in rows.items()
        # Without a rule that prunes, such a trial is one cut short, so it is trained to its end.
        if not (row.state == "pruned" and not prunes) and row.state not in retry
    }


def _write_plan(store: Store, plan: Plan) -> None:
    if store.newest_plan() == plan.plan_id:
        return
    written_at = now()
    store.write(
        "plan", plan.plan_id, [{**row, "written_at": written_at} for row in plan_rows(plan)]
    )


def _warn_of_strangers(console: Console, store: Store, finished: Collection[str]) -> None:
    console.print(
        f"{store.shown}: none of its {len(finished)} finished trials belongs to this plan; "
        "they stay, and leave the tables (--all shows them)",
        style="yellow",
        highlight=False,
        markup=False,
    )


def _summary(
    plan: Plan,
    search: Search,
    store: Store,
    driver: Driver | None,
    earlier: dict[str, Finished],
    wall_time_s: float,
    warnings: list[str],
) -> Summary:
    states = dict(driver.states) if driver else {}
    ran = sum(states.values())
    elsewhere, unfinished = set(search.elsewhere()), set(search.unfinished())
    for row in earlier.values():
        states[row.state] = states.get(row.state, 0) + 1
    return Summary(
        folder=store.place if store.remote else store.folder,
        planned=plan.planned,
        states=dict(sorted(states.items())),
        ran=ran,
        wall_time_s=wall_time_s,
        interrupted=bool(driver and driver.interrupted),
        unfinished=len(unfinished - elsewhere),
        warnings=tuple(warnings),
        elsewhere=len(elsewhere),
    )


@contextmanager
def _signals(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, or SIGUSR1) ends the sweep in order, the second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if driver.interrupted:
            raise KeyboardInterrupt
        driver.interrupt()
        driver.display.note("stopping: finished work is kept; press Ctrl-C again to stop at once")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(number, on_signal) for number in numbers]

    def listen() -> None:
        for number in numbers:
            signal.signal(number, on_signal)

    driver.listen = listen
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
