"""The sub-command `status`: counts of trials, trials that run now, and the time left.

It reads only the results folder, so it works on any machine that sees the folder, without Ray.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.cli.options import Results
from grid.cli.terminal import analysis_errors, print_table
from grid.screen import on_one_line, open_console, print

if TYPE_CHECKING:
    from grid.cost.forecast import CellWork
    from grid.store.folder import Store

# A trial without a heartbeat for this time no longer counts as running.
SILENT_S = 60.0
# The machine is called busy if trials wait for a processor for more than this share of the time.
BUSY = 0.15
# Trials per hour are counted over this time, or since the driver started if that is shorter.
PACE_S = 3600.0

Row = Mapping[str, Any]


def status(
    results: Results,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Count the planned, running, complete, pruned, failed, diverged and missing trials per cell.

    List the trials on each node and device, the trials per hour and the time left.
    """

    from grid.lock.hold import drivers_alive
    from grid.store.open import open_store

    store = open_store(results)
    drivers = drivers_alive(store)
    with analysis_errors():
        from analysis import make_table
        from analysis.results.database import connect, rows
        from analysis.results.sql_files import sql as query

        connection = connect(results)
        cells = rows(connection, "SELECT * EXCLUDE (position, results) FROM coverage")
        claims = rows(connection, query("questions/running"))
        work = rows(connection, query("questions/work")) if drivers else []
        coverage = make_table(connection, "coverage")
    per_hour, left_s = _trials_per_hour(work, drivers), _time_left_s(store, work)
    if as_json:
        print(_json(cells, claims, drivers, per_hour, left_s))
        return
    print_table(coverage, open_console(), "--json has all")
    for claim in claims:
        print(on_one_line(_claim_line(claim)))
    for line in _busy_machines(claims):
        print(on_one_line(line))
    if drivers:
        print(_summary(claims, per_hour, left_s))
        for driver in drivers:
            print(
                on_one_line(
                    f"running: process {driver.get('pid', '?')} on {driver.get('host', '?')}"
                )
            )
    else:
        print("no driver is running")


def _claim_line(claim: Row) -> str:
    """Return a line about a trial that runs or is silent."""
    from grid.phrases import format_s

    top1 = "" if claim["val_top1"] is None else f", val top-1 {100 * claim['val_top1']:.2f} %"
    if claim["objective"] is not None:
        top1 += f", {claim['objective_name']} {claim['objective']:.4f}"
    attempt = f", attempt {claim['attempt']}" if (claim["attempt"] or 1) > 1 else ""
    age = format_s(claim["silent_s"])
    heartbeat = f"silent for {age}" if claim["silent_s"] >= SILENT_S else f"heartbeat {age} ago"
    return (
        f"{claim['host']} {claim['device']}: {claim['trial_id']} {claim['arch']}: "
        f"epoch {claim['epoch']}/{claim['epochs']}{top1} "
        f"(process {claim['pid']}{attempt}, {heartbeat})"
    )


def _busy_machines(claims: Iterable[Row]) -> Iterator[str]:
    """Yield a line for each machine whose trials wait long for a processor."""
    from statistics import median

    waits: dict[str, list[float]] = defaultdict(list)
    for claim in claims:
        if claim["silent_s"] < SILENT_S and claim["cpu_wait"] is not None:
            waits[claim["host"]].append(claim["cpu_wait"])
    for host, shares in waits.items():
        if (share := median(shares)) > BUSY:
            yield (
                f"{host} is busy: its trials wait for a processor {100 * share:.0f} % of the time; "
                "other work runs there, so epoch times of now do not compare"
            )


