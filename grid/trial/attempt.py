"""One attempt at a trial: its row, its epochs and its claim; imports no torch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from grid.errors import Superseded
from grid.store.folder import Store, now
from grid.trial.assignment import Assignment, Progress
from grid.trial.provenance import host
from grid.trial.rows import config_columns, drop_checkpoints, metric_rows

if TYPE_CHECKING:
    from cnncore.measure.own_metrics import Measured
    from cnncore.process_settings import SettingChanges
    from cnncore.training.busy_machine import BusyWatch
    from cnncore.training.train import EpochResult


@dataclass
class Attempt:
    """The row so far, and what earlier attempts at the same trial left in the claim.

    `started` in the methods is the attempt's start on the clock `time.perf_counter`, in seconds.
    """

    assignment: Assignment
    store: Store
    row: dict[str, Any]
    number: int
    started_at: datetime
    earlier_s: float
    epochs: list[dict[str, Any]]
    # Rows of the table `metrics`, for the same epochs.
    metrics: list[dict[str, Any]]
    # Epoch and step of the last checkpoint, and how many attempts in a row were lost since without
    # a further one (`grid/run/lost_trials.py`).
    saved: tuple[int, int]
    deaths: int
    losses: int
    cut_offs: int
    reasons: list[str]
    further: bool = False
    # The look at other work on the machine; none where it is not watched.
    machine: BusyWatch | None = None
    # Times of the last heartbeat and of the last look for a later attempt, by `perf_counter`.
    heartbeat_at: float = 0.0
    checked_at: float = 0.0
    # True once the first step is done.
    trains: bool = False
    # What the network changes in its process; None before it is built.
    changes: SettingChanges | None = None

    @classmethod
    def begin(cls, assignment: Assignment, store: Store) -> Attempt:
        """Return the attempt after the one that the trial's claim names."""
        claim = store.claims.read(assignment.trial.trial_id)
        number = int(claim.get("attempt", 0)) + 1
        first = claim.get("started_at")
        started_at = datetime.fromtimestamp(first, UTC) if first else now()
        row = {
            **config_columns(assignment.trial, assignment.sweep),
            "attempts": number,
            "threads": assignment.threads,
            "gpu_share": assignment.own_share,
            "host": host(),
            "git_commit": assignment.git_commit,
            "started_at": started_at,
        }
        epoch, step = claim.get("saved") or (0, 0)
        return cls(
            assignment,
            store,
            row,
            number,
            started_at,
            earlier_s=float(claim.get("wall_time_s", 0.0)),
            epochs=[],
            metrics=[],
            saved=(int(epoch), int(step)),
            deaths=int(claim.get("deaths", 0)),
            losses=int(claim.get("losses", 0)),
            cut_offs=int(claim.get("cut_offs", 0)),
            reasons=claim.get("reasons", []),
        )

    def check(self) -> None:
        """Raise `Superseded` if this attempt is no longer the trial's last one.

        It was out of the driver's sight, and the trial was started again elsewhere or ended there.
        """
        trial_id, claims = self.assignment.trial.trial_id, self.store.claims
        if time.perf_counter() - self.checked_at < claims.check_every_s:
            return
        self.checked_at = time.perf_counter()
        if not (claim := claims.read(trial_id)):
            if claims.dropped(trial_id):
                raise Superseded(f"{trial_id}: has ended elsewhere")
            return  # unreadable for the moment, or lost on its way
        other = (claim.get("host"), claim.get("pid")) != (host(), os.getpid())
        if claim.get("attempt", 0) > self.number or (claim.get("attempt") == self.number and other):
            raise Superseded(
                f"{trial_id}: runs in process {claim.get('pid')} on {claim.get('host')} too, "
                "which started it later"
            )

    def renew(self, started: float) -> None:
        """Renew the claim's heartbeat; raise `Superseded` if the claim is a later attempt's."""
        self.check()
        self.claim(started)

    def claim(self, started: float) -> None:
        """Write the claim: where this trial runs and how far it is."""
        self.heartbeat_at = time.perf_counter()
        last = self.epochs[-1] if self.epochs else {}
        self.store.claims.write(
            self.assignment.trial.trial_id,
            {
                "host": host(),
                "pid": os.getpid(),
                "slot": self.assignment.slot,
                "device": _device(self.assignment.device),
                "attempt": self.number,
                "started_at": self.started_at.timestamp(),
                "wall_time_s": self.earlier_s + time.perf_counter() - started,
                "heartbeat": time.time(),
                "trains": self.trains,
                "cpu_wait": self.machine and self.machine.wait_share,
                "arch": self.assignment.trial.config.arch,
                "epoch": last.get("epoch", 0),
                "epochs": self.assignment.trial.config.epochs,
                "val_top1": last.get("val_top1"),
                "objective": _or_none(last.get("objective")),
                "saved": self.saved,
                "deaths": self.deaths,
                "losses": self.losses,
                "cut_offs": self.cut_offs,
                "reasons": self.reasons,
                "further": self.further,
            },
        )

    def renew_if_due(self, started: float) -> None:
        """Renew the heartbeat if the last one is old enough."""
        if time.perf_counter() - self.heartbeat_at >= self.assignment.heartbeat_s:
            self.renew(started)

    def save(self, epoch: int, step: int) -> None:
        """Note a written checkpoint: an attempt that is lost from now on got further."""
        if (epoch, step) > self.saved:
            self.saved, self.further = (epoch, step), True

    def add_epoch(self, result: EpochResult) -> None:
        """Store an epoch's row: the trial's file is written anew, with all its epochs."""
        self.check()
        self.epochs.append(
            {
                "trial_id": self.assignment.trial.trial_id,
                "epoch": result.epoch,
                "attempt": self.number,
                "lr": result.lr,
                "train_loss": result.train_loss,
                "train_top1": result.train_top1,
                "val_loss": result.val_loss,
                "val_top1": result.val_top1,
                "val_top5": result.val_top5,
                "objective": result.objective,
                "train_time_s": result.train_time_s,
                "eval_time_s": result.eval_time_s,
                "train_images_per_s": result.train_images_per_s,
                "ended_at": now(),
            }
        )
        self.add_metrics("val", result.epoch, result.metrics)
        self.store.write("epochs", self.assignment.trial.trial_id, self.epochs)

    def add_metrics(self, split: str, epoch: int, measured: Mapping[str, Measured]) -> None:
        """Store metrics of a split after an epoch: the trial's file is written anew."""
        trial_id = self.assignment.trial.trial_id
        self.metrics += metric_rows(trial_id, split, epoch, measured)
        if self.metrics:
            self.store.write("metrics", trial_id, self.metrics)

    def take_over(
        self,
        epochs: list[dict[str, Any]],
        metrics: list[dict[str, Any]],
        continued_from: str | None,
    ) -> None:
        """Take over the epochs of a checkpoint; those of another trial become attempt 0."""
        own = self.assignment.trial.trial_id
        self.epochs = [
            {
                **row,
                "attempt": row["attempt"] if row["trial_id"] == own else 0,
                "trial_id": own,
                "ended_at": datetime.fromisoformat(row["ended_at"]),
            }
            for row in epochs
        ]
        self.metrics = [{**row, "trial_id": own} for row in metrics]
        self.row["continued_from"] = continued_from

    def update(self, best_epoch: int, images_until: Callable[[int], int], started: float) -> None:
        """Update the row with the epochs so far; `images_until` counts images up to an epoch."""
        best = next(row for row in self.epochs if row["epoch"] == best_epoch)
        # The first epoch warms caches up; it counts only if it is the only one.
        warm = self.epochs[1:] or self.epochs
        warm_s = sum(row["train_time_s"] for row in warm)
        warm_images = images_until(warm[-1]["epoch"]) - images_until(warm[0]["epoch"] - 1)
        self.row.update(
            epochs_run=self.epochs[-1]["epoch"],
            best_epoch=best_epoch,
            train_top1=best["train_top1"],
            train_loss=best["train_loss"],
            val_top1=best["val_top1"],
            val_top5=best["val_top5"],
            val_loss=best["val_loss"],
            objective=best.get("objective"),
            train_time_s=sum(row["train_time_s"] for row in self.epochs),
            epoch_time_s=median(row["train_time_s"] for row in warm),
            train_images_per_s=warm_images / warm_s if warm_s else None,
            wall_time_s=self.earlier_s + time.perf_counter() - started,
        )

    def end(self, state: str, reason: str | None, started: float) -> Progress:
        """Store the trial's row with its final state; return the last report."""
        trial_id = self.assignment.trial.trial_id
        self.check()
        self.row.update(
            state=state,
            reason=reason,
            changed_settings=self._changed_settings(),
            wall_time_s=self.earlier_s + time.perf_counter() - started,
            ended_at=now(),
        )
        self.store.write("trials", trial_id, [self.row])
        self.store.drop_paused(trial_id)
        self.store.claims.drop(trial_id)
        if state != "complete":
            drop_checkpoints(self.store, trial_id)
        return self.progress(done=True)

    def retry_alone(self, reason: str) -> Progress:
        """Return the report of a trial that must run once more; its claim stays for that."""
        self.store.claims.silence(self.assignment.trial.trial_id)
        return replace(self.progress(done=True), retry_alone=reason)

    def progress(self, *, done: bool, within_epoch: bool = False) -> Progress:
        """Return a report with a copy of the row."""
        last = self.epochs[-1] if self.epochs else {}
        row = self.row if done else {**self.row, "changed_settings": self._changed_settings()}
        return Progress(
            trial_id=self.assignment.trial.trial_id,
            epoch=last.get("epoch", 0),
            epochs=self.assignment.trial.config.epochs,
            val_top1=last.get("val_top1"),
            done=done,
            row=dict(row),
            within_epoch=within_epoch,
            objective=last.get("objective"),
            remarks=self._remarks(),
        )

    def _remarks(self) -> tuple[str, ...]:
        """Return the metrics without a value and why, each once."""
        missing = (row for row in self.metrics if row["reason"])
        return tuple(dict.fromkeys(f"{row['name']}: {row['reason']}" for row in missing))

    def _changed_settings(self) -> str | None:
        return str(self.changes or "") or None


def _or_none(value: float | None) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if value is None or math.isnan(value) else value


def _device(device: str) -> str:
    """Return `cpu` or the machine's number of the GPU: Ray shows a process only its own."""
    if device == "cpu":
        return device
    return f"gpu {os.environ.get('CUDA_VISIBLE_DEVICES') or '0'}"
