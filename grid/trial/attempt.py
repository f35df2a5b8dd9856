"""The record of one attempt at a trial: its row, its epochs and its claim; imports no torch."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from grid.errors import Superseded
from grid.store.folder import Store, now
from grid.trial.assignment import Assignment, Progress
from grid.trial.provenance import host
from grid.trial.rows import config_columns, drop_checkpoints

if TYPE_CHECKING:
    from cnncore.training.train import EpochResult


# Whether a trial runs elsewhere too is looked up in an object store at most this often, in seconds.
REMOTE_CHECK_S = 25.0


@dataclass
class Attempt:
    """The row under way, and what earlier attempts at the same trial left in the claim."""

    assignment: Assignment
    store: Store
    row: dict[str, Any]
    number: int
    started_at: datetime
    earlier_s: float
    epochs: list[dict[str, Any]]
    # What earlier attempts saved last, as epoch and step, and how often in a row one was lost that
    # saved nothing beyond it (`grid/run/lost_trials.py`).
    saved: tuple[int, int]
    deaths: int
    losses: int
    reasons: list[str]
    further: bool = False
    heartbeat_at: float = 0.0
    checked: float = 0.0
    # Its first step is done.
    trains: bool = False

    @classmethod
    def begin(cls, assignment: Assignment, store: Store) -> Attempt:
        claim = store.read_claim(assignment.trial.trial_id)
        number = int(claim.get("attempt", 0)) + 1
        first = claim.get("started_at")
        started_at = datetime.fromtimestamp(first, UTC) if first else now()
        row = {
            **config_columns(assignment.trial, assignment.sweep),
            "attempts": number,
            "threads": assignment.threads,
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
            saved=(int(epoch), int(step)),
            deaths=int(claim.get("deaths", 0)),
            losses=int(claim.get("losses", 0)),
            reasons=claim.get("reasons", []),
        )

    def check(self) -> None:
        """Raise `Superseded` where this attempt no longer is the trial's last: it was out of
        sight, and the trial was started again elsewhere, or has ended there.
        """
        trial_id, remote = self.assignment.trial.trial_id, self.store.remote
        if remote and time.perf_counter() - self.checked < REMOTE_CHECK_S:
            return  # every look is a request
        self.checked = time.perf_counter()
        if not (claim := self.store.read_claim(trial_id)):
            if remote or self.store.claim_path(trial_id).exists():
                return  # it cannot be read now, or was lost on its way
            raise Superseded(f"{trial_id}: has ended elsewhere")
        other = (claim.get("host"), claim.get("pid")) != (host(), os.getpid())
        if claim.get("attempt", 0) > self.number or (claim.get("attempt") == self.number and other):
            raise Superseded(
                f"{trial_id}: runs in process {claim.get('pid')} on {claim.get('host')} too, "
                "which started it later"
            )

    def renew(self, started: float) -> None:
        """Renew the claim, unless it is another attempt's."""
        self.check()
        self.claim(started)

    def claim(self, started: float) -> None:
        """Say where this trial runs and how far it is."""
        self.heartbeat_at = time.perf_counter()
        last = self.epochs[-1] if self.epochs else {}
        self.store.write_claim(
            self.assignment.trial.trial_id,
            {
                "host": host(),
                "pid": os.getpid(),
                "device": _device(self.assignment.device),
                "attempt": self.number,
                "started_at": self.started_at.timestamp(),
                "wall_time_s": self.earlier_s + time.perf_counter() - started,
                "heartbeat": time.time(),
                "trains": self.trains,
                "arch": self.assignment.trial.config.arch,
                "epoch": last.get("epoch", 0),
                "epochs": self.assignment.trial.config.epochs,
                "val_top1": last.get("val_top1"),
                "saved": self.saved,
                "deaths": self.deaths,
                "losses": self.losses,
                "reasons": self.reasons,
                "further": self.further,
            },
        )

    def renew_if_due(self, started: float) -> None:
        """Renew the claim where it is due."""
        if time.perf_counter() - self.heartbeat_at >= self.assignment.heartbeat_s:
            self.renew(started)

    def save(self, epoch: int, step: int) -> None:
        """Note that a checkpoint was written there: what is lost from now on gets further."""
        if (epoch, step) > self.saved:
            self.saved, self.further = (epoch, step), True

    def add_epoch(self, result: EpochResult) -> None:
        """Store an epoch's row; the trial's file is written again, whole."""
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
                "train_time_s": result.train_time_s,
                "eval_time_s": result.eval_time_s,
                "train_images_per_s": result.train_images_per_s,
                "ended_at": now(),
            }
        )
        self.store.write("epochs", self.assignment.trial.trial_id, self.epochs)

    def take_over(self, epochs: list[dict[str, Any]], continued_from: str | None) -> None:
        """Take the epochs of a checkpoint; those of the trial it continues count as attempt 0."""
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
        self.row["continued_from"] = continued_from

    def update(self, best_epoch: int, train_images: int, started: float) -> None:
        """Bring the row up to date with the epochs so far."""
        best = next(row for row in self.epochs if row["epoch"] == best_epoch)
        # The first epoch warms caches up; it counts only where it is the only one.
        warm = self.epochs[1:] or self.epochs
        warm_s = sum(row["train_time_s"] for row in warm)
        self.row.update(
            epochs_run=self.epochs[-1]["epoch"],
            best_epoch=best_epoch,
            train_top1=best["train_top1"],
            train_loss=best["train_loss"],
            val_top1=best["val_top1"],
            val_top5=best["val_top5"],
            val_loss=best["val_loss"],
            train_time_s=sum(row["train_time_s"] for row in self.epochs),
            epoch_time_s=median(row["train_time_s"] for row in warm),
            train_images_per_s=train_images * len(warm) / warm_s if warm_s else None,
            wall_time_s=self.earlier_s + time.perf_counter() - started,
        )

    def end(self, state: str, reason: str | None, started: float) -> Progress:
        """Store the trial's row: it is done."""
        trial_id = self.assignment.trial.trial_id
        self.check()
        self.row.update(
            state=state,
            reason=reason,
            wall_time_s=self.earlier_s + time.perf_counter() - started,
            ended_at=now(),
        )
        self.store.write("trials", trial_id, [self.row])
        self.store.drop_paused(trial_id)
        self.store.drop_claim(trial_id)
        if state != "complete":
            drop_checkpoints(self.store, trial_id)
        return self.progress(done=True)

    def retry_alone(self, reason: str) -> Progress:
        """The trial did not end, but goes no further here; what it claimed stays for the next."""
        self.store.silence_claim(self.assignment.trial.trial_id)
        return replace(self.progress(done=True), retry_alone=reason)

    def progress(self, *, done: bool, pause: bool = False) -> Progress:
        last = self.epochs[-1] if self.epochs else {}
        return Progress(
            trial_id=self.assignment.trial.trial_id,
            epoch=last.get("epoch", 0),
            epochs=self.assignment.trial.config.epochs,
            val_top1=last.get("val_top1"),
            done=done,
            row=dict(self.row),
            pause=pause,
        )


def _device(device: str) -> str:
    """`cpu`, or which of the machine's GPUs: Ray shows a process only its own."""
    if device == "cpu":
        return device
    return f"gpu {os.environ.get('CUDA_VISIBLE_DEVICES') or '0'}"
