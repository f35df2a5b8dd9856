"""Idle time of slots that wait for a suggestion: real searches, trials that sleep, a real clock.

Four slots run trials of three seconds; a free slot asks for the next trial. With `ahead` the next
suggestion is computed in a thread while trials run, as the driver does it. The result is the time
that slots are idle during a suggestion, as a share of all slots' time.

    python -m benchmarks ahead
"""

from __future__ import annotations

import argparse
import heapq
from itertools import count
from time import monotonic, sleep
from typing import Any

from benchmarks.measure import RESULTS, environment, write_csv
from benchmarks.search.curves import fake_dataset
from grid.plan.ids import Trial
from grid.plan.plan import expand_sweep
from grid.search.outcomes import Outcome
from grid.search.sweep_search import Search
from grid.sweep.load import parse_sweep

SLOTS, TRIAL_S, TRIALS = 4, 3.0, 60


def idle_share(sampler: str, *, ahead: bool, trials: int) -> float:
    """Run a search and return its idle slot time divided by all slot time."""
    text = (
        "sweep: ahead\ncompare: {arch: [cnn3]}\n"
        "fixed: {dataset: cifar10, image_size: 32, optimizer: sgd, epochs: 1}\n"
        f"tune: {{trials: {trials}, sampler: {sampler}, axes: {{"
        "lr: {log_uniform: [1e-4, 1]}, weight_decay: {log_uniform: [1e-6, 1e-2]}, "
        "momentum: {uniform: [0.5, 0.99]}}}\n"
    )
    search = Search(expand_sweep(parse_sweep(text), fake_dataset), None, {})
    running: list[tuple[float, int, Trial]] = []
    tie_breaker, idle, began = count(), 0.0, monotonic()
    while True:
        while len(running) < SLOTS and (trial := search.next()) is not None:
            heapq.heappush(running, (monotonic() + TRIAL_S, next(tie_breaker), trial))
            if ahead:
                search.prepare()
        if not running:
            return idle / (SLOTS * (monotonic() - began))
        ends, _, trial = heapq.heappop(running)
        sleep(max(0.0, ends - monotonic()))
        value = 1 - abs(trial.config.lr - 0.03)
        search.tell(trial, Outcome("complete", value, 1))
        free = monotonic()
        if (following := search.next()) is not None:
            # This slot was idle, and so were those whose trials ended during the suggestion.
            duration = monotonic() - free
            idle += duration + sum(max(0.0, free + duration - end) for end, _, _ in running)
            heapq.heappush(running, (monotonic() + TRIAL_S, next(tie_breaker), following))
            if ahead:
                search.prepare()


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ahead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    quick = parser.parse_args().quick
    rows: list[dict[str, Any]] = []
    for sampler in ("gp",) if quick else ("gp", "tpe"):
        for ahead in (False, True):
            share = idle_share(sampler, ahead=ahead, trials=20 if quick else TRIALS)
            rows.append(
                {
                    "sampler": sampler,
                    "ahead": ahead,
                    "slots": SLOTS,
                    "trial_s": TRIAL_S,
                    "n": TRIALS,
                    "idle_share": share,
                    **environment(("optuna",)),
                }
            )
    write_csv(None if quick else RESULTS / "ahead.csv", rows)


if __name__ == "__main__":
    main()
