"""What a trial is given and what it says while it runs; plain values that travel to any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grid.ids import Trial


@dataclass(frozen=True)
class Job:
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
    waits: tuple[int, ...] = ()
    # A finished trial of the same lineage and fewer epochs, whose last checkpoint it starts from.
    continued_from: str | None = None


@dataclass(frozen=True)
class Progress:
    """An epoch that ended, or the end of the trial; `row` is its record as it stands.

    `pause`: neither, but a step within the next epoch after which the trial may be stopped.
    """

    trial_id: str
    epoch: int
    epochs: int
    val_top1: float | None
    done: bool
    row: dict[str, Any]
    pause: bool = False

    @property
    def state(self) -> str:
        """How the trial ended; `running` while it has not."""
        return str(self.row["state"]) if self.done else "running"
