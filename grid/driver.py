"""The driver of a sweep: plan and results folder in, trials handed out, records kept.

`local.py` and `tune.py` are two ways to run what it hands out; every decision is made here.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from cnncore.data import prepare_dataset
from grid.attempt import end_failed, end_pruned
from grid.errors import GridError
from grid.ids import Trial
from grid.job import Job, Progress
from grid.lock import hold
from grid.plan import Plan, plan_rows
from grid.provenance import git_commit
from grid.search import Outcome, Search
from grid.stopping import Stopper
from grid.store import Finished, Store, now

if TYPE_CHECKING:
    from rich.console import Console

    from grid.job import Job, Progress
    from grid.progress import Display

# Merge small files whenever this many trials have ended since the last time.
COMPACT_EVERY = 500


@dataclass(frozen=True)
class Summary:
    """What a run of a sweep did."""

    folder: Path
    planned: int
    states: dict[str, int]
    ran: int
    wall_time_s: float
    interrupted: bool
    unfinished: int
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 everything finished, 1 some trials failed or are missing, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.states.get("failed") or self.unfinished else 0


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run, none of which changes a metric."""

    results: Path
    data_dir: Path
    local: bool = False
    slots: int | None = None
    address: str | None = None
    retry: bool = False


@dataclass
class Driver:
    """Hands out trials and takes what becomes of them; used by one thread."""

    plan: Plan
    store: Store
    options: RunOptions
    search: Search
    stopper: Stopper
    display: Display
    device: str
    commit: str | None
    started: float = field(default_factory=time.monotonic)
    states: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    # What made it impossible to go on: the disk is full, say.
    fatal: GridError | None = None
    out: dict[str, Trial] = field(default_factory=dict)
    # Takes the signals back: `ray.init` and Tune put handlers of their own in place of ours.
    listen: Callable[[], None] = lambda: None
    _since_compaction: int = 0

    def next(self) -> Job | None:
        """The next trial with all it needs, or None when nothing is left to start."""
        self.listen()
        trial = None if self.stopping else self.search.next()
        if trial is None:
            return None
        self.out[trial.trial_id] = trial
        self.display.start(trial)
        spec = self.plan.spec
        return Job(
            trial=trial,
            sweep=spec.sweep,
            results=str(self.store.folder.resolve()),
            data_dir=str(self.options.data_dir),
            threads=spec.resources.cpus,
            device=self.device,
            keep=spec.keep,
            keep_predictions=spec.keep_predictions,
            checkpoint_s=spec.checkpoint_s,
            git_commit=self.commit,
            module_path=str(Path.cwd()),
            skip_unreadable=self.plan.skip_unreadable,
        )

    def progress(self, progress: Progress) -> bool:
        """Take an epoch's result; True if the trial must stop now (its row is then stored)."""
        trial = self.out[progress.trial_id]
        self.display.update(progress)
        reason = self.stopper.decide(
            trial.cell_id, trial.trial_id, progress.epoch, progress.val_top1, progress.epochs
        )
        if reason is None:
            return False
        row = end_pruned(self.store, progress, reason)
        self._ended(progress, row)
        return True

    def finished(self, progress: Progress) -> None:
        """Take the end of a trial whose row is stored."""
        self._ended(progress, progress.row)

    def lost(self, trial_id: str) -> None:
        """A trial's process died; it will be started again."""
        if trial_id in self.out:  # else it died after its row was stored
            self.display.lost(self.out[trial_id])

    def given_up(self, trial_id: str, reason: str) -> None:
        """A trial's process died every time it was started: it is `failed`."""
        trial = self.out.get(trial_id)
        if trial is None:
            return
        progress = end_failed(self.store, trial, self.plan.spec.sweep, reason)
        self._ended(progress, progress.row)

    def interrupt(self) -> None:
        """Start nothing more."""
        self.interrupted = True

    def fail(self, problem: GridError) -> None:
        """Nothing can be stored any more: start nothing, and let the caller raise `problem`."""
        self.fatal = self.fatal or problem

    @property
    def stopping(self) -> bool:
        """Whether what runs is to be stopped too."""
        return self.interrupted or self.fatal is not None

    def _ended(self, progress: Progress, row: dict[str, Any]) -> None:
        trial = self.out.pop(progress.trial_id)
        state = str(row["state"])
        self.states[state] = self.states.get(state, 0) + 1
        self.search.tell(trial, Outcome(state, row.get("val_top1"), row.get("epochs_run")))
        self.display.end(progress, state, row.get("reason"))
        self._since_compaction += 1
        if self._since_compaction >= COMPACT_EVERY:
            self.store.compact()
            self._since_compaction = 0


