"""Metrics that a sweep file asks for after trials were complete: computed of their kept weights.

This happens before anything else runs, trial by trial in a process of its own, because it runs the
user's code. A trial whose metrics are stored is not looked at again.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnncore.fresh_process import fresh_process
from grid.phrases import counted
from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.store.folder import Finished, Store
from grid.trial.metric_check import check_metrics
from grid.trial.rows import metric_rows

# Files of a checkpoint folder that hold a complete trial's chosen weights.
KEPT_WEIGHTS = ("best.pt", "last.pt")


@dataclass(frozen=True)
class LaterTrial:
    """A complete trial, the metrics that it lacks, and what is needed to open it."""

    trial: Trial
    names: tuple[str, ...]
    results: str
    data_dir: str
    threads: int
    device: str
    module_path: str
    skip_unreadable: bool


def add_later_metrics(
    plan: Plan,
    store: Store,
    trials: Mapping[str, Trial],
    finished: Mapping[str, Finished],
    data_dir: Path,
    device: str,
    note: Callable[[str], object],
) -> None:
    """Compute the metrics of the plan that complete trials lack, on validation and test.

    `finished` are the ended trials that belong to the plan. One line says how many get them and
    how many cannot, because their weights were not kept. Raises `SweepError` for a metric that
    `check_metrics` refuses.
    """
    lacking = _lacking(plan, store, finished)
    if not lacking:
        return
    check_metrics(plan)
    possible = {
        trial_id: names for trial_id, names in lacking.items() if _has_weights(store, trial_id)
    }
    note(_summary(lacking, possible))
    requests = [
        LaterTrial(
            trial=trials[trial_id],
            names=names,
            results=store.location,
            data_dir=str(data_dir),
            threads=plan.spec.resources.cpus,
            device=device,
            module_path=str(Path.cwd()),
            skip_unreadable=plan.skip_unreadable,
        )
        for trial_id, names in possible.items()
    ]
    stored = store.metrics() if requests else {}
    said = set()
    for trial_id, answer in _ask(requests):
        if isinstance(answer, str):
            if answer not in said:
                note(f"metrics of finished trials: {trial_id}: {answer}")
                said.add(answer)
            continue
        store.write("metrics", trial_id, [*stored.get(trial_id, []), *answer])


def _lacking(
    plan: Plan, store: Store, finished: Mapping[str, Finished]
) -> dict[str, tuple[str, ...]]:
    """Return the metrics that complete trials lack on test, by trial."""
    complete = [trial_id for trial_id, row in finished.items() if row.state == "complete"]
    if not plan.metrics or not complete:
        return {}
    stored = store.metrics()
    lacking = {}
    for trial_id in complete:
        there = {row["name"] for row in stored.get(trial_id, ()) if row["split"] == "test"}
        if names := tuple(name for name in plan.metrics if name not in there):
            lacking[trial_id] = names
    return lacking


def _has_weights(store: Store, trial_id: str) -> bool:
    return any(store.files.has(store.checkpoints(trial_id) / name) for name in KEPT_WEIGHTS)


def _summary(
    lacking: Mapping[str, tuple[str, ...]], possible: Mapping[str, tuple[str, ...]]
) -> str:
    """Return a line on the new metrics: how many finished trials get them and how many cannot."""
    wanted = Counter(name for names in lacking.values() for name in names)
    absent = len(lacking) - len(possible)
    parts = [f"{counted(len(possible), 'finished trial')} get them from their kept weights"]
    if absent:
        parts.append(f"{absent} cannot, because their weights were not kept")
    return f"new metrics ({', '.join(wanted)}): {'; '.join(parts)}"


def _ask(requests: list[LaterTrial]) -> Iterable[tuple[str, list[dict[str, Any]] | str]]:
    """Yield the rows of each trial, or the reason why there are none."""
    if not requests:
        return
    here, there = Pipe()
    with here:
        with there:
            child = subprocess.Popen(
                fresh_process("grid.run.later_metrics:serve", str(there.fileno())),
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
            )
        try:
            for request in requests:
                here.send(request)
                yield request.trial.trial_id, here.recv()
        except (EOFError, ConnectionError):
            yield request.trial.trial_id, f"its process ended with exit code {child.wait()}"
        finally:
            here.close()
            child.wait()


def serve(descriptor: str) -> None:
    """Answer each trial that comes over the connection with its rows, or with a reason."""
    from cnncore.error_text import error_line
    from cnncore.process_settings import unchanged

    with Connection(int(descriptor)) as driver:
        while True:
            try:
                request: LaterTrial = driver.recv()
            except EOFError:
                return
            try:
                with unchanged():
                    answer: list[dict[str, Any]] | str = measure(request)
            except (Exception, SystemExit) as error:
                answer = error_line(error)
            driver.send(answer)


def measure(request: LaterTrial) -> list[dict[str, Any]]:
    """Return the rows of a complete trial's new metrics, of validation and of test."""
    from cnncore.measure.evaluate import predict
    from cnncore.measure.own_metrics import Measures
    from grid.store.open import open_store
    from grid.trial.open import look_up_in, open_trial

    trial, store = request.trial, open_store(request.results)
    try:
        row = store.row(trial.trial_id)
        assert row is not None  # it is complete
        weights = _weights(store, trial.trial_id)
    finally:
        store.close()
    look_up_in(request.module_path)
    measures = Measures(request.names)
    ready = open_trial(
        trial,
        data_dir=request.data_dir,
        threads=request.threads,
        device=request.device,
        module_path=request.module_path,
        skip_unreadable=request.skip_unreadable,
    )
    model = ready.state.model
    model.load_state_dict(weights)
    rows = []
    for split, part in (("val", ready.splits.val), ("test", ready.splits.test)):
        if not len(part):
            continue
        predictions = predict(
            model.eval(), part.batches(), precision=trial.config.precision, device=ready.device
        )
        rows += metric_rows(trial.trial_id, split, row["best_epoch"], measures(*predictions))
    return rows


def _weights(store: Store, trial_id: str) -> dict[str, Any]:
    """Return the weights that `select` chose, of `best.pt` or of the last checkpoint."""
    from cnncore.checkpoint import load_checkpoint

    best, last = (store.checkpoints(trial_id) / name for name in KEPT_WEIGHTS)
    if store.files.fetch(best) and (payload := load_checkpoint(best)) is not None:
        weights: dict[str, Any] = payload["weights"]
        return weights
    store.files.fetch(last)
    payload = load_checkpoint(last)
    if payload is None:
        raise ValueError("its weights are gone")
    state = payload["state"]
    chosen: dict[str, Any] = state["best_weights"] or state["ema"] or state["model"]
    return chosen
