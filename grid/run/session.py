"""One run of a sweep: the results folder is held, read and tidied, a driver made and let work."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from analysis.results.location import inside
from cnncore.data import prepare_dataset
from grid.errors import GridError, StoreError
from grid.lock.heartbeat import POLL_S
from grid.lock.hold import hold, join
from grid.lock.share import Share
from grid.plan.plan import Plan, plan_rows
from grid.run.checkpoints import Keeper, open_keeper
from grid.run.driver import Driver, RunOptions, end_skipped
from grid.run.lost_trials import settle_claims
from grid.search.sweep_search import Search
from grid.store.folder import Finished, Store, now
from grid.store.open import open_store
from grid.trial.lineage import Lineage
from grid.trial.provenance import git_commit

if TYPE_CHECKING:
    from rich.console import Console


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
            raise GridError(
                f"{name} wants a results folder, not an object store ({store.display_name})"
            )


def _run_held(
    plan: Plan, options: RunOptions, console: Console, store: Store, share: Share | None
) -> Summary:
    started = time.monotonic()
    warnings = _tidy(store)
    for warning in (*plan.warnings, *warnings):
        console.print(warning, style="yellow", highlight=False, markup=False)
    # JSON is YAML too: a sweep made in Python has no text of its own.
    store.write_sweep(plan.spec.source.text or plan.spec.model_dump_json(indent=2))

    def read_finished(trial_id: str | None = None) -> dict[str, Finished]:
        return _finished(store.finished(trial_id), plan, retry=options.retry)

    rows = store.finished()
    finished = _finished(rows, plan, retry=options.retry)
    if share is None:  # else what is claimed may run elsewhere
        settle_claims(store, finished, local=options.local)
    _write_plan(store, plan)
    search = Search(plan, store, finished, share=share, read_finished=read_finished)
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
    for trial_id in driver.running:
        with suppress(StoreError):  # where it matters, `fatal` says it
            store.silence_claim(trial_id)
    if driver.fatal:
        raise driver.fatal
    wall_time_s = time.monotonic() - started
    summary = _summary(plan, search, store, driver, earlier, wall_time_s, warnings)
    if share:  # others ended trials too
        ended = read_finished()
        open_keeper(plan, store, options.data_dir, search, lineage, console).restore(ended)
        known = search.trials()
        states = Counter(row.state for trial_id, row in ended.items() if trial_id in known)
        summary = replace(summary, states=dict(sorted(states.items())))
    return summary


def _tidy(store: Store) -> list[str]:
    """Put away what killed processes left; what was damaged."""
    damaged = [
        f"{store.display_name}/{path.relative_to(store.folder)}: damaged, set aside as "
        f"{path.name}.damaged; its trial is run again"
        for path in store.set_damaged_aside()
    ]
    store.remove_temporary()
    return damaged


def _run(driver: Driver) -> None:
    if driver.options.local:
        from grid.run.local import run_local

        run_local(driver)
        return
    from grid.run.ray_tune.environment import ray_environment

    with ray_environment(driver.options.address) as scratch:
        from grid.run.ray_tune.tune import run_tune

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
    from grid.cost.forecast import planned_work
    from grid.cost.slots import count_slots, pick_device
    from grid.run.display import Display

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
        f"{store.display_name}: none of its {len(finished)} finished trials belongs to this plan; "
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
        folder=store.location if store.remote else store.folder,
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
