"""The sub-command `status`: what is done, what runs on which node, and how long the rest takes.

It reads the results folder alone, so it answers on any machine that sees it, without Ray.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.cli.options import Results
from grid.cli.terminal import answering, print_table

if TYPE_CHECKING:
    from grid.cost.forecast import CellWork
    from grid.store.folder import Store

# A trial that said nothing for so long no longer counts as running.
SILENT_S = 60.0
# Trials per hour are those of this long, or of the driver's time where that is shorter.
PACE_S = 3600.0

Row = Mapping[str, Any]


def status(
    results: Results,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what is planned, running, complete, pruned, failed, diverged or missing, per cell; what
    runs on each node and device; how many trials an hour; and how long the rest takes.
    """
    from rich.console import Console

    from grid.lock.hold import drivers_alive
    from grid.store.open import open_store

    store = open_store(results)
    drivers = drivers_alive(store)
    with answering():
        from analysis import make_table
        from analysis.results.database import connect, rows
        from analysis.results.database import sql as query

        connection = connect(results)
        cells = rows(connection, "SELECT * EXCLUDE (position, results) FROM coverage")
        claims = rows(connection, query("questions/running"))
        work = rows(connection, query("questions/work")) if drivers else []
        coverage = make_table(connection, "coverage")
    pace, left_s = _pace(work, drivers), _time_left_s(store, work)
    if as_json:
        print(_json(cells, claims, drivers, pace, left_s))
        return
    print_table(coverage, Console())
    for claim in claims:
        print(_line(claim))
    if drivers:
        print(_summary(claims, pace, left_s))
        for driver in drivers:
            print(f"running: process {driver['pid']} on {driver['host']}")
    else:
        print("no driver is running")


def _line(claim: Row) -> str:
    from grid.phrases import format_s

    top1 = "" if claim["val_top1"] is None else f", val top-1 {100 * claim['val_top1']:.2f} %"
    again = f", attempt {claim['attempt']}" if (claim["attempt"] or 1) > 1 else ""
    ago = format_s(claim["silent_s"])
    heard = f"silent for {ago}" if claim["silent_s"] >= SILENT_S else f"heard of {ago} ago"
    return (
        f"{claim['host']} {claim['device']}: {claim['trial_id']} {claim['arch']}: "
        f"epoch {claim['epoch']}/{claim['epochs']}{top1} (process {claim['pid']}{again}, {heard})"
    )


def _summary(claims: Iterable[Row], pace: float | None, left_s: float | None) -> str:
    from grid.phrases import counted, format_s

    running = sum(claim["silent_s"] < SILENT_S for claim in claims)
    parts = [f"{counted(running, 'trial')} at a time" if running else "no trial runs yet"]
    if pace is not None:
        parts.append(f"{pace:.3g} trials an hour")
    if left_s is not None:
        parts.append(f"{format_s(left_s)} left")
    return ", ".join(parts)


def _pace(work: Iterable[Row], drivers: Sequence[Row]) -> float | None:
    """Trials an hour that ended lately; None before one has."""
    ended = [row["ended_at"] for row in work if row["ended_at"]]
    if not drivers or not ended:
        return None
    # The clock of those who wrote the rows may be ahead of ours.
    now = max(datetime.now(UTC).replace(tzinfo=None), *ended)
    first = min(driver["started_at"] for driver in drivers)
    started = datetime.fromtimestamp(first, UTC).replace(tzinfo=None)
    since = max(started, now - timedelta(seconds=PACE_S))
    lately = sum(at > since for at in ended)
    return 3600.0 * lately / max((now - since).total_seconds(), 1.0) if lately else None


def _time_left_s(store: Store, work: Sequence[Row]) -> float | None:
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
        store.fetch(store.folder / "sweep.yaml")
        spec = load_sweep(store.folder / "sweep.yaml")
    except GridError:
        return None
    # A cell none of whose configs was asked yet is like the others.
    usual = max((row["epochs"] for row in work if row["epochs"]), default=0)
    found = [_cell_work(rows, usual, tuned=spec.tune is not None) for rows in cells.values()]
    wanted = spec.tune.confirm.top if spec.tune and spec.tune.confirm else 1
    return time_left_s(found, spec.stop, wanted, running)


def _cell_work(rows: Sequence[Row], usual: int, *, tuned: bool) -> CellWork:
    """A cell's planned trials, in the order of the plan."""
    from grid.cost.forecast import CellWork, Seen

    searched = [row for row in rows if row["role"] != "confirmed"]
    configs = len({row["suggestion"] for row in searched}) if tuned else len(searched)
    cell = CellWork(
        configs=configs,
        replicates=len(searched) // max(configs, 1),
        confirmed=len(rows) - len(searched),
        epochs=max((row["epochs"] for row in rows if row["epochs"]), default=usual),
    )
    before: set[tuple[str, int | None]] = set()
    for row in rows:
        config = (row["role"], row["suggestion"])
        if row["state"] != "planned":
            cell.seen[row["trial_id"]] = Seen(
                row["state"],
                row["epochs_run"],
                row["seconds"],
                confirmed=row["role"] == "confirmed",
                first=config not in before,
            )
        before.add(config)
    return cell


def _json(
    cells: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    drivers: Sequence[Row],
    pace: float | None,
    left_s: float | None,
) -> str:
    for cell in cells:
        cell["cell"] = json.loads(cell["cell"])
    return json.dumps(
        {
            "cells": cells,
            "running": [claim for claim in claims if claim["silent_s"] < SILENT_S],
            "silent": [claim for claim in claims if claim["silent_s"] >= SILENT_S],
            "drivers": [{key: driver.get(key) for key in ("host", "pid")} for driver in drivers],
            "trials_per_hour": pace,
            "time_left_s": left_s,
        },
        indent=1,
    )