def run_plan(plan: Plan, options: RunOptions, console: Console) -> Summary:
    """Run what the results folder lacks of a plan. Raises `GridError` children.

    With nothing to do it returns at once, and neither torch nor Ray is loaded.
    """
    store = Store(options.results / plan.folder)
    store.check_usable(plan.spec.sweep)
    started = time.monotonic()
    with hold(store):
        warnings = [
            f"{path}: damaged, set aside as {path.name}.damaged; its trial is run again"
            for path in store.set_damaged_aside()
        ]
        for warning in warnings:
            console.print(warning, style="yellow", highlight=False, markup=False)
        # JSON is YAML too: a sweep made in Python has no text of its own.
        store.write_sweep(plan.spec.source.text or plan.spec.model_dump_json(indent=2))
        finished = _finished(store, plan, retry=options.retry)
        _write_plan(store, plan)
        search = Search(plan, store, finished)
        trials = search.trials()
        earlier = {trial_id: row for trial_id, row in finished.items() if trial_id in trials}
        _warn_of_strangers(console, store, finished, earlier)
        first = search.next()
        if first is None:
            return _summary(plan, search, store, None, earlier, 0.0, warnings)
        search.give_back(first)
        driver = _driver(plan, store, options, search, len(earlier), console)
        driver.stopper.restore(
            {trial_id: trial.cell_id for trial_id, trial in trials.items()},
            store.epochs() if plan.spec.stop else [],
        )
        with _signals(driver), driver.display.live():
            _run(driver)
        for trial_id in driver.out:
            store.silence_claim(trial_id)
        if driver.fatal:
            raise driver.fatal
        wall_time_s = time.monotonic() - started
        return _summary(plan, search, store, driver, earlier, wall_time_s, warnings)


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
    plan: Plan, store: Store, options: RunOptions, search: Search, earlier: int, console: Console
) -> Driver:
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
        earlier=earlier,
    )
    return Driver(
        plan,
        store,
        options,
        search,
        Stopper(plan),
        display,
        device,
        git_commit(Path.cwd()),
    )


def _finished(store: Store, plan: Plan, *, retry: bool) -> dict[str, Finished]:
    """Ended trials that count as done for this plan."""
    stops = plan.spec.stop is not None
    return {
        trial_id: row
        for trial_id, row in store.finished().items()
        # Without `stop:` a pruned trial is one cut short, so it is trained to its end.
        if not (row.state == "pruned" and not stops) and not (retry and row.state == "failed")
    }


def _write_plan(store: Store, plan: Plan) -> None:
    if store.newest_plan() == plan.plan_id:
        return
    written_at = now()
    store.write(
        "plan", plan.plan_id, [{**row, "written_at": written_at} for row in plan_rows(plan)]
    )


def _warn_of_strangers(
    console: Console, store: Store, finished: dict[str, Finished], earlier: dict[str, Finished]
) -> None:
    if finished and not earlier:
        console.print(
            f"{store.folder}: none of its {len(finished)} finished trials belongs to this plan; "
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
    for row in earlier.values():
        states[row.state] = states.get(row.state, 0) + 1
    return Summary(
        folder=store.folder,
        planned=plan.planned,
        states=dict(sorted(states.items())),
        ran=ran,
        wall_time_s=wall_time_s,
        interrupted=bool(driver and driver.interrupted),
        unfinished=len(search.unfinished()),
        warnings=tuple(warnings),
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
