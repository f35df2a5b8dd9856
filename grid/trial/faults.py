"""Faults that end a trial: told apart, put in words, and what they leave on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cnncore.data.resident import drop_resident
from cnncore.error_text import error_line, error_report
from cnncore.measure.device import device_memory_mib
from cnncore.measure.device_errors import broken_device_error
from cnncore.measure.memory import is_out_of_memory, needed_mib, release_unused_memory
from cnncore.training.train import Diverged
from grid.errors import BrokenDevice
from grid.plan.ids import config_json
from grid.store.folder import Store, now
from grid.trial.assignment import Assignment
from grid.trial.attempt import Attempt


@dataclass(frozen=True)
class Fault:
    """How a trial ended that is not complete, and why."""

    kind: Literal["diverged", "failed", "out of memory", "broken device"]
    reason: str


def fault_of(assignment: Assignment, attempt: Attempt, error: BaseException) -> Fault:
    """Tell what an exception of the trial means for it."""
    if isinstance(error, Diverged):
        return Fault("diverged", f"{error}")
    if (broken := broken_device_error(error)) is not None:
        return Fault("broken device", error_line(broken))
    retry = is_out_of_memory(error) and not assignment.alone
    return Fault("out of memory" if retry else "failed", _reason(assignment, attempt, error))


def leave_device(assignment: Assignment, fault: Fault | None) -> None:
    """Return the memory that the trial had: its process may wait long for the next one.

    Raises `BrokenDevice` if the process can use its GPU no more.
    """
    if fault and fault.kind == "broken device":
        raise BrokenDevice(fault.reason)
    if fault is None and assignment.device == "cpu":
        return
    try:
        if fault and fault.kind == "out of memory":
            drop_resident()
        release_unused_memory()
    except RuntimeError as error:
        if broken_device_error(error) is None:
            raise
        raise BrokenDevice(error_line(error)) from None


def _reason(assignment: Assignment, attempt: Attempt, error: BaseException) -> str:
    """Return a line on the trial's failure; if memory ran out, with the amount needed."""
    if not is_out_of_memory(error):
        return error_line(error)
    device = torch.device(assignment.device)
    attempt.row["peak_memory_mib"] = needed = needed_mib(error, device)
    has = device_memory_mib(device)
    return (
        f"out of memory{', with nothing else on the device' if assignment.alone else ''}: "
        f"it needs {needed:,.0f} MiB or more{f' of {has:,.0f}' if has else ''}"
    )


def write_log(store: Store, assignment: Assignment, error: BaseException) -> None:
    """Store the traceback of a fault under `logs/`."""
    about = (
        f"{now().isoformat()} {assignment.trial.trial_id} {config_json(assignment.trial.config)}\n"
    )
    text = about + error_report(error)
    store.files.write(store.log(assignment.trial.trial_id), text.encode())
