"""Plan as text for people and as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.results.location import inside
from cnncore.catalog import DATASETS
from cnncore.config import TrialConfig
from grid.cost.disk import DiskNeed
from grid.cost.estimate import Cost
from grid.cost.times.trial_cost import Basis
from grid.phrases import counted, format_bytes, format_s
from grid.plan.ids import Trial
from grid.plan.plan import Plan, plan_rows
from grid.store.usage import GIB
from grid.sweep.spec import SweepSpec


def plan_json(plan: Plan) -> str:
    """Return the rows of the table `plan` as JSON, with configs and cells as objects."""
    rows = plan_rows(plan)
    for row in rows:
        for key in ("cell", "config"):
            if row.get(key):
                row[key] = json.loads(row[key])
    return json.dumps({"plan_id": plan.plan_id, "folder": plan.folder, "trials": rows}, indent=2)


def plan_text(plan: Plan, results: Path | str, cost: Cost) -> str:
    """Describe cells, trials and cost on a page."""
    spec = plan.spec
    lines = [f"{spec.source.name} -> {inside(results, plan.folder)}"]
    for key, values in spec.compare.items():
        lines.append(f"  compare {key}: {', '.join(map(str, values))}")
    if spec.tune:
        axes = ", ".join(spec.tune.axes)
        lines.append(
            f"  tune    {axes}: {spec.tune.trials} suggestions a cell ({spec.tune.sampler})"
        )
        lines += _search_lines(plan)
    lines += _goal_lines(plan)
    lines += [f"  note    {warning}" for warning in plan.warnings]
    lines.append(f"  seeds   {', '.join(map(str, plan.seeds))}")
    if spec.folds:
        lines.append(
            f"  folds   {spec.folds} parts of the training images, each validates once "
            "(val_fraction does not apply)"
        )
    sizes = sorted({t.config.image_size for t in plan.trials if t.config.image_size})
    if len(sizes) > 1:
        lines.append(f"  note    image sizes differ between cells: {', '.join(map(str, sizes))}")
    for name in sorted({t.config.dataset for t in plan.trials if _not_published(t.config)}):
        lines.append(f"  note    {name}: other files than the published ones, such as a subset")
    lines += [f"  data    {text}" for text in plan.resolver.about_data()]
    for name, skipped in plan.resolver.skipped().items() if plan.skip_unreadable else ():
        lines.append(f"  note    {name}: {skipped} unreadable image(s) left out")
    lines += [f"  note    {text}" for text in plan.absent_data.values()]
    if _without_ids(plan):
        lines.append(
            "  note    ids of trials depend on the images: they are known once those are here"
        )
    lines += [f"  note    {text}" for text in (*cost.left_behind, *cost.absent, *cost.skipped)]
    lines.append(
        f"{counted(len(plan.cells), 'cell')}, {counted(plan.planned, 'trial')}, "
        f"{cost.left} of them to run:"
    )
    listed = plan.trials[:MOST_LISTED]
    labels = {cell.cell_id: cell.label() for cell in plan.cells}
    for trial in listed:
        known = trial.config.dataset not in _without_ids(plan)
        name = trial.trial_id if known else "-" * len(trial.trial_id)
        lines.append(f"  {name}  {labels[trial.cell_id]}  {_replicate(trial)}")
    if len(plan.trials) > len(listed):
        lines.append(f"  ... {len(plan.trials) - len(listed)} more (--json lists all)")
    if spec.tune:
        lines += [f"  cell {cell.cell_id}  {cell.label()}" for cell in plan.cells[:MOST_LISTED]]
    if cost.disk is None:
        return "\n".join([*lines, "cost: nothing is left to run"])
    lines += cost.decoding
    if cost.continued:
        lines.append(
            f"{counted(cost.continued, 'trial')} start from the last checkpoint of a shorter one, "
            f"which saves {counted(cost.epochs_saved, 'epoch')}"
        )
    for obstacle in cost.anew:
        lines.append(f"trials that were run with fewer epochs start anew: {obstacle}")
    most = "at most " if spec.stop or (spec.tune and spec.tune.drop) else ""
    lines.append(
        f"cost: {most}{counted(cost.epochs, 'epoch')}, {cost.training_images:,} training images; "
        f"about {format_s(cost.time_s)} ({format_s(cost.range_s[0])} to "
        f"{format_s(cost.range_s[1])}) on {counted(cost.slots, 'slot')} of "
        f"{counted(spec.resources.cpus, 'CPU core')}, "
        f"{cost.memory_mib:,.0f} MiB for networks at a time"
    )
    lines.append(f"time: {_basis(cost)}")
    return "\n".join([*lines, *disk_lines(spec, cost.disk)])


def disk_lines(spec: SweepSpec, need: DiskNeed) -> list[str]:
    """Describe the disk space of the sweep, and warn if the limit or the disk is too small."""
    parts = [
        f"{format_bytes(need.kept)} of checkpoints kept ({_kept(spec)})",
        f"{format_bytes(need.running)} of trials that run",
        *([f"{format_bytes(need.waiting)} of configs that wait"] if need.waiting else []),
        f"{format_bytes(need.tables)} of tables",
    ]
    budget = f"disk_gib {spec.disk_gib:g}, " if spec.disk_gib else ""
    lines = [
        f"disk: at most {format_bytes(need.total)}: {', '.join(parts)}; {budget}"
        f"{format_bytes(need.present)} are there, {format_bytes(need.free)} free"
    ]
    if spec.disk_gib and need.least > spec.disk_gib * GIB:
        lines.append(
            f"  warning: {format_bytes(need.least)} are what the best of each cell, what waits and "
            "one trial at a time need: under this disk_gib the sweep may stop before its end"
        )
    elif spec.disk_gib and need.total > spec.disk_gib * GIB:
        lines.append(
            "  warning: more than disk_gib: weights of trials that are not the best of their cell "
            "will be removed, the worst first, and fewer trials may run at a time"
        )
    if need.total - need.present > need.free:
        lines.append(
            "  warning: more than the disk has room for; the sweep will stop when it is full"
        )
    return lines


def _kept(spec: SweepSpec) -> str:
    return f"keep: the best {spec.keep_top} of each cell" if spec.keep_top else f"keep: {spec.keep}"


def _basis(cost: Cost) -> str:
    """Describe where the time comes from, for each kind of trial (network, size, batch, ...)."""
    words: dict[Basis, str] = {
        "trials": f"from {counted(cost.measured_trials, 'trial')} measured here",
        "probe": "from steps measured here by --probe",
        "counted": "from counted operations and the speed of this machine, within a factor of "
        "about 2 (--probe measures a few steps)",
        "unknown": "not known: the network's operations cannot be counted (--probe measures them)",
    }
    kinds = [(basis, cost.bases[basis]) for basis in words if cost.bases[basis]]
    if len(kinds) == 1:
        text = words[kinds[0][0]]
    else:
        total = sum(count for _, count in kinds)
        parts = [f"{count} {words[basis]}" for basis, count in kinds]
        text = f"of {total} kinds of trials {', '.join(parts)}"
    busy = "; other work kept this machine busy meanwhile" if cost.busy else ""
    return f"{text}{busy}"


def _without_ids(plan: Plan) -> list[str]:
    """Return the absent data sets whose trials' ids depend on the files."""
    return [name for name in plan.absent_data if DATASETS[name].folder]


