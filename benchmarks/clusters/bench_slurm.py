"""The sweep of `benchmarks/inputs/digits.yaml` on a real Slurm of two nodes, in three ways.

Its 24 trials run as one job of two nodes, as an array of two jobs, and as a job that reaches its
time limit, requeues itself, is cancelled and launched again. Nodes are namespaces of this machine
with names, addresses and processes of their own; without namespaces, hosts cannot be told apart.
Metrics must equal those of `cnngrid run --local` bit for bit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from analysis import open_results
from analysis.results.database import rows
from benchmarks.measure import RESULTS, environment, write_csv
from grid.store.folder import Store
from tests.slurm.testbed import Slurm, two_nodes
from tests.small_sweeps import metrics

SWEEP = "digits"
FILE = str(Path(__file__).parents[1] / "inputs" / "digits.yaml")
# One trial at a time on each node; a node has one job.
ONE_EACH = ("--cpus-per-node", "1", "--extra", "--exclusive")
ENDS_WITHIN_S = 900


@dataclass
class Way:
    """One way to launch the sweep, with a results folder of its own."""

    slurm: Slurm
    name: str
    first_epoch_s: float | None = None

    @property
    def folder(self) -> Path:
        """Results folder of the sweep."""
        return self.slurm.folder / self.name / SWEEP

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return len(Store(self.folder).finished())

    def launch(self, *words: str) -> str:
        """Launch the sweep, wait for the first stored epoch and return the job's id."""
        started = time.monotonic()
        job = self.slurm.launch(FILE, "--results", self.name, *words)
        if self.first_epoch_s is None:
            self.wait("the first epoch", lambda: any(self.folder.glob("epochs/*.parquet")))
            self.first_epoch_s = time.monotonic() - started
        return job

    def wait(self, event: str, condition: Callable[[], Any]) -> None:
        """Wait until a condition is true, at most `ENDS_WITHIN_S`."""
        self.slurm.wait(f"{self.name}: {event}", condition, ENDS_WITHIN_S)

    def logged(self, job: str, line_start: str) -> bool:
        """Return whether a line of the job's log begins with `line_start`."""
        return f"\n{line_start}" in self.slurm.log(self.folder, job)


def two_node_job(way: Way) -> None:
    """Run one job of two nodes."""
    job = way.launch("--nodes", "2", "--time", "30:00", *ONE_EACH)
    way.wait("the end of the job", partial(way.slurm.completed, job))


def array(way: Way) -> None:
    """Run two jobs of one node that share the sweep."""
    job = way.launch("--array", "2", "--time", "30:00", *ONE_EACH)
    for index in (1, 2):
        way.wait(f"the end of job {index}", partial(way.slurm.completed, f"{job}_{index}"))


def interrupted(way: Way) -> None:
    """Run a job that reaches its limit and requeues itself, cancel it, and launch again."""
    job = way.launch("--time", "1", "--stop-before", "15", *ONE_EACH)
    way.wait("the requeueing", lambda: way.logged(job, "cnngrid: requeued: "))
    way.wait("the end of the first run", lambda: way.slurm.state(job) == "PENDING")
    first = way.ended
    print(f"{way.name}: requeued after {first} trials", flush=True)
    # By default Slurm waits two minutes before it starts a requeued job.
    way.slurm.call("scontrol", "update", f"jobid={job}", "StartTime=now+5", "TimeLimit=30")
    way.wait("two more trials", lambda: way.ended > first + 1)
    way.slurm.call("scancel", job)
    way.wait("the end of the second run", lambda: way.slurm.state(job) == "CANCELLED")
    print(f"{way.name}: cancelled after {way.ended} trials", flush=True)
    job = way.launch("--time", "30:00", *ONE_EACH)
    way.wait("the end of the job", partial(way.slurm.completed, job))


WAYS = {"two nodes": two_node_job, "array": array, "cut": interrupted}


def measure(slurm: Slurm, name: str, run: Callable[[Way], None]) -> dict[str, Any]:
    """Run the sweep in one way; return the row that docs/benchmarks.md quotes."""
    way = Way(slurm, name.replace(" ", "-"))
    started = time.monotonic()
    run(way)
    wall_time_s = time.monotonic() - started
    trials = rows(open_results(way.folder), "SELECT host, state FROM trials")
    attempts = Counter(row["attempt"] for row in Store(way.folder).epochs())
    row = {
        "way": name,
        "trials": len(trials),
        "complete": sum(trial["state"] == "complete" for trial in trials),
        "hosts": " ".join(
            f"{k}:{n}" for k, n in sorted(Counter(t["host"] for t in trials).items())
        ),
        "launches": len(list((way.folder / "run" / "slurm").iterdir())),
        "epochs": sum(attempts.values()),
        "epochs_after_a_stop": sum(n for attempt, n in attempts.items() if attempt > 1),
        "equal_to_local": metrics(way.folder) == metrics(slurm.folder / "local" / SWEEP),
        "first_epoch_s": way.first_epoch_s,
        "wall_time_s": wall_time_s,
        "slurm": slurm.call("sinfo", "--version").split()[-1],
        **environment(("ray", "torch")),
    }
    print(row, flush=True)
    return row


def main() -> int:
    """Run all ways and write the CSV; return 1 if one differs from `--local`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the job of two nodes alone")
    arguments = parser.parse_args()
    ways = dict(list(WAYS.items())[:1]) if arguments.quick else WAYS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with two_nodes(root, root / "data") as slurm:
            started = time.monotonic()
            slurm.call("cnngrid", "run", FILE, "--local", "--results", "local")
            print(f"local: {time.monotonic() - started:.1f} s", flush=True)
            results = [measure(slurm, name, run) for name, run in ways.items()]
    equal = all(row["equal_to_local"] and row["complete"] == row["trials"] for row in results)
    write_csv(RESULTS / "slurm.csv" if equal and not arguments.quick else None, results)
    print("every metric equals that of --local" if equal else "results differ from --local")
    return int(not equal)


if __name__ == "__main__":
    raise SystemExit(main())
