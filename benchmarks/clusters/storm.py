"""A sweep on a cluster whose trials' processes, nodes and driver are killed while it runs."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clusters.ray_cluster import Cluster, Node, descendants
from grid.store.folder import Store

# A step takes the same time on any machine and is counted by a byte in a file.
NETWORK = """
import os, pathlib, time
from torch import nn

STEPS = pathlib.Path(__file__).with_name("steps")

class Slow(nn.Sequential):
    def forward(self, images):
        if self.training:
            time.sleep(float(os.environ["STEP_S"]))
            with open(STEPS, "ab") as steps:
                steps.write(b".")
        return super().forward(images)

def network(classes):
    return Slow(nn.Flatten(), nn.Linear(192, classes))
"""
STEPS_PER_EPOCH = 3
# Seconds until a killed node or driver is started again.
NODE_AWAY_S = 4.0
DRIVER_AWAY_S = 1.0
# Longest time of the sweep, with all kills.
ENDS_WITHIN_S = 900.0
# A trial whose heartbeat is younger than this is running.
FRESH_S = 12.0


def write_sweep(folder: Path, rates: int, seeds: int, epochs: int) -> Path:
    """Write a sweep of `rates` x `seeds` trials of a small network whose steps sleep."""
    (folder / "slow.py").write_text(NETWORK)
    (folder / "steps").touch()
    path = folder / "storm.json"
    path.write_text(
        json.dumps(
            {
                "sweep": "storm",
                "compare": {"lr": [round(0.01 * (n + 1), 2) for n in range(rates)]},
                "fixed": {
                    "arch": "slow:network",
                    "dataset": "digits",
                    "image_size": 8,
                    "optimizer": "sgd",
                    "epochs": epochs,
                    "limit_train": 96,
                    "limit_test": 40,
                    "batch_size": 32,
                    "augment": ["crop"],
                },
                "seeds": list(range(seeds)),
                "checkpoint_s": 1.0,
            }
        )
    )
    return path


@dataclass(frozen=True)
class Kill:
    """One kill: seconds after the sweep's start, the kind, and a description."""

    at_s: float
    kind: str
    what: str


