"""The search and early stopping over recorded curves, with a virtual clock, against others.

Every method chooses a configuration in each of four cells. It is charged with the epochs that it
trained, and judged by the *regret*: the final validation accuracy of the configuration that the
full grid chooses minus that of its own, in percentage points. Beside it stands the same in test
accuracy, where the full grid's own choice is no more than a choice.

    python -m benchmarks replay
    python -m benchmarks.bench_replay --part replay     one of its three parts

Ray's ASHA is Ray's own code (`AsyncHyperBandScheduler`'s bracket), over all cells together as a
sweep without cells would use it. `first_epochs` and the median rule are ours: the replay is of the
rules, not of programs.
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

from benchmarks.curves import Cell, Config, Curve, Curves, NoFacts, read
from benchmarks.measure import RESULTS, environment, write_csv
from benchmarks.simulate import simulate
from grid.plan.plan import make_plan
from grid.search.study import CellStudy, Told
from grid.sweep.axes import LogUniform, Uniform
from grid.sweep.load import parse_sweep
from grid.sweep.spec import Tune

SLOTS = (1, 8, 64, 512)
REPETITIONS = 20


@dataclass
class Result:
    """One repetition of one method."""

    epochs: int
    time_s: float
    chosen: dict[Cell, Curve] = field(default_factory=dict)
    # Epochs of every config that was started.
    reached: dict[tuple[Cell, Config], int] = field(default_factory=dict)


Method = Callable[[Curves, int, int], Result]


def ours(sampler: str, stop: str = "", trials: int | None = None) -> Method:
    """A sweep of ours: its search and its early stopping, inside each cell."""

    def run(curves: Curves, slots: int, seed: int) -> Result:
        plan = curves.plan(sampler, stop, trials, seed)
        times = curves.seconds_by_arch
        done = simulate(plan, curves.value, slots, lambda trial: times[trial.config.arch])
        result = Result(done.total_epochs, done.time_s)
        for trial_id, epochs in done.epochs.items():
            config = done.trials[trial_id].config
            at = (config.lr, config.weight_decay)
            result.reached[(config.arch, config.optimizer), at] = epochs
        for cell in plan.cells:
            if (winner := done.winner(cell.cell_id)) is not None:
                name = (winner.config.arch, winner.config.optimizer)
                result.chosen[name] = curves.of(winner)
        return result

    return run


def rays_asha(curves: Curves, slots: int, seed: int) -> Result:
    """Random order, and Ray's ASHA over the trials of all cells."""
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.schedulers.async_hyperband import _Bracket

    bracket = _Bracket(min_t=1, max_t=curves.epochs + 1, reduction_factor=3, s=0)
    order = [(cell, config) for cell, own in curves.cells.items() for config in own]
    random.Random(seed).shuffle(order)
    times = curves.seconds_by_arch
    ticket, now, epochs = count(), 0.0, 0
    running: list[tuple[float, int, Any, int]] = []
    seen: dict[Cell, list[tuple[bool, float, Curve]]] = {cell: [] for cell in curves.cells}
    waiting = iter(order)
    reached: dict[tuple[Cell, Config], int] = {}

    def fill() -> None:
        while len(running) < slots and (found := next(waiting, None)) is not None:
            heapq.heappush(running, (now + times[found[0][0]], next(ticket), found, 1))

    fill()
    while running:
        now, _, (cell, config), epoch = heapq.heappop(running)
        epochs += 1
        reached[cell, config] = epoch
        curve = curves.cells[cell][config]
        lost = curve.diverged and epoch > len(curve.val_top1)
        action = TrialScheduler.STOP
        if not lost:
            trial = SimpleNamespace(trial_id=f"{cell} {config}")
            action = bracket.on_result(trial, epoch, max(curve.val_top1[:epoch]))
        if epoch == curves.epochs or (action == TrialScheduler.STOP and not lost):
            best = max(curve.val_top1[:epoch])
            seen[cell].append((epoch == curves.epochs, best, curve))
        elif not lost:
            heapq.heappush(running, (now + times[cell[0]], next(ticket), (cell, config), epoch + 1))
        fill()
    # Where none of a cell was trained to its end, the best value seen chooses.
    chosen = {cell: max(own, key=lambda found: found[:2])[2] for cell, own in seen.items() if own}
    return Result(epochs, now, chosen, reached)


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
    """Median and quartiles."""
    if len(set(values)) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, middle, q3 = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": q1, "q3": q3}


