"""Slots of a machine: the trials that run at a time, and their device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from heapq import heapreplace

from cnncore.processors import machine_cpus
from grid.cost.devices import count_gpus, may_have_gpu, why_no_gpu
from grid.errors import GridError
from grid.phrases import counted
from grid.sweep.spec import Resources


def pick_device(resources: Resources) -> str:
    """Return `cuda` if a GPU exists and the sweep does not refuse it, else `cpu`."""
    wants_gpu = resources.gpus == "auto" or resources.gpus > 0
    why = "no GPU's driver"
    if wants_gpu and may_have_gpu():
        import torch

        if torch.cuda.is_available():
            return "cuda"
        why = why_no_gpu()
    if resources.gpus != "auto" and resources.gpus > 0:
        raise GridError(
            f"resources.gpus: {resources.gpus:g} of a GPU a trial, but PyTorch finds no GPU here "
            f"({why}); set it to 0 or auto"
        )
    return "cpu"


def check_thread_limit(resources: Resources) -> None:
    """Raise `GridError` if the environment allows fewer threads than a trial asks for."""
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdigit() and int(limit) < resources.cpus:
        raise GridError(
            f"OMP_THREAD_LIMIT={limit} in the environment allows fewer threads than resources.cpus "
            f"({resources.cpus}), so the numbers would be others; unset it"
        )


def gpus_per_trial(resources: Resources, device: str) -> float:
    """Return the share of a GPU that a trial has, from 0 to 1; `auto` is a whole one."""
    if device != "cuda":
        return 0.0
    return 1.0 if resources.gpus == "auto" else float(resources.gpus)


def count_slots(resources: Resources, slots: int | None, device: str) -> int:
    """Count the trials at a time on this machine. Raises `GridError` if `slots` are too many."""
    cpus = machine_cpus()
    most = cpus // resources.cpus
    if most < 1:
        raise GridError(
            f"resources.cpus: a trial wants {resources.cpus} CPU cores, this machine has {cpus}"
        )
    short = f"{counted(cpus, 'CPU core')}, and a trial takes {resources.cpus} (resources.cpus)"
    if device == "cuda":
        gpus = count_gpus()
        if (fit := gpus * resources.trials_per_gpu) < most:
            most, share = fit, gpus_per_trial(resources, device)
            short = f"{counted(gpus, 'GPU')}, and a trial takes {share:g} of one (resources.gpus)"
    if slots is None:
        return most
    if slots > most:
        raise GridError(
            f"--slots {slots}: this machine takes {counted(most, 'trial')} at a time: it has "
            f"{short}"
        )
    return slots


def makespan_s(durations: Sequence[float], slots: int) -> float:
    """Return the seconds until the last trial ends, each started on the first slot that is free."""
    free_at = [0.0] * max(min(slots, len(durations)), 1)
    for seconds in durations:
        heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)
