"""Rows that the driver writes for trials that cannot write them; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnncore.catalog import library_of
from grid.code.versions import versions
from grid.plan.ids import Trial, config_json
from grid.store.folder import Store, now
from grid.trial.assignment import Progress
from grid.trial.provenance import host

if TYPE_CHECKING:
    from cnncore.measure.own_metrics import Measured


def write_paused(store: Store, progress: Progress, reason: str) -> dict[str, Any]:
    """Store the row of a trial that waits; its checkpoint is of the same epoch."""
    row = {**progress.row, "state": "paused", "reason": reason, "ended_at": now()}
    store.write("paused", progress.trial_id, [row])
    store.claims.silence(progress.trial_id)
    return row


def write_pruned(store: Store, row: dict[str, Any], reason: str) -> dict[str, Any]:
    """Store the row of a trial that ends early because others are better; remove its files."""
    return _write_end(store, {**row, "state": "pruned", "reason": reason, "ended_at": now()})


def write_failed(store: Store, trial: Trial, sweep: str, reason: str) -> dict[str, Any]:
    """Store the row of a trial whose process died before it could write one itself."""
    claim = store.claims.read(trial.trial_id)
    row = {
        **config_columns(trial, sweep),
        "state": "failed",
        "reason": reason,
        "attempts": claim.get("attempt"),
        "wall_time_s": claim.get("wall_time_s"),
        "host": claim.get("host"),
        "ended_at": now(),
    }
    return _write_end(store, row)


def _write_end(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    trial_id = row["trial_id"]
    store.write("trials", trial_id, [row])
    store.drop_paused(trial_id)
    store.claims.drop(trial_id)
    drop_checkpoints(store, trial_id)
    return row


def unstarted_row(trial: Trial, sweep: str) -> dict[str, Any]:
    """Return the row of a trial that is not run at all."""
    return {**config_columns(trial, sweep), "attempts": 0, "epochs_run": 0, "host": host()}


def drop_checkpoints(store: Store, trial_id: str) -> None:
    """Remove a trial's checkpoints."""
    store.files.remove_folder(store.checkpoints(trial_id))


def metric_rows(
    trial_id: str, split: str, epoch: int, measured: Mapping[str, Measured]
) -> list[dict[str, Any]]:
    """Return the rows of the table `metrics` of a split after an epoch."""
    return [
        {
            "trial_id": trial_id,
            "split": split,
            "epoch": epoch,
            "name": name,
            "value": one.value,
            "reason": one.reason,
        }
        for name, one in measured.items()
    ]


def config_columns(trial: Trial, sweep: str) -> dict[str, Any]:
    """Return the columns of `trials` that are known before the trial starts."""
    config = trial.config
    same = ("arch", "dataset", "labels", "optimizer", "lr", "momentum", "weight_decay")
    more = ("batch_size", "image_size", "precision", "epochs")
    return {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "lineage_id": trial.lineage_id,
        "role": trial.role,
        "sweep": sweep,
        "seed": trial.seed,
        "fold": trial.fold,
        **{name: getattr(config, name) for name in (*same, *more)},
        "config": config_json(config),
        "versions": versions(library_of(config.arch)),
    }