@dataclass
class Storm:
    """One run of the sweep from an empty folder to its end, with its kills and losses."""

    cluster: Cluster
    sweep: Path
    results: Path
    # Next kills: seconds to wait, and `trial`, `node`, `driver` or `head`.
    plan: Iterator[tuple[float, str]]
    rng: random.Random
    kills: list[Kill] = field(default_factory=list)
    wall_time_s: float = 0.0
    steps: int = 0
    # Trials whose row was written more than once.
    ended_again: set[str] = field(default_factory=set)
    # Seconds that drivers ran after the head of the cluster was killed.
    headless_s: list[float] = field(default_factory=list)
    # Times of the head's kill and of the restarts of killed nodes.
    _head_killed_at: float | None = None
    _node_restarts: list[float] = field(default_factory=list)
    _driver: subprocess.Popen[bytes] | None = None
    # Inode and modification time of each trial's row.
    _ended: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """Store of the results folder."""
        return Store(self.results / "storm")

    def run(self) -> None:
        """Run the sweep to its end.

        Raises `RuntimeError` if the driver ends by itself with another code than 0, a node does
        not start again, or the sweep does not end.
        """
        counter = self.sweep.with_name("steps")
        before, started = counter.stat().st_size, time.monotonic()
        try:
            self._until_done(started)
        finally:
            if self._driver:
                self._driver.kill()
                self._driver.wait()
        self.steps = counter.stat().st_size - before

    def _until_done(self, started: float) -> None:
        driver, due = self._start_driver(), self._next()
        joining: Node | None = None
        while (code := driver.poll()) != 0:
            if code == -signal.SIGKILL:
                time.sleep(DRIVER_AWAY_S)
                driver = self._start_driver()
            elif code == 1 and self._head_killed_at is not None:
                self.headless_s.append(time.monotonic() - self._head_killed_at)
                self._head_killed_at = None
                self.cluster.start()
                self._node_restarts, joining = [], None
                driver = self._start_driver()
            elif code is not None:
                raise RuntimeError(f"the driver ended with {code}:\n{self.log[-3000:]}")
            self._note_rewritten_rows()
            restart_at = self._node_restarts[0] if self._node_restarts else math.inf
            if joining is None and time.monotonic() > restart_at:
                self._node_restarts.pop(0)
                joining = self.cluster.start_worker()
            if joining and b"Ray runtime started" in joining.log.read_bytes():
                joining = None
            if joining and joining.process.poll() is not None:
                raise RuntimeError(f"a node did not start again:\n{joining.log.read_text()}")
            if time.monotonic() > started + ENDS_WITHIN_S:
                raise RuntimeError(f"no end within {ENDS_WITHIN_S:.0f} s:\n{self.log[-3000:]}")
            if due and time.monotonic() > due[0]:
                killed = self._kill(due[1], driver, joining)
                if killed:
                    now_s = time.monotonic() - started
                    self.kills.append(Kill(now_s, due[1], killed))
                    print(f"{now_s:6.1f} s  {due[1]:6}  {killed}", flush=True)
                    due = self._next()
            time.sleep(0.1)
        self._note_rewritten_rows()
        self.wall_time_s = time.monotonic() - started
        while self._node_restarts or joining:  # restart what is still missing
            joining = joining or self.cluster.start_worker()
            joining.wait_until_up()
            self._node_restarts, joining = self._node_restarts[1:], None

    @property
    def log(self) -> str:
        """Output of all drivers."""
        return self.results.with_suffix(".log").read_text()

    @property
    def leftovers(self) -> list[str]:
        """Claims that still exist, and temporary files that the store does not remove."""
        self.store.remove_temporary(0.0)
        folder = self.store.folder
        claims = (folder / "run" / "trials").glob("*.json")
        return sorted(str(p.relative_to(folder)) for p in (*folder.rglob("*.tmp"), *claims))

    def _next(self) -> tuple[float, str] | None:
        wait_s, kind = next(self.plan, (0.0, ""))
        return (time.monotonic() + wait_s, kind) if kind else None

    def _start_driver(self) -> subprocess.Popen[bytes]:
        with open(self.results.with_suffix(".log"), "ab") as output:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "grid.cli", "run", self.sweep, "--results", self.results,
                 "--address", self.cluster.address],
                cwd=self.sweep.parent,
                env={**os.environ, **self.cluster.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return self._driver

    def _note_rewritten_rows(self) -> None:
        for path in (self.store.folder / "trials").glob("*.parquet"):
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            if self._ended.setdefault(path.stem, version) != version:
                self.ended_again.add(path.stem)

    def _running(self) -> dict[str, int]:
        """Return the running trials and the ids of their processes."""
        pids = {}
        for path in (self.store.run / "trials").glob("*.json"):
            claim = self.store.claims.read(path.stem)
            fresh = claim.get("heartbeat", 0) > time.time() - FRESH_S
            if fresh and Path(f"/proc/{claim['pid']}").exists():
                pids[path.stem] = int(claim["pid"])
        return pids

    def _kill(self, kind: str, driver: subprocess.Popen[bytes], joining: Node | None) -> str | None:
        """Kill something of a kind and describe it; return None if there is nothing to kill now."""
        running = self._running()
        if not running:
            return None
        if kind == "trial":
            # Only trials that saved progress since their start: one killed at every start fails.
            saved = [one for one in sorted(running) if self.store.claims.read(one).get("further")]
            if not saved:
                return None
            trial = self.rng.choice(saved)
            pid = running[trial]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return f"{trial} after epoch {self.store.claims.read(trial).get('epoch')}"
        if kind == "driver":
            driver.kill()
            driver.wait()
            return f"with {len(running)} trials running"
        if kind == "head":
            self.cluster.stop()
            self._head_killed_at = time.monotonic()
            return f"with {len(running)} trials running"
        busy = [
            (node, lost)
            for node in self.cluster.workers
            if node is not joining
            and (lost := set(running.values()) & set(descendants(node.process.pid)))
        ]
        if not busy:
            return None
        node, lost = self.rng.choice(busy)
        node.kill_raylet()
        self.cluster.workers.remove(node)
        node.process.wait()
        self._node_restarts.append(time.monotonic() + NODE_AWAY_S)
        return f"with {len(lost)} trials running"


def random_kills(rng: random.Random, kills: int) -> Iterator[tuple[float, str]]:
    """Yield a kill every 10 to 20 seconds; at most one in five kills the driver."""
    drivers = 0
    for number in range(1, kills + 1):
        kinds = ["trial"] * 5 + ["node"] * 3 + ["driver"] * (2 if drivers + 1 <= number / 5 else 0)
        kind = rng.choice(kinds)
        drivers += kind == "driver"
        yield rng.uniform(10.0, 20.0), kind