def replay(curves: Curves, slots: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """A row per method and number of slots; regrets are the worst cell's, and each cell's."""
    whole = curves.epochs * sum(len(own) for own in curves.cells.values())
    best = {cell: max(own.values(), key=lambda c: c.final) for cell, own in curves.cells.items()}
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
                cell: spread([100 * (top.final - found(r, cell).final) for r in results])
                for cell, top in best.items()
            }
            row["worst_regret"] = max(regret["median"] for regret in regrets.values())
            for cell, regret in regrets.items():
                key = "_".join(cell)
                row[f"{key}_regret"] = regret["median"]
                row[f"{key}_q1"], row[f"{key}_q3"] = regret["q1"], regret["q3"]
                row[f"{key}_test_regret"] = median(
                    100 * ((best[cell].test_top1 or 0) - (found(r, cell).test_top1 or 0))
                    for r in results
                )
            rows.append(row)
    return rows


NOTHING = Curve((), 0.0, None)


def found(result: Result, cell: Cell) -> Curve:
    """What a method chose in a cell; an empty curve where it chose nothing."""
    return result.chosen.get(cell, NOTHING)


def large(sampler: str, trials: int, cells: int, slots: int) -> dict[str, Any]:
    """A replay of many trials: real seconds in all, of a decision and of a suggestion."""
    text = (
        f"sweep: large\ncompare: {{arch: [cnn3], split_seed: {list(range(cells))}}}\n"
        "fixed: {dataset: cifar10, image_size: 32, optimizer: sgd, epochs: 27}\n"
        f"tune: {{trials: {trials // cells}, sampler: {sampler}, axes: {{"
        "lr: {log_uniform: [1e-4, 1]}, weight_decay: {log_uniform: [1e-6, 1e-2]}}}\n"
        "stop: {asha: {grace_epochs: 1, reduction: 3}}\n"
    )
    plan = make_plan(parse_sweep(text), lambda name, size: NoFacts())
    began = perf_counter()
    done = simulate(plan, lambda trial, epoch: 1 - abs(trial.config.lr - 0.03) - 0.5**epoch, slots)
    took = perf_counter() - began
    judged = sorted(done.judging_s)
    return {
        "method": f"{sampler}, {trials} trials, {cells} cells",
        "slots": slots,
        "n": len(done.trials),
        "epochs": done.total_epochs,
        "real_s": took,
        "decision_ms_median": 1000 * median(judged),
        "decision_ms_p99": 1000 * judged[int(0.99 * len(judged))],
        "ask_and_tell_ms_mean": 1000 * sum(done.asking_s) / len(done.trials),
    }


def suggesting(sampler: str, history: int) -> dict[str, Any]:
    """Real seconds of a suggestion and of what is told of it, in a cell with a history."""
    axes = {
        "lr": LogUniform(low=1e-4, high=1),
        "weight_decay": LogUniform(low=1e-6, high=1e-2),
        "momentum": Uniform(low=0.5, high=0.99),
    }
    tune = Tune.model_validate({"trials": history + 20, "sampler": sampler, "axes": axes})
    study = CellStudy(tune, axes, "cell")
    draw = random.Random(0)
    for number in range(history):
        if sampler == "cmaes":  # knows those alone that it asked for
            study.take(number, study.ask(number))
        else:
            rate, decay = 10 ** draw.uniform(-4, 0), 10 ** draw.uniform(-6, -2)
            point = {"lr": rate, "weight_decay": decay, "momentum": draw.uniform(0.5, 0.99)}
            study.take(number, point, own=False)
        study.tell(Told(number, "complete", draw.random()))
    study.leave(history)
    study.ask(history + 1)  # takes the history over
    study.leave(history + 1)
    times = []
    for n in range(history + 2, history + 22):
        began = perf_counter()
        study.take(n, study.ask(n))
        study.tell(Told(n - 2, "complete", draw.random()))
        times.append(1000 * (perf_counter() - began))
    found = {f"ask_and_tell_ms_{key}": value for key, value in spread(times).items()}
    return {"method": f"{sampler}, suggestion {history:,} of a cell", "n": 20, **found}


SUGGESTING = (
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_replay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and slots")
    parser.add_argument("--part", choices=("replay", "large", "suggesting"), help="one of three")
    arguments = parser.parse_args()
    quick, part = arguments.quick, arguments.part
    where = environment(("optuna", "ray"))

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        write_csv(None if quick else RESULTS / f"{name}.csv", [{**row, **where} for row in rows])

    if part in (None, "replay"):
        slots, repetitions = ((8,), 3) if quick else (SLOTS, REPETITIONS)
        write("replay", replay(read(), slots, repetitions))
    if part in (None, "large"):
        write("replay_large", [large(*size) for size in (LARGE[:1] if quick else LARGE)])
    if part in (None, "suggesting"):
        write("suggesting", [suggesting(*one) for one in SUGGESTING[: 1 if quick else None]])


if __name__ == "__main__":
    main()
