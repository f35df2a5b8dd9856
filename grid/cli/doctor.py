"""Checks of this machine for `cnngrid doctor`, each with a remedy."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cnncore.processors import machine_cpus
from grid.api import default_data_dir

PACKAGES = ("grid", "cnncore", "cluster", "analysis")


@dataclass(frozen=True)
class CheckResult:
    """The result of one check, and what to do if it failed."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def check_machine() -> Iterator[CheckResult]:
    """Yield the results of all checks; a failure explains failures that come after it."""
    for check in (_python, _import_names, _torch, _libraries, _processor, _gpu, _data, _results):
        yield check()


def _python() -> CheckResult:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    return CheckResult("python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")


def _import_names() -> CheckResult:
    """Check that no other distribution has our import names, which are common words.

    Such a distribution may have overwritten our files.
    """
    owners = metadata.packages_distributions()
    clashes = {
        name: others
        for name in PACKAGES
        if (others := sorted({owner for owner in owners.get(name, []) if owner != "cnngrid"}))
    }
    if not clashes:
        return CheckResult("import names", True, f"{', '.join(PACKAGES)} are cnngrid's alone")
    detail = "; ".join(f"{name} is also in {', '.join(others)}" for name, others in clashes.items())
    return CheckResult(
        "import names", False, detail, "install cnngrid in a virtual environment of its own"
    )


def _torch() -> CheckResult:
    """Check that torch and torchvision can be imported together."""
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken install raises anything
        return CheckResult("torch", False, _first_line(error), "pip install torch torchvision")
    try:
        vision = importlib.import_module("torchvision")
    except Exception as error:
        remedy = "install the pair together: pip install --force-reinstall torch torchvision"
        if "nms does not exist" in str(error):
            remedy = f"torch {torch.__version__} does not go with this torchvision; {remedy}"
        return CheckResult("torch", False, _first_line(error), remedy)
    return CheckResult(
        "torch", True, f"torch {torch.__version__}, torchvision {vision.__version__}"
    )


def _libraries() -> CheckResult:
    """Check that the other large libraries are installed, without importing them."""
    names = ("ray", "optuna", "pyarrow", "duckdb", "altair")
    present, missing = [], []
    for name in names:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return CheckResult("libraries", False, f"no {', '.join(missing)}", "pip install cnngrid")
    return CheckResult("libraries", True, ", ".join(present))


def _processor() -> CheckResult:
    """Report the number of CPU cores and if the processor computes bf16 fast."""
    flags = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        line = next((line for line in text.splitlines() if line.startswith("flags")), "")
        flags = set(line.partition(":")[2].split())
    bf16 = "fast" if flags & {"avx512_bf16", "amx_bf16"} else "slow: use precision fp32"
    return CheckResult("processor", True, f"{machine_cpus()} CPU cores, bf16 {bf16}")


def _gpu() -> CheckResult:
    """Report the GPUs; a machine without any passes, one that cannot be used does not."""
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return CheckResult("gpu", True, "unknown without torch")
    from cnncore.training.float32 import before_ampere
    from grid.cost.devices import gpu_names, may_have_gpu, why_no_gpu

    if torch.cuda.is_available():
        old = "; no TF32, and bf16 in software: use precision fp32" if before_ampere() else ""
        return CheckResult("gpu", True, f"{gpu_names()}{old}")
    if not (sys.platform.startswith("linux") and may_have_gpu()):
        return CheckResult("gpu", True, "none; trials run on the CPU")
    remedy = "gpus: auto takes the CPU, so resources.gpus: 0 is the same"
    return CheckResult("gpu", False, f"it cannot be used: {why_no_gpu()}", remedy)


def _data() -> CheckResult:
    """Check that the data folder, or the first parent that exists, is writable."""
    folder = default_data_dir()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(parent, os.W_OK)
    state = "" if folder.exists() else " (created on first use)"
    return CheckResult(
        "data folder", writable, f"{folder}{state}", "set CNNGRID_DATA to a folder you can write"
    )


def _results() -> CheckResult:
    """Check that the working directory, in which `results` is created, is writable."""
    folder = Path.cwd()
    writable = os.access(folder, os.W_OK)
    return CheckResult(
        "results folder", writable, str(folder / "results"), "change to a writable folder"
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
