"""Timing on the device, with rounds in turn; a side that fails costs no other side."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch

Row = dict[str, Any]
# Called for each round; returns images per second.
Round = Callable[[], float]


@contextlib.contextmanager
def guarded(rows: list[Row], about: Row) -> Iterator[Row]:
    """Yield a row; add it to `rows` if it was filled in, or with the error if one occurs."""
    row = dict(about)
    try:
        yield row
        if len(row) > len(about):
            rows.append(row)
            print(row, flush=True)
    except Exception as error:
        traceback.print_exc(limit=-4)
        rows.append(about | {"error": repr(error)[:300]})


def measured_in_turn(
    sides: Mapping[str, Callable[[], Round]], about: Row, seconds: float, batch_size: int
) -> list[Row]:
    """Images per second of each side: rounds in turn until the time is up, at least three."""
    rows: list[Row] = []
    ready: dict[str, Round] = {}
    values: dict[str, list[float]] = {}
    for name, make in sides.items():
        with guarded(rows, about | {"side": name, "what": "set-up"}):
            side = make()
            side()
            ready[name], values[name] = side, []
    started = time.perf_counter()
    while ready and (time.perf_counter() - started < seconds or min(map(len, values.values())) < 3):
        for name in list(ready):
            try:
                values[name].append(ready[name]())
            except Exception as error:
                rows.append(about | {"side": name, "error": repr(error)[:300]})
                del ready[name]
        if time.perf_counter() - started > 3 * seconds:
            break
    for name, rates in values.items():
        if rates:
            middle = median(rates)
            rows.append(
                about
                | {"side": name, "images_per_s": middle, "rounds": len(rates)}
                | {"least_images_per_s": min(rates), "most_images_per_s": max(rates)}
            )
            print(
                f"{about} {name:12s} {middle:12,.0f} images/s  "
                f"{batch_size / middle * 1e6:8.0f} us/step",
                flush=True,
            )
    return rows


def seconds_of(run: Callable[[], Any], runs: int = 10) -> float:
    """Seconds that one run takes on the device, by CUDA events: the median."""
    for _ in range(3):
        run()
    found_s: list[float] = []
    for _ in range(runs):
        first: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # untyped
        last: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # untyped
        first.record()
        run()
        last.record()
        last.synchronize()
        found_s.append(first.elapsed_time(last) / 1e3)
    return median(found_s)
