"""A sweep on a cluster whose trials' processes, nodes and driver are killed while it runs."""

from __future__ import annotations

import json
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

from benchmarks.cluster import Cluster, Node, children
from grid.store.folder import Store

# Steps take a fixed time on any machine and are counted: a byte each.
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
# How long a node stays away, and how soon the driver is started again.
NODE_AWAY_S = 4.0
DRIVER_AWAY_S = 1.0
# Whatever is killed, the sweep ends within this.
ENDS_WITHIN_S = 900.0
# A trial that said something this recently runs.
FRESH_S = 12.0


def write_sweep(folder: Path, rates: int, seeds: int, epochs: int) -> Path:
    """A sweep of `rates` x `seeds` trials of a small network that takes its time."""
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
    """Something that was killed, seconds after the sweep's start."""

    at_s: float
    kind: str
    what: str


@dataclass
class Storm:
    """One run of the sweep from nothing to its end, and what happened meanwhile."""

    cluster: Cluster
    sweep: Path
    results: Path
    # (seconds to wait, `trial`, `node`, `driver` or `head`), until they end or the sweep does.
    plan: Iterator[tuple[float, str]]
    chance: random.Random
    kills: list[Kill] = field(default_factory=list)
    wall_time_s: float = 0.0
    steps: int = 0
    # Trials whose row was written again after it was there.
    ended_again: set[str] = field(default_factory=set)
    # How long drivers went on after the head of the cluster was gone.
    headless_s: list[float] = field(default_factory=list)
    _headless: float | None = None
    _driver: subprocess.Popen[bytes] | None = None
    _ended: dict[str, tuple[int, int]] = field(default_factory=dict)
    _away: list[float] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The results folder."""
        return Store(self.results / "storm")

    def run(self) -> None:
        """Run the sweep to its end. Raises `RuntimeError` where the driver ends with anything
        but 0 of its own accord, a node does not come back or the sweep does not end.
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
            elif code == 1 and self._headless is not None:
                self.headless_s.append(time.monotonic() - self._headless)
                self._headless = None
                self.cluster.start()
                self._away, joining = [], None
                driver = self._start_driver()
            elif code is not None:
                raise RuntimeError(f"the driver ended with {code}:\n{self.log[-3000:]}")
            self._watch()
            if joining is None and self._away and time.monotonic() > self._away[0]:
                self._away.pop(0)
                joining = self.cluster.start_worker()
            if joining and b"Ray runtime started" in joining.log.read_bytes():
                joining = None
            if joining and joining.process.poll() is not None:
                raise RuntimeError(f"a node did not come back:\n{joining.log.read_text()}")
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
        self._watch()
        self.wall_time_s = time.monotonic() - started
        while self._away or joining:  # leave the cluster as it was
            joining = joining or self.cluster.start_worker()
            joining.wait_until_up()
            self._away, joining = self._away[1:], None

    @property
    def log(self) -> str:
        """What the drivers said."""
        return self.results.with_suffix(".log").read_text()

    @property
    def leftovers(self) -> list[str]:
        """Claims that are still there, and files of killed processes once those were removed."""
        self.store.remove_temporary(0.0)
        folder = self.store.folder
        claims = (folder / "run" / "trials").glob("*.json")
        return sorted(str(p.relative_to(folder)) for p in (*folder.rglob("*.tmp"), *claims))

    def _next(self) -> tuple[float, str] | None:
        wait_s, kind = next(self.plan, (0.0, ""))
        return (time.monotonic() + wait_s, kind) if kind else None

    def _start_driver(self) -> subprocess.Popen[bytes]:
        with open(self.results.with_suffix(".log"), "ab") as said:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "grid.cli.app", "run", self.sweep, "--results", self.results,
                 "--address", self.cluster.address],
                cwd=self.sweep.parent,
                env={**os.environ, **self.cluster.environment},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return self._driver

    def _watch(self) -> None:
        for path in (self.store.folder / "trials").glob("*.parquet"):
            found = path.stat()
            written = (found.st_ino, found.st_mtime_ns)
            if self._ended.setdefault(path.stem, written) != written:
                self.ended_again.add(path.stem)

    def _running(self) -> dict[str, int]:
        """Trials that run, and their processes."""
        found = {}
        for path in (self.store.run / "trials").glob("*.json"):
            claim = self.store.read_claim(path.stem)
            fresh = claim.get("heartbeat", 0) > time.time() - FRESH_S
            if fresh and Path(f"/proc/{claim['pid']}").exists():
                found[path.stem] = int(claim["pid"])
        return found

    def _kill(self, kind: str, driver: subprocess.Popen[bytes], joining: Node | None) -> str | None:
        """What was killed; None where there is nothing of the kind now."""
        running = self._running()
        if not running:
            return None
        if kind == "trial":
            # A trial that is killed whenever it starts would rightly be given up.
            saved = [one for one in sorted(running) if self.store.read_claim(one).get("further")]
            if not saved:
                return None
            trial = self.chance.choice(saved)
            pid = running[trial]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return f"{trial} after epoch {self.store.read_claim(trial).get('epoch')}"
        if kind == "driver":
            driver.kill()
            driver.wait()
            return f"with {len(running)} trials running"
        if kind == "head":
            self.cluster.stop()
            self._headless = time.monotonic()
            return f"with {len(running)} trials running"
        busy = [
            (node, lost)
            for node in self.cluster.workers
            if node is not joining
            and (lost := set(running.values()) & set(children(node.process.pid)))
        ]
        if not busy:
            return None
        node, lost = self.chance.choice(busy)
        node.kill_raylet()
        self.cluster.workers.remove(node)
        node.process.wait()
        self._away.append(time.monotonic() + NODE_AWAY_S)
        return f"with {len(lost)} trials running"


def random_kills(chance: random.Random, kills: int) -> Iterator[tuple[float, str]]:
    """A kill every 10 to 20 seconds, at most one in five the driver."""
    drivers = 0
    for number in range(1, kills + 1):
        may_be = ["trial"] * 5 + ["node"] * 3 + ["driver"] * (2 if drivers + 1 <= number / 5 else 0)
        kind = chance.choice(may_be)
        drivers += kind == "driver"
        yield chance.uniform(10.0, 20.0), kind
