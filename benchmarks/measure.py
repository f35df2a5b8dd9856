"""Parts of every benchmark: sides measured in turn, their summary, a CSV with the machine.

On a shared machine a single time means little. Sides are therefore measured in the order A B B A,
round after round, in processes of their own. A ratio is taken within a round; the result is the
median ratio with its quartiles, beside the ratio of a side to itself.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import fmean, quantiles
from time import perf_counter, sleep
from types import TracebackType
from typing import Any

from cnncore.processors import machine_cpus

RESULTS = Path(__file__).parent / "results"
MAX_IDLE_WAIT_S = 240.0
LIBRARIES = ("torch", "torchvision", "numpy")


def environment(libraries: Iterable[str] = LIBRARIES) -> dict[str, Any]:
    """Return the columns of a row for the machine and the versions of its measurement."""
    return {
        "cpu": _cpu_model(),
        "cores": machine_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{names.get('model name', platform.processor())} (family {names.get('cpu family')})"


class Side:
    """One side of a comparison, in a process that waits while the others are measured.

    The process runs `python -m MODULE --side NAME ...`; that module calls `serve`.
    """

    def __init__(
        self, module: str, *arguments: str, threads: int, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the process with these threads and changes of the environment."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--side", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **(environ or {})},
        )

    def __call__(self) -> float:
        """Measure once and return the value."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return float(line)

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def serve(measure: Callable[[], float]) -> None:
    """Serve a `Side`: write one measurement for each line on standard input."""
    values = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of libraries must not be read as a value
    for _ in sys.stdin:
        values.write(f"{measure()}\n")
        values.flush()


def interleave(
    sides: Mapping[str, Callable[[], float]],
    rounds: int,
    warm_up: int = 1,
    limit_s: float = inf,
    *,
    idle: bool = True,
) -> dict[str, list[float]]:
    """Return a value per round and side: the mean of two, measured in the order A B C C B A.

    No further round begins after `limit_s` seconds. With `idle`, before each measurement wait until
    the machine is idle, at most `MAX_IDLE_WAIT_S` in all.
    """
    started = perf_counter()
    remaining_wait_s = MAX_IDLE_WAIT_S
    names = list(sides)
    for _ in range(warm_up):
        for name in names:
            sides[name]()
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        pairs: dict[str, list[float]] = {name: [] for name in names}
        for name in [*names, *reversed(names)]:
            if idle:
                remaining_wait_s -= wait_until_idle(remaining_wait_s)
            pairs[name].append(sides[name]())
        for name in names:
            values[name].append(fmean(pairs[name]))
        print(
            f"round {len(values[names[0]])}/{rounds}, {perf_counter() - started:.0f} s, 1-minute "
            f"load {os.getloadavg()[0]:.1f}: "
            + ", ".join(f"{name} {values[name][-1]:.4g}" for name in names),
            file=sys.stderr,
        )
        if perf_counter() - started > limit_s:
            break
    return values


def wait_until_idle(limit_s: float, step_s: float = 0.2) -> float:
    """Wait until nine tenths of the cores are idle; return the seconds waited.

    With two threads on two cores a third busy process slows a training step thirtyfold, because
    each thread waits for the other at every operation.
    """
    started = perf_counter()
    idle, total = _cpu_times()
    while perf_counter() - started < limit_s:
        sleep(step_s)
        now_idle, now_total = _cpu_times()
        if now_idle - idle >= 0.9 * (now_total - total):
            break
        idle, total = now_idle, now_total
    return perf_counter() - started


def _cpu_times() -> tuple[int, int]:
    """Return idle and total CPU time since the machine's start, in ticks; zeros if unreadable."""
    try:
        ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except OSError:
        return 0, 0
    return ticks[3] + ticks[4], sum(ticks)


def ratios(values: Mapping[str, Sequence[float]], over: str, under: str) -> list[float]:
    """Return `over` divided by `under`, round by round."""
    return [a / b for a, b in zip(values[over], values[under], strict=True)]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return `n`, `median`, `q1` and `q3` of the values."""
    if len(values) == 1:
        return {"n": 1, "median": values[0], "q1": values[0], "q3": values[0]}
    q1, median, q3 = quantiles(values, n=4, method="inclusive")
    return {"n": len(values), "median": median, "q1": q1, "q3": q3}


def write_csv(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows, floats to four digits; write them too if a path is given."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    print(text.getvalue())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue())
