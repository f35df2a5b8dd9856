"""The search and early stopping against other methods, on recorded curves with a virtual clock.

Every method chooses a configuration in each of four cells. Its cost is the number of epochs that it
trains. Its *regret* is the final validation accuracy of the full grid's choice minus that of its
own choice, in percentage points. The regret in test accuracy stands beside it; the full grid's
choice need not be the best there.

    python -m benchmarks replay
    python -m benchmarks.search.bench_replay --part replay     # one of its three parts

Ray's ASHA is Ray's own code (`AsyncHyperBandScheduler`'s bracket), over all cells together as a
sweep without cells would use it. `first_epochs` and the median rule are ours: the replay compares
rules, not programs.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from statistics import median, quantiles
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from benchmarks.measure import RESULTS, environment, write_csv
from benchmarks.search.curves import Cell, Config, Curve, Curves, fake_dataset, read
from benchmarks.search.simulate import simulate
from grid.plan.plan import expand_sweep
from grid.search.study import CellStudy, SuggestionResult
from grid.sweep.axes import LogUniform, Uniform
from grid.sweep.load import parse_sweep
from grid.sweep.spec import Tune

SLOTS = (1, 8, 64, 512)
REPETITIONS = 20


@dataclass
class Choices:
    """The choices and costs of one repetition of a method."""

    epochs: int
    time_s: float
    chosen: dict[Cell, Curve] = field(default_factory=dict)
    # Epochs of every config that was started.
    epochs_of: dict[tuple[Cell, Config], int] = field(default_factory=dict)


Method = Callable[[Curves, int, int], Choices]


def ours(sampler: str, stop: str = "", trials: int | None = None) -> Method:
    """Return the method of our own sweeps: search and early stopping inside each cell."""

    def run(curves: Curves, slots: int, seed: int) -> Choices:
        plan = curves.plan(sampler, stop, trials, seed)
        times = curves.seconds_by_arch
        sweep = simulate(plan, curves.value, slots, lambda trial: times[trial.config.arch])
        result = Choices(sweep.total_epochs, sweep.time_s)
        for trial_id, epochs in sweep.epochs.items():
            config = sweep.trials[trial_id].config
            assert config.weight_decay is not None
            point = (config.lr, config.weight_decay)
            result.epochs_of[(config.arch, config.optimizer), point] = epochs
        for cell in plan.cells:
            if (winner := sweep.winner(cell.cell_id)) is not None:
                name = (winner.config.arch, winner.config.optimizer)
                result.chosen[name] = curves.of(winner)
        return result

    return run


def rays_asha(curves: Curves, slots: int, seed: int) -> Choices:
    """Run the trials of all cells in random order under Ray's ASHA."""
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=curves.epochs + 1, reduction_factor=3, s=0)
    order = [(cell, config) for cell, configs in curves.cells.items() for config in configs]
    random.Random(seed).shuffle(order)
    times = curves.seconds_by_arch
    tie_breaker, now, epochs = count(), 0.0, 0
    running: list[tuple[float, int, Any, int]] = []
    ended: dict[Cell, list[tuple[bool, float, Curve]]] = {cell: [] for cell in curves.cells}
    waiting = iter(order)
    epochs_of: dict[tuple[Cell, Config], int] = {}

    def fill() -> None:
        while len(running) < slots and (trial := next(waiting, None)) is not None:
            heapq.heappush(running, (now + times[trial[0][0]], next(tie_breaker), trial, 1))

    fill()
    while running:
        now, _, (cell, config), epoch = heapq.heappop(running)
        epochs += 1
        epochs_of[cell, config] = epoch
        curve = curves.cells[cell][config]
        diverged = curve.diverged and epoch > len(curve.val_top1)
        action = TrialScheduler.STOP
        if not diverged:
            trial = SimpleNamespace(trial_id=f"{cell} {config}")
            action = bracket.on_result(trial, epoch, max(curve.val_top1[:epoch]))
        if epoch == curves.epochs or (action == TrialScheduler.STOP and not diverged):
            best = max(curve.val_top1[:epoch])
            ended[cell].append((epoch == curves.epochs, best, curve))
        elif not diverged:
            heapq.heappush(
                running, (now + times[cell[0]], next(tie_breaker), (cell, config), epoch + 1)
            )
        fill()
    # If no config of a cell was trained to its end, the one with the best value is chosen.
    chosen = {
        cell: max(trials, key=lambda trial: trial[:2])[2]
        for cell, trials in ended.items()
        if trials
    }
    return Choices(epochs, now, chosen, epochs_of)


