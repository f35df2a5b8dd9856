"""Training images per second on a machine with other work, by how OpenMP's threads wait.

`cnn3` on CIFAR-10 at 32x32, batch 128, one and two threads; beside it nothing, one or two processes
that compute without end.

- `spin`: OpenMP's own setting, nothing watched.
- `passive`: `OMP_WAIT_POLICY=passive`, threads sleep at once.
- `watch`: `BusyWatch`, as in every trial.

A measurement lasts some seconds, because the watch needs half a second to see what runs beside.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter, sleep
from typing import Any

import torch

from benchmarks.measure import (
    RESULTS,
    Side,
    environment,
    interleave,
    ratios,
    serve,
    summary,
    write_csv,
)
from benchmarks.training.bench_training import BATCH_SIZE, ours
from cnncore.training.busy_machine import BusyWatch
from cnncore.training.glibc_allocator import keep_freed_memory

SIDES: dict[str, dict[str, str]] = {
    "spin": {},
    "spin_again": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "watch": {},
}
# One thread never spins: only the watch's own cost is of interest.
SIDES_BY_THREADS = {2: tuple(SIDES), 1: ("spin", "watch")}
BESIDE = (0, 1, 2)
STEPS = 10
MEASURE_S = 3.0
ROUNDS = 3


def timed(side: str, threads: int, seconds: float) -> Callable[[], float]:
    """Return a measurement of images per second over `seconds`."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    epoch = ours("cnn3", "fp32", STEPS)
    if side == "watch":
        BusyWatch(threads).start()

    def measure() -> float:
        spent, images = 0.0, 0
        started = perf_counter()
        while perf_counter() - started < seconds:
            spent += STEPS * BATCH_SIZE / epoch()
            images += STEPS * BATCH_SIZE
        return images / spent

    return measure


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes computing while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        sleep(1)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(threads: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure all sides; return a row per value and per ratio to `spin`."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(
                Side(
                    "benchmarks.training.bench_busy",
                    name,
                    str(threads),
                    str(seconds),
                    threads=threads,
                    environ=environ,
                )
            )
            for name, environ in SIDES.items()
            if name in SIDES_BY_THREADS[threads]
        }
        for beside in BESIDE:
            with busy_processes(beside):
                values = interleave(sides, rounds, idle=not beside)
            about: dict[str, Any] = {"arch": "cnn3", "threads": threads, "beside": beside}
            for name in sides:
                rows.append(
                    about
                    | {"what": name, "against": "", "unit": "images_per_s"}
                    | summary(values[name])
                )
            for name in list(sides)[1:]:
                rows.append(
                    about
                    | {"what": name, "against": "spin", "unit": "ratio"}
                    | summary(ratios(values, name, "spin"))
                )
    return rows


def main() -> None:
    """Run the benchmark, or serve as one of its sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--side", nargs=3, metavar=("NAME", "THREADS", "SECONDS"))
    arguments = parser.parse_args()
    if arguments.side:
        name, threads, seconds = arguments.side
        torch.manual_seed(0)
        serve(timed(name, int(threads), float(seconds)))
        return
    rows = []
    for threads in SIDES_BY_THREADS:
        rows += run(threads, *((1, 1.0) if arguments.quick else (ROUNDS, MEASURE_S)))
    path = None if arguments.quick else RESULTS / "busy.csv"
    write_csv(path, [row | environment() for row in rows])


if __name__ == "__main__":
    main()
