"""Cost of a plan: epochs, time, memory and disk; nothing is trained and nothing downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.results.location import inside
from cnncore.config import TrialConfig
from grid.cost.absent import absent_class_notes, weights_notes
from grid.cost.decoding import decoding_notes
from grid.cost.devices import device_notes
from grid.cost.disk import DiskNeed, disk_need
from grid.cost.slots import check_thread_limit, count_slots, makespan_s, pick_device
from grid.cost.times.measured import speed_key
from grid.cost.times.probe import probe
from grid.cost.times.trial_cost import Basis, TrialCosts, factors
from grid.errors import SweepError
from grid.plan.plan import Plan, active_axes
from grid.plan.planned_data import data_of, sizes_key
from grid.search.earlier import code_notes, count_as_done, other_data
from grid.search.sweep_search import Search
from grid.store.folder import Store
from grid.store.open import open_store
from grid.trial.lineage import Lineage
from grid.trial.metric_check import metric_problems
from grid.trial.network_check import try_networks, unfinished_configs

# Data sets that are decoded in less than this are, so that a plan finds a damaged picture.
PLAN_DECODES_S = 30.0
# Seconds from the command to the first trial on all slots, and from the last one to the table and
# the report: Ray starts, and a process for each slot, which imports torch. With 2 slots on 2
# processors (AMD EPYC): an assumption, not a measurement.
RUN_S = 12.0


@dataclass(frozen=True)
class Cost:
    """Upper bound of the cost: early stopping makes it less."""

    trials: int
    left: int
    epochs: int
    training_images: int
    time_s: float
    # The time is expected between these.
    range_s: tuple[float, float]
    slots: int
    memory_mib: float
    disk: DiskNeed | None  # None if nothing is left to run
    # Kinds of trials (network, size, batch, ...) by where their time comes from, and the number
    # of trials measured here before among them.
    bases: Counter[Basis]
    measured_trials: int = 0
    # Notes on kinds of trials that could not be measured.
    skipped: tuple[str, ...] = ()
    # Other work used the machine while its speed was measured.
    busy: bool = False
    # Trials whose config was trained for fewer epochs before: how many continue from that
    # checkpoint, the epochs that this saves, and the reasons that others cannot.
    continued: int = 0
    epochs_saved: int = 0
    anew: tuple[str, ...] = ()
    # Notes on pre-trained weights that are not here, and on classes of which a split has no image;
    # none if nothing is left to run.
    absent: tuple[str, ...] = ()
    # Notes on finished trials that do not count, because their code or data have changed.
    left_behind: tuple[str, ...] = ()
    # What decoded copies take that are not there yet.
    decoding: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Left:
    """What is left to run: the configs of trials, and the epochs of each that are done already."""

    configs: list[TrialConfig]
    saved: Counter[str]
    continued: int
    obstacles: tuple[str, ...]
    left_behind: tuple[str, ...]


def estimate(
    plan: Plan,
    results: Path | str,
    data_dir: Path,
    slots: int | None = None,
    *,
    measure: bool = False,
) -> Cost:
    """Add up the costs of the trials that the results folder does not have as finished.

    With `measure`, kinds of trials that were not measured before are, for at most a minute.
    """
    check_thread_limit(plan.spec.resources)
    decoding = decoding_notes(plan, data_dir)  # before any small data set is decoded
    device = pick_device(plan.spec.resources)
    count = count_slots(plan.spec.resources, slots, device)
    store = open_store(inside(results, plan.folder))
    store.files.fetch_tables()
    planned = list(_configs(plan))
    left = _left(plan, store, planned)
    beside = max(min(count, len(left.configs)), 1)
    costs = TrialCosts(plan, data_dir, device, beside)
    keys = [_key(config) for config in left.configs]
    kinds = dict(zip(keys, left.configs, strict=True))
    for config in kinds.values():
        data_of(plan, config, data_dir, decodes_s=PLAN_DECODES_S)
    costs.read(kinds.values())
    skipped = probe(costs, kinds.values()) if measure else []
    if measure:
        costs.read(kinds.values())
    of_kind = {key: (costs.of(config), costs.sizes(config)) for key, config in kinds.items()}
    saved, parts = Counter(left.saved), list[tuple[float, Basis]]()
    epochs, images = 0, 0.0
    for config, key in zip(left.configs, keys, strict=True):
        cost, sizes = of_kind[key]
        done = min(saved[key], config.epochs)
        saved[key] -= done
        epochs += config.epochs - done
        images += (config.epochs - done) * sizes.train
        parts.append((cost.seconds(config.epochs - done, sizes), cost.basis))
    time_s = makespan_s([seconds for seconds, _ in parts], count)
    low, high = factors(parts)
    each = [cost for cost, _ in of_kind.values()]
    return Cost(
        trials=len(planned),
        left=len(left.configs),
        epochs=epochs,
        training_images=round(images),
        time_s=time_s + RUN_S,
        range_s=(time_s * low + RUN_S, time_s * high + RUN_S),
        slots=count,
        memory_mib=beside * max((cost.memory_mib for cost in each), default=0.0),
        disk=disk_need(plan, store.folder, data_dir, count) if left.configs else None,
        bases=Counter(cost.basis for cost in each),
        measured_trials=sum(cost.samples for cost in each if cost.basis == "trials"),
        skipped=tuple(skipped),
        busy=costs.busy,
        continued=left.continued,
        epochs_saved=left.saved.total(),
        anew=left.obstacles,
        absent=(*weights_notes(kinds.values()), *absent_class_notes(plan, data_dir))
        if left.configs
        else (),
        left_behind=left.left_behind,
        decoding=tuple(decoding) if left.configs else (),
    )


def _left(plan: Plan, store: Store, planned: list[tuple[TrialConfig, str | None]]) -> _Left:
    """Compare the plan with the results folder."""
    finished = count_as_done(store.finished(), plan)
    configs = [config for config, trial_id in planned if trial_id not in finished]
    lineage = Lineage(store, finished)
    saved: Counter[str] = Counter()
    continued = 0
    obstacles: dict[str, None] = {}
    # For a tuned sweep, the trials that were asked for so far.
    search = Search(plan, lineage.store, finished, keep=False)
    if plan.spec.tune and finished:
        _rehearse(search, len(plan.replicates))
    known = search.trials()
    if plan.spec.tune:
        done = sum(trial_id in finished for trial_id in known)
        configs = configs[min(done, len(configs)) :]
    for trial in known.values():
        if trial.trial_id in finished or (shorter := lineage.shorter(trial)) is None:
            continue
        if shorter.state == "pruned" and plan.spec.stop and trial.lineage_id:
            saved[_key(trial.config)] += trial.config.epochs  # it stays pruned
        elif obstacle := lineage.obstacle(trial, shorter):
            obstacles[obstacle] = None
        else:
            continued += 1
            saved[_key(trial.config)] += shorter.epochs_run or 0
    notes = (*code_notes(plan, finished), *other_data(plan, store, finished, known))
    return _Left(configs, saved, continued, tuple(obstacles), notes)


def with_tried_networks(plan: Plan, results: Path | str) -> Plan:
    """Try the networks of the trials that are left; return the plan with remarks on them.

    Raises `SweepError` with the problem of each network that cannot be trained, of each metric of
    the user's, and of a precision that this machine does not have.
    """
    store = open_store(inside(results, plan.folder))
    store.files.fetch_tables()
    device = pick_device(plan.spec.resources)
    notes = device_notes(plan, device)
    done = count_as_done(store.finished(), plan)
    tried = try_networks(plan, unfinished_configs(plan, done), device)
    if problems := metric_problems(plan.resolver) + tried.placed(plan.resolver):
        position = plan.spec.source.position
        raise SweepError([f"{position(path)}: {text}" for path, text in problems])
    return replace(plan, remarks=(*notes, *tried.remarks()))


def _rehearse(search: Search, replicates: int) -> None:
    """Let a search that writes nothing ask again for the suggestions that no longer count.

    Those that need no results come out as they were; their trials may continue shorter ones. A
    search that has ended plans its confirming trials.
    """
    handed_out = max(search.left_behind * replicates, 0 if search.unfinished() else 1)
    for _ in range(handed_out):
        if search.next() is None:
            return


def _configs(plan: Plan) -> Iterable[tuple[TrialConfig, str | None]]:
    """Yield every trial's config and id; a tuned cell counts with the first values of its axes."""
    for trial in plan.trials:
        yield trial.config, trial.trial_id
    if plan.spec.tune:
        for cell in plan.cells:
            axes = active_axes(plan.spec, cell.values)
            first = {
                key: axis.values[0] if hasattr(axis, "values") else axis.low
                for key, axis in axes.items()
            }
            config = plan.resolver.resolve({**cell.values, **first})
            confirm = plan.spec.tune.confirm
            confirming = confirm.top * len(plan.confirm_replicates) if confirm else 0
            for _ in range(cell.budget * len(plan.replicates) + confirming):
                yield config, None


def _key(config: TrialConfig) -> str:
    """Return a key that is equal for configs of equal cost, on any machine."""
    return f"{speed_key(config, '', 0)} {config.epochs} {sizes_key(config)}"