METHODS: dict[str, Method] = {
    "full grid": ours("random"),
    "ours: asha 3, random": ours("random", '{"asha": {"grace_epochs": 1, "reduction": 3}}'),
    "ours: asha 3, tpe": ours("tpe", '{"asha": {"grace_epochs": 1, "reduction": 3}}'),
    "ours: asha 2, random": ours("random", '{"asha": {"grace_epochs": 1, "reduction": 2}}'),
    "ours: halving 3, random": ours("random", '{"halving": {"reduction": 3}}'),
    "ours: halving 3, 2 rungs, random": ours("random", '{"halving": {"reduction": 3, "rungs": 2}}'),
    **{
        f"ours: halving 3, 2 rungs, gap {gap}, random": ours(
            "random", f'{{"halving": {{"reduction": 3, "rungs": 2, "gap": {gap}}}}}'
        )
        for gap in (0.05, 0.03, 0.04, 0.06)
    },
    "ours: halving 3, 2 rungs, tpe, 36 of 40 configs": ours(
        "tpe", '{"halving": {"reduction": 3, "rungs": 2}}', 36
    ),
    "ours: hyperband, random": ours("random", '{"hyperband": {}}'),
    "first_epochs 1, keep 3": ours("random", '{"first_epochs": {"epochs": 1, "keep": 3}}'),
    "first_epochs 2, keep 3": ours("random", '{"first_epochs": {"epochs": 2, "keep": 3}}'),
    "first_epochs 3, keep 2": ours("random", '{"first_epochs": {"epochs": 3, "keep": 2}}'),
    "median rule, random": ours("random", '{"median": {"grace_epochs": 1}}'),
    "tpe, 14 trials, no stopping": ours("tpe", trials=14),
    "Ray's ASHA over all cells": rays_asha,
}


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    if len(set(values)) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, middle, q3 = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": q1, "q3": q3}