def _summary(claims: Iterable[Row], per_hour: float | None, left_s: float | None) -> str:
    """Return a line with the number of running trials, the trials per hour and the time left."""
    from grid.phrases import counted, format_s

    running = sum(claim["silent_s"] < SILENT_S for claim in claims)
    parts = [f"{counted(running, 'trial')} at a time" if running else "no trial runs yet"]
    if per_hour is not None:
        parts.append(f"{per_hour:.3g} trials an hour")
    if left_s is not None:
        parts.append(f"{format_s(left_s)} left")
    return ", ".join(parts)


def _trials_per_hour(work: Iterable[Row], drivers: Sequence[Row]) -> float | None:
    """Return the number of trials that ended lately, per hour; None if there was none."""
    end_times = [row["ended_at"] for row in work if row["ended_at"]]
    if not drivers or not end_times:
        return None
    # The clocks of the machines that wrote the rows may be ahead of ours.
    now = max(datetime.now(UTC).replace(tzinfo=None), *end_times)
    first_start = min(driver.get("started_at", 0.0) for driver in drivers)
    started_at = datetime.fromtimestamp(first_start, UTC).replace(tzinfo=None)
    since = max(started_at, now - timedelta(seconds=PACE_S))
    count = sum(ended_at > since for ended_at in end_times)
    return 3600.0 * count / max((now - since).total_seconds(), 1.0) if count else None


def _time_left_s(store: Store, work: Sequence[Row]) -> float | None:
    """Return the time until the last trial ends; None if none runs or the sweep file is broken."""
    from grid.cost.forecast import time_left_s
    from grid.errors import GridError
    from grid.sweep.load import load_sweep

    cells: dict[str, list[Row]] = defaultdict(list)
    for row in work:
        cells[row["cell_id"]].append(row)
    running = sum(row["state"] == "running" for row in work)
    if not running:
        return None
    try:
        store.files.fetch(store.folder / "sweep.yaml")
        spec = load_sweep(store.folder / "sweep.yaml")
    except GridError:
        return None
    # A cell of which no config is known yet has as many epochs as the others.
    epochs = max((row["epochs"] for row in work if row["epochs"]), default=0)
    tuned = spec.tune is not None
    cell_works = [_cell_work(rows, epochs, tuned=tuned) for rows in cells.values()]
    winners = spec.tune.confirm.top if spec.tune and spec.tune.confirm else 1
    return time_left_s(cell_works, spec.stop, winners, running)


def _cell_work(rows: Sequence[Row], default_epochs: int, *, tuned: bool) -> CellWork:
    """Return the work of a cell from its planned trials, which are in the order of the plan."""
    from grid.cost.forecast import CellWork, StartedTrial

    searched = [row for row in rows if row["role"] != "confirmed"]
    configs = len({row["suggestion"] for row in searched}) if tuned else len(searched)
    cell = CellWork(
        configs=configs,
        replicates=len(searched) // max(configs, 1),
        confirmed=len(rows) - len(searched),
        epochs=max((row["epochs"] for row in rows if row["epochs"]), default=default_epochs),
    )
    earlier: set[tuple[str, int | None]] = set()
    for row in rows:
        config = (row["role"], row["suggestion"])
        if row["state"] != "planned":
            cell.started[row["trial_id"]] = StartedTrial(
                row["state"],
                row["epochs_run"],
                row["seconds"],
                confirmed=row["role"] == "confirmed",
                first=config not in earlier,
            )
        earlier.add(config)
    return cell


def _json(
    cells: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    drivers: Sequence[Row],
    per_hour: float | None,
    left_s: float | None,
) -> str:
    """Return the whole status as JSON."""
    for cell in cells:
        cell["cell"] = json.loads(cell["cell"])
    return json.dumps(
        {
            "cells": cells,
            "running": [claim for claim in claims if claim["silent_s"] < SILENT_S],
            "silent": [claim for claim in claims if claim["silent_s"] >= SILENT_S],
            "drivers": [{key: driver.get(key) for key in ("host", "pid")} for driver in drivers],
            "trials_per_hour": per_hour,
            "time_left_s": left_s,
        },
        indent=1,
    )
