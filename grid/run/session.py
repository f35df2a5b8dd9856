"""One run of a sweep, from the lock on the results folder to the summary.

Under the lock, a run has four steps: tidy the folder, restore the search from it, run what
is left, summarise.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.results.location import inside
from cnncore.data import prepare_dataset
from grid.code.stored import store_aliases, stored_code_used
from grid.cost.absent import absent_class_notes
from grid.cost.decoding import decoding_notes
from grid.cost.devices import device_notes
from grid.cost.forecast import planned_work
from grid.cost.slots import check_thread_limit, count_slots, pick_device
from grid.errors import GridError, StoreError
from grid.lock.heartbeat import POLL_S
from grid.lock.hold import hold, join
from grid.lock.share import Share
from grid.plan.ids import Trial
from grid.plan.plan import Plan, plan_rows
from grid.run.capacity import Capacity, ClusterCapacity
from grid.run.checkpoints import Keeper, open_keeper
from grid.run.display import Display, print_note
from grid.run.driver import Driver, RunOptions, end_skipped
from grid.run.later_metrics import add_later_metrics
from grid.run.lost_trials import settle_claims
from grid.run.reading import reading_shown
from grid.run.signals import StopSignals
from grid.run.speed_log import SpeedLog
from grid.search.earlier import code_notes, count_as_done, other_data, pruned_otherwise
from grid.search.sweep_search import Search
from grid.store.folder import Finished, Store, now
from grid.store.open import open_store
from grid.trial.lineage import Lineage
from grid.trial.metric_check import check_metrics
from grid.trial.network_check import TriedNetworks, try_networks, unfinished_configs
from grid.trial.provenance import git_commit

if TYPE_CHECKING:
    from rich.console import Console

# The unit that a driver takes to merge files beside other drivers.
MERGING = "merging"


@dataclass(frozen=True)
class Summary:
    """The outcome of a run."""

    folder: Path | str  # an address for results in an object store
    planned: int
    states: dict[str, int]
    ran: int
    wall_time_s: float
    interrupted: bool
    unfinished: int
    # Those of the unfinished that wait with a checkpoint.
    paused: int = 0
    warnings: tuple[str, ...] = ()
    # Number of trials, or tuned cells, that other drivers of the folder have.
    elsewhere: int = 0

    @property
    def exit_code(self) -> int:
        """0 everything finished, 1 some trials failed or are missing, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.states.get("failed") or self.unfinished else 0


def run_plan(plan: Plan, options: RunOptions, console: Console) -> Summary:
    """Run the trials of a plan that its results folder lacks. Raises `GridError` children.

    With nothing to do it returns at once and loads neither torch nor Ray.
    """
    store = open_store(inside(options.results, plan.folder))
    _check_options(store, plan, options)
    store.check_usable(plan.spec.sweep)
    if not options.share:
        with hold(store), stored_code_used(store, plan.sources):
            _merge_files(store)
            summary = _run_held(plan, options, console, store, None)
            _merge_files(store)
            return summary
    with join(store) as name, stored_code_used(store, plan.sources):
        share = Share(store, name)
        try:
            summary = _run_held(plan, options, console, store, share)
            if share.take(MERGING):
                _merge_files(store)
            return summary
        finally:
            share.release()


def _merge_files(store: Store) -> None:
    """Merge the folder's small files; what finished is stored, whether this works or not."""
    with suppress(StoreError):
        store.tidy()


def _check_options(store: Store, plan: Plan, options: RunOptions) -> None:
    for name, given in (("--retry", options.retry), ("disk_gib", plan.spec.disk_gib)):
        if options.share and given:
            raise GridError(f"{name} needs the results folder for itself: leave --share out")
    for name, given, possible in (
        ("--share", options.share, store.files.exclusive_create),
        ("disk_gib", plan.spec.disk_gib, store.files.all_on_disk),
    ):
        if given and not possible:
            raise GridError(
                f"{name} needs a results folder, not an object store ({store.display_name})"
            )


def _run_held(
    plan: Plan, options: RunOptions, console: Console, store: Store, share: Share | None
) -> Summary:
    started = time.monotonic()
    warnings = _tidy(store)
    for warning in (*plan.warnings, *warnings):
        print_note(console, warning)
    restored = _restore(plan, options, console, store, share)
    if share is None:  # other drivers may be doing it
        _add_later_metrics(plan, options, console, store, restored)
    skipped = list(end_skipped(restored.search, store, plan.spec.sweep))
    if restored.first is None:
        states = Counter(pruned=len(skipped)) if skipped else Counter()
        return _summarise(plan, store, restored, warnings, states=states)
    restored.search.give_back(restored.first)
    driver = _make_driver(plan, store, options, restored, skipped, console)
    _run(driver)
    summary = _summarise(
        plan,
        store,
        restored,
        warnings,
        states=Counter(driver.states),
        ran=sum(driver.states.values()),
        wall_time_s=time.monotonic() - started,
        interrupted=driver.interrupted,
    )
    if share is None:
        return summary
    return _add_other_drivers(summary, plan, options, console, store, restored)


