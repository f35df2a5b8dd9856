"""The sub-commands `stop` and `logs`: a word to a running sweep, and what a trial said."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from grid.cli.options import Results
from grid.cli.terminal import answering, fail

# A driver looks for the word about once a second, and on a shared disk sees it late.
HEARD_WITHIN_S = 30.0

TRIAL = """
SELECT trial_id, cell, seed, state, reason FROM coverage_trials WHERE starts_with(trial_id, $start)
UNION
SELECT trial_id, cell, seed, state, reason FROM trials WHERE starts_with(trial_id, $start)
"""
EPOCHS = "SELECT * FROM epochs WHERE trial_id = $trial_id ORDER BY epoch"


def stop(
    results: Results,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for trials to reach a step's end.")
    ] = False,
) -> None:
    """End the sweep that runs in a results folder, wherever its driver is; it can go on later."""
    from grid.lock.hold import ask_to_stop, drivers_alive
    from grid.store.open import open_store

    store = open_store(results)
    if not store.fetch(store.folder / "sweep.yaml"):
        fail(f"{results}: is not a results folder: it has no sweep.yaml")
    if not (asked := drivers_alive(store)):
        print(f"{results}: no driver is running")
        return
    ask_to_stop(store, now=now)
    until = time.monotonic() + HEARD_WITHIN_S
    while (left := drivers_alive(store)) and time.monotonic() < until:
        time.sleep(0.2)
    where = "; ".join(f"process {driver['pid']} on {driver['host']}" for driver in left or asked)
    if left:
        print(f"{results}: asked to stop and still ending: {where}; `cnngrid status` says")
    else:
        print(f"{results}: {where} has stopped; run the same command again to go on")


def logs(
    results: Results,
    trial: Annotated[str, typer.Argument(help="A trial's id, or how it starts.")],
) -> None:
    """Show a trial: its state, its epochs and, where it failed, the traceback."""
    from grid.store.open import open_store

    with answering():
        from analysis import open_results
        from analysis.results.database import rows

        connection = open_results(results, all=True)
        found = rows(connection, TRIAL, start=trial)
        ids = {row["trial_id"] for row in found}
        if len(ids) != 1:
            which = "several trials start so" if ids else "no such trial"
            fail(f'{results}: {trial}: {which}; `cnngrid sql {results} "SELECT * FROM trials"`')
        row = found[0]
        print(f"{row['trial_id']} {row['cell']} seed {row['seed']}: {row['state']}")
        if row["reason"]:
            print(row["reason"])
        for epoch in rows(connection, EPOCHS, trial_id=row["trial_id"]):
            print(
                f"epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}, "
                f"val loss {epoch['val_loss']:.4f}, val top-1 {epoch['val_top1']:.4f}, "
                f"{epoch['train_time_s']:.1f} s"
            )
    store = open_store(results)
    log = store.log(row["trial_id"])
    if store.fetch(log):
        print(log.read_text(encoding="utf-8", errors="replace").rstrip())


def compact(results: Results) -> None:
    """Merge the many small files of a results folder into few."""
    from grid.lock.hold import hold
    from grid.store.open import open_store

    store = open_store(results)
    store.fetch_tables()
    if store.sweep_name() is None:
        fail(f"{results}: no results folder")
    with hold(store):
        for name, files in store.compact().items():
            print(f"{name}: {files} files merged")
