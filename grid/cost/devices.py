"""GPUs of this machine: what they are called, why there are none, what they cannot do."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from grid.errors import SweepError
from grid.plan.plan import Plan
from grid.sweep.spec import Resources
from grid.trial.network_check import unfinished_configs

# NVIDIA's driver makes the first, AMD's the second, WSL the third.
GPU_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")
# How nvidia-smi and CUDA_VISIBLE_DEVICES name a slice of a GPU that is divided by MIG.
SLICE = "MIG-"


def may_have_gpu() -> bool:
    """Check for a GPU's device file: without one torch, a second's import, is not needed."""
    return not sys.platform.startswith("linux") or any(
        list(Path("/dev").glob(pattern)) for pattern in GPU_DEVICES
    )


def count_gpus() -> int:
    """Count the GPUs that trials can use, each slice of one as a whole.

    CUDA shows a process one slice alone, but Ray gives each of its processes another.
    """
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    slices = [name for name in listed if name.strip().startswith(SLICE)]
    return max(count, len(slices)) if (count := torch.cuda.device_count()) else 0


def gpu_names() -> str:
    """Return the visible GPUs in words, such as `2 x NVIDIA H100 80GB HBM3`."""
    import torch

    names = Counter(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    texts = [f"{count} x {name}" if count > 1 else name for name, count in names.items()]
    slices = " (a slice: its energy cannot be told from the others')"
    return ", ".join(f"{text}{slices if 'MIG' in text else ''}" for text in texts)


def why_no_gpu() -> str:
    """Return the reason why PyTorch uses no GPU, for a machine that seems to have one."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is built for CPUs alone: install one built for CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides all GPUs: unset it"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        if visible is None or "driver" in str(error):
            return (str(error).strip().splitlines() or ["PyTorch does not say why"])[0]
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible} names no GPU of this machine (see nvidia-smi -L)"
    return "CUDA finds none: see nvidia-smi"


def device_notes(plan: Plan, device: str) -> list[str]:
    """Return remarks on the device of a plan's trials.

    Raises `SweepError` if it does not have a precision that the plan asks for.
    """
    if device != "cuda":
        if (note := _unused_gpu(plan.spec.resources)) is not None:
            return [note, *_precision_notes(plan, device)]
        return _precision_notes(plan, device)
    return [f"trials run on {gpu_names()}", *_precision_notes(plan, device)]


def _unused_gpu(resources: Resources) -> str | None:
    """Return a remark on a GPU that `gpus: auto` cannot use."""
    if resources.gpus != "auto" or not sys.platform.startswith("linux") or not may_have_gpu():
        return None
    return f"this machine has a GPU, but trials run on the CPU: {why_no_gpu()}"


def _precision_notes(plan: Plan, device: str) -> list[str]:
    """Return a remark on slow bf16; raise `SweepError` for a precision that is not there."""
    precisions = _precisions(plan)
    if not precisions & {"tf32", "bf16"}:
        return []
    from cnncore.training.float32 import before_ampere, why_no_tf32

    if "tf32" in precisions and (why := why_no_tf32(device)):
        place = plan.spec.source.position(plan.resolver.key_path("precision"))
        raise SweepError([f"{place}: tf32: {why}"])
    old = before_ampere() if device == "cuda" and "bf16" in precisions else []
    return [
        f"precision bf16: {name} computes it in software, slower than fp32 (GPUs have it from "
        "Ampere on)"
        for name in dict.fromkeys(old)
    ]


def _precisions(plan: Plan) -> set[str]:
    """Return every precision that a trial of the plan may have."""
    axis = plan.spec.tune.axes.get("precision") if plan.spec.tune else None
    tuned = {str(value) for value in getattr(axis, "values", ())}
    return tuned | {config.precision for config in unfinished_configs(plan, ())}