# -- tidy ----------------------------------------------------------------------------------


def _tidy(store: Store) -> list[str]:
    """Set aside damaged files and remove unfinished ones; return a warning for each damaged one."""
    damaged = [
        f"{store.display_name}/{path.relative_to(store.folder)}: damaged, set aside as "
        f"{path.name}.damaged; its trial is run again"
        for path in store.set_damaged_aside()
    ]
    store.remove_temporary()
    return damaged


# -- restore -------------------------------------------------------------------------------


@dataclass
class Restored:
    """The search, restored from the results folder, with its sources."""

    search: Search
    lineage: Lineage
    keeper: Keeper
    # Ended trials of the folder that count as done.
    finished: dict[str, Finished]
    # The earlier ends of trials that are run again, in microseconds.
    ended_before: dict[str, int]
    # The next trial to run, None if nothing is left.
    first: Trial | None

    def earlier(self) -> dict[str, Finished]:
        """Return the ended trials that belong to the plan, as far as the search knows it by now."""
        trials = self.search.trials()
        return {trial_id: row for trial_id, row in self.finished.items() if trial_id in trials}


def _restore(
    plan: Plan, options: RunOptions, console: Console, store: Store, share: Share | None
) -> Restored:
    """Store the sweep file and the plan; restore the search from the ended trials."""
    rows = store.finished()
    finished = count_as_done(rows, plan, retry=options.retry)
    if pruned := pruned_otherwise(store, plan, finished):
        print_note(console, pruned)
    for text in code_notes(plan, finished):
        print_note(console, text)
    store_aliases(store, plan.resolver.code.vouched)
    store.write_sweep(plan.spec.text)
    if share is None:  # beside other drivers, a claimed trial may run elsewhere
        settle_claims(store, finished, local=options.local)
    _write_plan(store, plan)
    read_finished = partial(_read_finished, store, plan, options.retry)
    search = Search(
        plan,
        store,
        finished,
        share=share,
        read_finished=read_finished,
        note=partial(print_note, console),
    )
    lineage = Lineage(store, finished)
    keeper = open_keeper(plan, store, options.data_dir, search, lineage, console)
    keeper.restore(finished)
    while (first := search.next()) is None and not search.over:
        time.sleep(POLL_S)
    ended_before = {
        trial_id: row.ended_at for trial_id, row in rows.items() if trial_id not in finished
    }
    restored = Restored(search, lineage, keeper, finished, ended_before, first)
    for text in other_data(plan, store, finished, search.trials()):
        print_note(console, text)
    trials = search.trials().values()
    if finished and trials and not restored.earlier() and not any(map(lineage.shorter, trials)):
        print_note(
            console,
            f"{store.display_name}: none of its {len(finished)} finished trials belongs to this "
            "plan; they stay, and leave the tables (--all shows them)",
        )
    return restored


def _read_finished(
    store: Store, plan: Plan, retry: Collection[str], trial_id: str | None = None
) -> dict[str, Finished]:
    """Read the ended trials that count as done, all or one."""
    return count_as_done(store.finished(trial_id), plan, retry=retry)


def _write_plan(store: Store, plan: Plan) -> None:
    if store.newest_plan() == plan.plan_id:
        return
    written_at = now()
    store.write(
        "plan", plan.plan_id, [{**row, "written_at": written_at} for row in plan_rows(plan)]
    )


def _add_later_metrics(
    plan: Plan, options: RunOptions, console: Console, store: Store, restored: Restored
) -> None:
    add_later_metrics(
        plan,
        store,
        restored.search.trials(),
        restored.earlier(),
        options.data_dir,
        "cpu" if options.address else pick_device(plan.spec.resources),
        partial(print_note, console),
    )


# -- run -----------------------------------------------------------------------------------


