"""Rows that the driver writes for trials that cannot; imports no torch."""

from __future__ import annotations

from typing import Any

from grid.plan.ids import Trial, config_json
from grid.store.folder import Store, now
from grid.trial.assignment import Progress
from grid.trial.provenance import host, versions


def pause(store: Store, progress: Progress, reason: str) -> dict[str, Any]:
    """Store where a trial waits; its checkpoint is that of this epoch."""
    row = {**progress.row, "state": "paused", "reason": reason, "ended_at": now()}
    store.write("paused", progress.trial_id, [row])
    store.silence_claim(progress.trial_id)
    return row


def end_pruned(store: Store, row: dict[str, Any], reason: str) -> dict[str, Any]:
    """Store the row of a trial that ends where it is, because of what others reached."""
    row = {**row, "state": "pruned", "reason": reason, "ended_at": now()}
    trial_id = row["trial_id"]
    store.write("trials", trial_id, [row])
    store.drop_paused(trial_id)
    store.drop_claim(trial_id)
    drop_checkpoints(store, trial_id)
    return row


def never_started(trial: Trial, sweep: str) -> dict[str, Any]:
    """The row of a trial that is not run at all."""
    return {**config_columns(trial, sweep), "attempts": 0, "epochs_run": 0, "host": host()}


def end_failed(store: Store, trial: Trial, sweep: str, reason: str) -> Progress:
    """Store the row of a trial whose process died before it could say anything itself."""
    claim = store.read_claim(trial.trial_id)
    row = {
        **config_columns(trial, sweep),
        "state": "failed",
        "reason": reason,
        "attempts": claim.get("attempt"),
        "wall_time_s": claim.get("wall_time_s"),
        "host": claim.get("host"),
        "ended_at": now(),
    }
    store.write("trials", trial.trial_id, [row])
    store.drop_paused(trial.trial_id)
    store.drop_claim(trial.trial_id)
    drop_checkpoints(store, trial.trial_id)
    return Progress(trial.trial_id, 0, trial.config.epochs, None, True, row)


def drop_checkpoints(store: Store, trial_id: str) -> None:
    """Remove a trial's checkpoints."""
    store.remove_folder(store.checkpoints(trial_id))


def config_columns(trial: Trial, sweep: str) -> dict[str, Any]:
    """The columns of `trials` that are known before the trial starts."""
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
        "versions": versions(),
    }
