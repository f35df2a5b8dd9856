"""Disk space of a plan's checkpoints and tables, in bytes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cnncore.config import NETWORK_KEYS, TrialConfig, optimizer_moments
from grid.plan.plan import Cell, Plan, corners
from grid.plan.planned_data import data_of
from grid.search.stopping import cell_rule
from grid.store.usage import MIB, free_bytes, taken
from grid.sweep.spec import SweepSpec

# A trial's rows as stored, without its predictions; and the rows of one more epoch.
TABLES_BYTES = 20_000
EPOCH_BYTES = 80
PREDICTION_BYTES = 4  # 41 KB per 10,000
# Content of a checkpoint beside the weights: names, settings, the epochs so far.
CHECKPOINT_BYTES = MIB // 2


@dataclass(frozen=True)
class Sizes:
    """Bytes of one trial's checkpoints: `last.pt`, to resume from, and `best.pt`, to be kept."""

    last: int
    best: int

    @property
    def most(self) -> int:
        """Bytes while the trial runs: a new `last.pt` is complete before the old one is removed."""
        return 2 * self.last

    def kept(self, spec: SweepSpec) -> int:
        """Return the bytes of a complete trial that keeps its checkpoint."""
        return {"none": 0, "last": self.last, "best": self.best}[spec.keep_at_end]


def trial_sizes(plan: Plan, config: TrialConfig, data_dir: Path) -> Sizes:
    """Compute an upper bound from the network's parameters; loads torch."""
    classes = len(data_of(plan, config, data_dir).class_names)
    return _sizes(config.model_dump_json(include=SIZE_KEYS), classes)


SIZE_KEYS = {*NETWORK_KEYS, "arch", "arch_options", "image_size", "optimizer", "momentum",
             "optimizer_options", "select", "ema"}  # fmt: skip


@cache
def _sizes(content: str, classes: int) -> Sizes:
    from cnncore.complexity import network_operations
    from cnncore.process_settings import random_states_kept, unchanged

    config = json.loads(content)
    options = {key: config[key] for key in NETWORK_KEYS if config[key] is not None}
    with unchanged(), random_states_kept():
        network = network_operations(
            config["arch"],
            classes=classes,
            image_size=config["image_size"],
            **options,
            **(config["arch_options"] or {}),
        )
    weights = 4 * network.elements
    moments = optimizer_moments(
        config["optimizer"], config["momentum"], config["optimizer_options"]
    )
    copies = 1 + moments + (config["select"] == "best") + (config["ema"] is not None)
    return Sizes(copies * weights + CHECKPOINT_BYTES, weights + CHECKPOINT_BYTES)


@dataclass(frozen=True)
class DiskNeed:
    """Most bytes that a results folder will take, by kind of content.

    `present` are taken already; `free` is the free space of the disk.
    """

    kept: int
    running: int
    waiting: int
    tables: int
    present: int
    free: int
    # Bytes that cannot be removed, with one trial running alone.
    least: int

    @property
    def total(self) -> int:
        """Most bytes at a time."""
        return self.kept + self.running + self.waiting + self.tables


def disk_need(plan: Plan, folder: Path, data_dir: Path, slots: int) -> DiskNeed:
    """Add up the needs of a plan; a tuned cell counts with the largest network it can ask for."""
    need: Counter[str] = Counter()
    for cell in plan.cells:
        ends = corners(plan.spec, cell.values)
        configs = [plan.resolver.resolve({**cell.values, **end}) for end in ends]
        sizes = [trial_sizes(plan, config, data_dir) for config in configs]
        data = data_of(plan, configs[0], data_dir)
        last = max(size.last for size in sizes)
        searched, confirmed = planned_trials(plan, cell)
        kept = max(size.kept(plan.spec) for size in sizes)
        need["kept"] += min(searched + confirmed, plan.spec.keep_top or searched + confirmed) * kept
        need["best"] += min(searched + confirmed, plan.spec.keep_top or 1) * kept
        need["waiting"] += most_waiting(plan, cell) * last
        need["one"] = max(need["one"], *(size.most for size in sizes))
        images = min(len(data.test_labels), configs[0].limit_test or len(data.test_labels))
        predicted = {"all": searched + confirmed, "confirmed": confirmed, "none": 0}
        need["tables"] += (searched + confirmed) * table_bytes(configs[0].epochs)
        need["tables"] += predicted[plan.spec.keep_predictions] * images * PREDICTION_BYTES
    return DiskNeed(
        kept=need["kept"],
        running=slots * need["one"],
        waiting=need["waiting"],
        tables=need["tables"],
        present=taken(folder),
        free=free_bytes(folder),
        least=need["best"] + need["one"] + need["waiting"] + need["tables"],
    )


def planned_trials(plan: Plan, cell: Cell) -> tuple[int, int]:
    """Count a cell's searched (or simply planned) trials, and its confirmed ones."""
    if (tune := plan.spec.tune) is None:
        return len(plan.replicates), 0
    confirm = tune.confirm.top * len(plan.confirm_replicates) if tune.confirm else 0
    return cell.budget * len(plan.replicates), confirm


def most_waiting(plan: Plan, cell: Cell) -> int:
    """Estimate how many of a cell's configs wait with a checkpoint at a time, at most."""
    tune, stop = plan.spec.tune, plan.spec.stop
    if tune is None or stop is None:
        return 0
    wanted = tune.confirm.top if tune.confirm else 1
    return cell_rule(stop, cell.epochs, wanted).most_waiting(cell.budget, cell.epochs)


def table_bytes(epochs: int) -> int:
    """Return the bytes of a trial's rows, without predictions."""
    return TABLES_BYTES + EPOCH_BYTES * epochs