def _make_driver(
    plan: Plan,
    store: Store,
    options: RunOptions,
    restored: Restored,
    skipped: Collection[Trial],
    console: Console,
) -> Driver:
    for text in (*plan.resolver.about_data(), *decoding_notes(plan, options.data_dir)):
        print_note(console, text)
    with reading_shown(console):
        for (name, image_size, resize, background), facts in plan.resolver.copies().items():
            # Once here, not in every trial.
            prepare_dataset(
                name,
                options.data_dir,
                image_size,
                skip_unreadable=plan.skip_unreadable,
                fingerprint=facts.fingerprint,
                resize=resize,
                background=background,
            )
    for text in absent_class_notes(plan, options.data_dir):
        print_note(console, text)
    for name, images in plan.resolver.skipped().items() if plan.skip_unreadable else ():
        print_note(console, f"{name}: left {images} unreadable image(s) out")
    note = partial(print_note, console)
    capacity = _capacity(plan, options, note)
    if not options.address:  # the cluster's machines have other devices
        for text in device_notes(plan, capacity.device):
            note(text)
    tried = _try_networks(plan, options, restored, capacity.device, note)
    display = Display(
        console,
        plan.folder,
        plan.planned,
        capacity,
        {cell.cell_id: cell.label() for cell in plan.cells},
        work=planned_work(plan),
        stop=plan.spec.stop,
        wanted=tune.confirm.top if (tune := plan.spec.tune) and tune.confirm else 1,
        first=plan.replicates[0],
        objective=plan.objective,
    )
    trials = restored.search.trials()
    for trial_id, row in restored.earlier().items():
        display.take_up(trials[trial_id], row)
    restored.search.take_reused()  # among them already
    for trial in skipped:
        display.count(trial, "pruned")
    return Driver(
        plan=plan,
        store=store,
        options=options,
        search=restored.search,
        lineage=restored.lineage,
        display=display,
        keeper=restored.keeper,
        capacity=capacity,
        signals=StopSignals(note),
        commit=git_commit(Path.cwd()),
        ended_before=restored.ended_before,
        tried=tried,
        speeds=SpeedLog(plan, store, options.data_dir),
        states={"pruned": len(skipped)} if skipped else {},
    )


def _try_networks(
    plan: Plan,
    options: RunOptions,
    restored: Restored,
    device: str,
    note: Callable[[str], None],
) -> TriedNetworks:
    """Try the networks of the trials that are left, and say what is found."""
    if options.address:  # the cluster's machines may have what this one lacks
        return TriedNetworks()
    check_metrics(plan)
    configs = unfinished_configs(plan, restored.finished)
    tried = try_networks(plan, configs, device)
    for remark in tried.remarks():
        note(f"cnngrid: {remark}")
    for message in tried.messages():
        note(f"cnngrid: {message}; its trials fail")
    return tried


def _capacity(plan: Plan, options: RunOptions, note: Callable[[str], None]) -> Capacity:
    resources = plan.spec.resources
    check_thread_limit(resources)
    if options.address:
        return ClusterCapacity(resources, options.slots, note)
    device = pick_device(resources)
    return Capacity(1 if options.local else count_slots(resources, options.slots, device), device)


def _run(driver: Driver) -> None:
    """Run all that is left; raise the problem that ended the sweep early, if there was one."""
    with driver.signals.installed(), driver.display.live():
        if driver.options.local:
            from grid.run.local import run_local

            run_local(driver)
        else:
            _run_on_ray(driver)
    for trial_id in driver.running:
        with suppress(StoreError):  # if it matters, `fatal` has the error
            driver.store.claims.silence(trial_id)
    if driver.fatal:
        raise driver.fatal


def _run_on_ray(driver: Driver) -> None:
    from grid.run.ray_tune.environment import ray_environment

    if not driver.options.address and os.environ.get("RAY_ADDRESS"):
        driver.display.note(
            "RAY_ADDRESS is not used: this run has a Ray of its own (--address joins another)"
        )
    with ray_environment(driver.options.address) as scratch:
        from grid.run.ray_tune.tune import run_tune

        run_tune(driver, scratch)


# -- summarise -----------------------------------------------------------------------------


def _summarise(
    plan: Plan,
    store: Store,
    restored: Restored,
    warnings: list[str],
    *,
    states: Counter[str],
    ran: int = 0,
    wall_time_s: float = 0.0,
    interrupted: bool = False,
) -> Summary:
    """Add the trials that ended before this run to those of this run."""
    search = restored.search
    elsewhere, unfinished = set(search.elsewhere()), set(search.unfinished())
    states = states + Counter(row.state for row in restored.earlier().values())
    return Summary(
        folder=store.origin,
        planned=plan.planned,
        states=dict(sorted(states.items())),
        ran=ran,
        wall_time_s=wall_time_s,
        interrupted=interrupted,
        unfinished=len(unfinished - elsewhere),
        paused=len((unfinished - elsewhere) & search.waiting()),
        warnings=tuple(warnings),
        elsewhere=len(elsewhere),
    )


def _add_other_drivers(
    summary: Summary,
    plan: Plan,
    options: RunOptions,
    console: Console,
    store: Store,
    restored: Restored,
) -> Summary:
    """Count the trials that other drivers of the folder ended too; keep the best of all."""
    ended = _read_finished(store, plan, options.retry)
    search, lineage = restored.search, restored.lineage
    open_keeper(plan, store, options.data_dir, search, lineage, console).restore(ended)
    known = search.trials()
    states = Counter(row.state for trial_id, row in ended.items() if trial_id in known)
    return replace(summary, states=dict(sorted(states.items())))
