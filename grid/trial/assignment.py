"""What a trial is given and what it says while it runs; plain values that travel to any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grid.plan.ids import Trial


@dataclass(frozen=True)
class Assignment:
    """A trial and everything it needs to run on some machine."""

    trial: Trial
    sweep: str
    results: str
    data_dir: str
    threads: int
    device: str
    keep: str
    keep_predictions: str
    checkpoint_s: float
    git_commit: str | None
    # Where modules of the sweep author's own are looked for, after everything installed.
    module_path: str | None = None
    skip_unreadable: bool = False
    # Epochs after which the trial may have to wait: its checkpoint is written before it says so.
    pause_epochs: tuple[int, ...] = ()
    # A finished trial of the same lineage and fewer epochs, whose last checkpoint it starts from.
    continued_from: str | None = None
    # The claim is renewed at least this often, in seconds, while steps go on.
    heartbeat_s: float = 10.0
    # It ran out of memory before, and has the device to itself now.
    alone: bool = False


@dataclass(frozen=True)
class Progress:
    """An epoch that ended, or the end of the trial; `row` is its record as it stands.

    With `done` nothing more comes, and the row is stored unless the trial runs `again`. `pause`:
    neither, but a step within the next epoch after which the trial may be stopped.
    """

    trial_id: str
    epoch: int
    epochs: int
    val_top1: float | None
    done: bool
    row: dict[str, Any]
    pause: bool = False
    # Why the trial, whose process is done with it, must be run once more with a device to itself.
    retry_alone: str | None = None

    @property
    def state(self) -> str:
        """How the trial ended; `running` while it has not."""
        return str(self.row["state"]) if self.done and not self.retry_alone else "running"