def replay(curves: Curves, slots: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Return a row per method and number of slots, with the regret of each and the worst cell."""
    whole = curves.epochs * sum(len(configs) for configs in curves.cells.values())
    best = {
        cell: max(configs.values(), key=lambda c: c.final) for cell, configs in curves.cells.items()
    }
    rows = []
    for name, method in METHODS.items():
        for number in slots:
            results = [
                method(curves, number, seed)
                for seed in range(1 if name == "full grid" else repetitions)
            ]
            share = spread([result.epochs / whole for result in results])
            row: dict[str, Any] = {
                "method": name,
                "slots": number,
                "n": len(results),
                "epochs": median(result.epochs for result in results),
                "share_of_grid": share["median"],
                "share_q1": share["q1"],
                "share_q3": share["q3"],
                "hours": median(result.time_s for result in results) / 3600,
            }
            regrets = {
                cell: spread([100 * (top.final - chosen_curve(r, cell).final) for r in results])
                for cell, top in best.items()
            }
            row["worst_regret"] = max(regret["median"] for regret in regrets.values())
            for cell, regret in regrets.items():
                key = "_".join(cell)
                row[f"{key}_regret"] = regret["median"]
                row[f"{key}_q1"], row[f"{key}_q3"] = regret["q1"], regret["q3"]
                row[f"{key}_test_regret"] = median(
                    100 * ((best[cell].test_top1 or 0) - (chosen_curve(r, cell).test_top1 or 0))
                    for r in results
                )
            rows.append(row)
    return rows


NO_CURVE = Curve((), 0.0, None)


def chosen_curve(choices: Choices, cell: Cell) -> Curve:
    """Return the curve that a method chose in a cell; an empty one if it chose none."""
    return choices.chosen.get(cell, NO_CURVE)


def replay_large(sampler: str, trials: int, cells: int, slots: int) -> dict[str, Any]:
    """Time a replay of many trials: seconds in all, of a decision and of a suggestion."""
    text = (
        f"sweep: large\ncompare: {{arch: [cnn3], split_seed: {list(range(cells))}}}\n"
        "fixed: {dataset: cifar10, image_size: 32, optimizer: sgd, epochs: 27}\n"
        f"tune: {{trials: {trials // cells}, sampler: {sampler}, axes: {{"
        "lr: {log_uniform: [1e-4, 1]}, weight_decay: {log_uniform: [1e-6, 1e-2]}}}\n"
        "stop: {asha: {grace_epochs: 1, reduction: 3}}\n"
    )
    plan = expand_sweep(parse_sweep(text), fake_dataset)
    began = perf_counter()
    sweep = simulate(plan, lambda trial, epoch: 1 - abs(trial.config.lr - 0.03) - 0.5**epoch, slots)
    real_s = perf_counter() - began
    decision_s = sorted(sweep.decision_s)
    return {
        "method": f"{sampler}, {trials} trials, {cells} cells",
        "slots": slots,
        "n": len(sweep.trials),
        "epochs": sweep.total_epochs,
        "real_s": real_s,
        "decision_ms_median": 1000 * median(decision_s),
        "decision_ms_p99": 1000 * decision_s[int(0.99 * len(decision_s))],
        "ask_and_tell_ms_mean": 1000 * sum(sweep.request_s) / len(sweep.trials),
    }


def time_suggestion(sampler: str, history: int) -> dict[str, Any]:
    """Time a suggestion and the report of an earlier outcome, in a cell with a history."""
    axes = {
        "lr": LogUniform(low=1e-4, high=1),
        "weight_decay": LogUniform(low=1e-6, high=1e-2),
        "momentum": Uniform(low=0.5, high=0.99),
    }
    tune = Tune.model_validate({"trials": history + 20, "sampler": sampler, "axes": axes})
    study = CellStudy(tune, axes, "cell")
    draw = random.Random(0)
    for number in range(history):
        if sampler == "cmaes":  # learns only from its own suggestions
            study.take(number, study.ask(number))
        else:
            rate, decay = 10 ** draw.uniform(-4, 0), 10 ** draw.uniform(-6, -2)
            point = {"lr": rate, "weight_decay": decay, "momentum": draw.uniform(0.5, 0.99)}
            study.take(number, point, own=False)
        study.tell(SuggestionResult(number, "complete", draw.random()))
    study.skip(history)
    study.ask(history + 1)  # loads the history
    study.skip(history + 1)
    times = []
    for n in range(history + 2, history + 22):
        began = perf_counter()
        study.take(n, study.ask(n))
        study.tell(SuggestionResult(n - 2, "complete", draw.random()))
        times.append(1000 * (perf_counter() - began))
    columns = {f"ask_and_tell_ms_{key}": value for key, value in spread(times).items()}
    return {"method": f"{sampler}, suggestion {history:,} of a cell", "n": 20, **columns}


SUGGESTIONS = (
    *((sampler, n) for sampler in ("random", "tpe") for n in (100, 1_000, 10_000)),
    *((sampler, n) for sampler in ("qmc", "gp", "cmaes") for n in (100, 1_000)),
)

LARGE = (
    ("random", 10_000, 100, 512),
    ("tpe", 10_000, 100, 512),
    ("qmc", 10_000, 100, 512),
    ("gp", 1_000, 20, 512),  # 50 configs in a cell, 40 of them beyond the random start
    ("cmaes", 1_000, 100, 512),
)


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search.bench_replay", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and slots")
    parser.add_argument("--part", choices=("replay", "large", "suggesting"), help="one of three")
    arguments = parser.parse_args()
    quick, part = arguments.quick, arguments.part
    machine = environment(("optuna", "ray"))

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        write_csv(None if quick else RESULTS / f"{name}.csv", [{**row, **machine} for row in rows])

    if part in (None, "replay"):
        slots, repetitions = ((8,), 3) if quick else (SLOTS, REPETITIONS)
        write("replay", replay(read(), slots, repetitions))
    if part in (None, "large"):
        write("replay_large", [replay_large(*size) for size in (LARGE[:1] if quick else LARGE)])
    if part in (None, "suggesting"):
        sizes = SUGGESTIONS[: 1 if quick else None]
        write("suggesting", [time_suggestion(*size) for size in sizes])


if __name__ == "__main__":
    main()
