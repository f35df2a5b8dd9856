"""A trial on its way to a worker and a worker's reports: plain values for any process."""

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
    # Folder of the sweep author's own modules, searched after everything installed.
    module_path: str | None = None
    # Copy of the author's code in the results folder, from which these modules are imported, and
    # the fingerprints of its parts that the trial runs, JSON.
    code_folder: str | None = None
    code: str | None = None
    skip_unreadable: bool = False
    # Epochs after which the trial may have to wait: its checkpoint is written before the report.
    pause_epochs: tuple[int, ...] = ()
    # A finished trial of the same lineage and fewer epochs: training starts from its checkpoint.
    continued_from: str | None = None
    # The claim is renewed at least this often, in seconds, while steps go on.
    heartbeat_s: float = 10.0
    # The trial ran out of memory before and has the device to itself now.
    alone: bool = False
    # Share of a GPU that the plan gives each trial; None on a CPU.
    gpu_share: float | None = None
    # Its rank among the trials that run at the same time, from 0.
    slot: int | None = None
    # Metrics that the sweep asks for beside the usual ones, by name.
    metrics: tuple[str, ...] = ()

    @property
    def own_share(self) -> float | None:
        """Share of its GPU that this attempt has; None on a CPU."""
        return 1.0 if self.gpu_share and self.alone else self.gpu_share


@dataclass(frozen=True)
class Progress:
    """The report of an ended epoch or of the trial's end; `row` is the trial's row so far.

    With `done` nothing more comes, and the row is stored unless `retry_alone` is set. A report
    `within_epoch` says only that a step has ended: a moment at which the trial may be stopped.
    """

    trial_id: str
    epoch: int
    epochs: int
    val_top1: float | None
    done: bool
    row: dict[str, Any]
    within_epoch: bool = False
    # The reason to run the trial once more, with a device to itself; its process is done with it.
    retry_alone: str | None = None
    # Value of the objective after this epoch, NaN where it has none; None if it is `val_top1`.
    objective: float | None = None
    # Metrics without a value, each with the reason.
    remarks: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """State of an ended trial, else `running`."""
        return str(self.row["state"]) if self.done and not self.retry_alone else "running"
