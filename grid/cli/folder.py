"""The sub-commands `stop`, `logs` and `compact`, which work on a results folder."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from grid.cli.options import Results
from grid.cli.terminal import analysis_errors, fail
from grid.phrases import validation_text
from grid.screen import print

# A driver looks for a request to stop about once a second; a shared disk delays it.
STOP_TIMEOUT_S = 30.0
# Bytes of a log that are printed.
LONGEST_LOG_BYTES = 1_000_000


def stop(
    results: Results,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait until the trials finish their step.")
    ] = False,
) -> None:
    """Stop the sweep that runs in a results folder, on any machine; it can be resumed later."""
    from grid.lock.hold import ask_to_stop, drivers_alive
    from grid.store.open import open_store

    store = open_store(results)
    if not store.files.fetch(store.folder / "sweep.yaml"):
        fail(f"{results}: is not a results folder: it has no sweep.yaml")
    drivers = drivers_alive(store)
    if not drivers:
        print(f"{results}: no driver is running")
        return
    ask_to_stop(store, now=now)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (alive := drivers_alive(store)) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = "; ".join(
        f"process {driver.get('pid', '?')} on {driver.get('host', '?')}"
        for driver in alive or drivers
    )
    if alive:
        print(f"{results}: asked to stop and still ending: {names}; see `cnngrid status`")
    else:
        print(f"{results}: {names} has stopped; run the same command again to go on")


def logs(
    results: Results,
    trial: Annotated[str, typer.Argument(help="A trial's id, or the start of it.")],
) -> None:
    """Print a trial's state, its epochs and, if it failed, the traceback."""
    from grid.store.open import open_store

    with analysis_errors():
        from analysis import open_results
        from analysis.results.database import rows
        from analysis.results.sql_files import sql as query

        connection = open_results(results, all=True)
        trials = rows(connection, query("questions/trial_states"), start=trial)
        ids = {row["trial_id"] for row in trials}
        if len(ids) != 1:
            problem = "several trials start with it" if ids else "no such trial"
            fail(f'{results}: {trial}: {problem}; `cnngrid sql {results} "SELECT * FROM trials"`')
        row = trials[0]
        print(f"{row['trial_id']} {row['cell']} seed {row['seed']}: {row['state']}")
        if row["reason"]:
            print(row["reason"])
        for epoch in rows(connection, query("questions/trial_epochs"), trial_id=row["trial_id"]):
            print(
                f"epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}, "
                f"{validation_text(epoch['val_loss'], epoch['val_top1'])}"
                f"{epoch['train_time_s']:.1f} s"
            )
    store = open_store(results)
    log = store.log(row["trial_id"])
    if store.files.fetch(log):
        with log.open("rb") as file:
            text = file.read(LONGEST_LOG_BYTES).decode("utf-8", "replace").rstrip()
        print(text)
        if log.stat().st_size > LONGEST_LOG_BYTES:
            print(f"... and more in {log}")


def compact(results: Results) -> None:
    """Merge the many small files of a results folder into a few."""
    from grid.lock.hold import hold
    from grid.store.open import open_store

    store = open_store(results)
    store.files.fetch_tables()
    if store.sweep_name() is None:
        fail(f"{results}: no results folder")
    with hold(store):
        for name, files in store.compact().items():
            print(f"{name}: {files} files merged")
