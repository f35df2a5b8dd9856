"""Losses of a sweep whose processes are killed, compared with the undisturbed sweep.

60 trials run on a Ray cluster of a head and three worker nodes with a slot each, all on this
machine. Every 10 to 20 seconds, at most 28 times, SIGKILL ends a trial's process, a node's raylet,
which is started again a few seconds later, or the driver, which is started again with the same
command. Then the sweep runs to its end. Steps sleep, so the machine's time goes into starting
processes, not into training.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.clusters.ray_cluster import Cluster, cluster
from benchmarks.clusters.storm import STEPS_PER_EPOCH, Storm, random_kills, write_sweep
from benchmarks.measure import RESULTS, environment, write_csv
from tests.small_sweeps import metrics

NODES, CPUS = 3, 1
STEP_S = 0.2
RATES, SEEDS, EPOCHS = 20, 3, 20
# The sweep may end before the last kill.
KILLS, LEAST_KILLS = 28, 25


def measure(running: Cluster, folder: Path, seed: int, rates: int) -> tuple[Storm, Storm]:
    """Run the sweep undisturbed and in the storm, on one cluster."""
    sweep = write_sweep(folder, rates, SEEDS, EPOCHS)
    rng = random.Random(seed)
    no_kills: Iterator[tuple[float, str]] = iter(())
    calm = Storm(running, sweep, folder / "calm", no_kills, rng)
    calm.run()
    print(f"undisturbed: {calm.wall_time_s:.1f} s, {calm.steps} steps", flush=True)
    storm = Storm(running, sweep, folder / "storm", random_kills(rng, KILLS), rng)
    storm.run()
    print(f"in the storm: {storm.wall_time_s:.1f} s, {storm.steps} steps", flush=True)
    return calm, storm


def check(calm: Storm, storm: Storm, trials: int) -> list[str]:
    """Return the conditions that the storm's results violate."""
    states = Counter(row.state for row in storm.store.finished().values())
    conditions = {
        f"states {dict(states)}": states == {"complete": trials},
        f"ended twice: {sorted(storm.ended_again)}": not storm.ended_again,
        "metrics differ": metrics(storm.store.folder) == metrics(calm.store.folder),
        f"damaged: {storm.store.set_damaged_aside()}": not storm.store.set_damaged_aside(),
        f"left behind: {storm.leftovers}": not storm.leftovers,
        "a traceback": "Traceback" not in storm.log,
    }
    return [problem for problem, holds in conditions.items() if not holds]


def summary(calm: Storm, storm: Storm, seed: int) -> list[dict[str, Any]]:
    """Return one row with the numbers that docs/benchmarks.md quotes."""
    kinds = Counter(kill.kind for kill in storm.kills)
    lost = (storm.steps - calm.steps) / STEPS_PER_EPOCH
    epochs = calm.steps / STEPS_PER_EPOCH
    attempts = Counter(row["attempt"] for row in storm.store.epochs())
    return [
        {
            "seed": seed,
            "trials": len(storm.store.finished()),
            "kills": len(storm.kills),
            **{f"{kind}_kills": kinds[kind] for kind in ("trial", "node", "driver")},
            "epochs": int(epochs),
            "epochs_trained_again": lost,
            "epochs_after_a_loss": sum(n for attempt, n in attempts.items() if attempt > 1),
            "most_attempts": max(attempts),
            "calm_s": calm.wall_time_s,
            "storm_s": storm.wall_time_s,
            "extra_s": storm.wall_time_s - calm.wall_time_s,
            "s_per_kill": (storm.wall_time_s - calm.wall_time_s) / max(len(storm.kills), 1),
            **environment(("ray", "torch")),
        }
    ]


def main() -> int:
    """Measure, check and write the CSV; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the trials, printed only")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    arguments = parser.parse_args()
    os.environ["STEP_S"] = str(STEP_S)
    print(f"seed {arguments.seed}", flush=True)
    rates = RATES // 5 if arguments.quick else RATES
    with tempfile.TemporaryDirectory() as folder, cluster(NODES, CPUS) as running:
        os.environ["CNNGRID_DATA"] = f"{folder}/data"
        calm, storm = measure(running, Path(folder), arguments.seed, rates)
        problems = check(calm, storm, rates * SEEDS)
        if not arguments.quick and len(storm.kills) < LEAST_KILLS:
            problems.append(f"only {len(storm.kills)} kills")
        rows = summary(calm, storm, arguments.seed)
        print(storm.log if problems else "", end="")
    keep = not arguments.quick and not problems
    write_csv(RESULTS / "storm.csv" if keep else None, rows)
    kills = [asdict(kill) for kill in storm.kills]
    write_csv(RESULTS / "storm_kills.csv" if keep else None, kills)
    print("\n".join(problems) or "nothing lost, nothing run twice, no file damaged, metrics equal")
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