def _search_lines(plan: Plan) -> list[str]:
    """Describe how configs are stopped, dropped and confirmed."""
    lines, tune, stop = [], plan.spec.tune, plan.spec.stop
    if stop:
        settings = ", ".join(
            f"{key} {value}" for key, value in stop.rule.model_dump(exclude_none=True).items()
        )
        lines.append(f"  stop    {stop.name} inside each cell ({settings})")
    if tune and tune.drop:
        lines.append(
            f"  drop    a config that is worse after {tune.drop.after} seeds or more "
            f"(paired t test, p {tune.drop.p:g})"
        )
    if tune and tune.confirm:
        lines.append(
            f"  confirm the best {counted(tune.confirm.top, 'config')} of each cell with "
            f"{counted(tune.confirm.seeds, 'fresh seed')}"
        )
    return lines


def _goal_lines(plan: Plan) -> list[str]:
    """Describe the objective, if it is not val_top1, and the metrics beside the usual ones."""
    lines, objective = [], plan.objective
    if not objective.is_default:
        better = "lower" if objective.lower_is_better else "higher"
        own = " (its name says so: see docs/sweep-file.md)" if ":" in objective.name else ""
        lines.append(f"  goal    {objective.name}, {better} is better{own}")
    if plan.metrics:
        lines.append(f"  metrics {', '.join(plan.metrics)}")
    return lines


def _replicate(trial: Trial) -> str:
    return f"seed {trial.seed}" if trial.fold is None else f"seed {trial.seed} fold {trial.fold}"


def _not_published(config: TrialConfig) -> bool:
    """Check for a data set that is published as arrays and has other content here."""
    source = DATASETS.get(config.dataset)
    return source is not None and not source.folder and config.data_fingerprint is not None


MOST_LISTED = 40
