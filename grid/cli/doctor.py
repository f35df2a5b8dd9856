"""Whether this machine can run a sweep: one check a line, each with what to do about it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from grid.api import default_data_dir
from grid.cost.slots import machine_cpus

OURS = ("grid", "cnncore", "cluster", "analysis")


@dataclass(frozen=True)
class Finding:
    """One check: fine or not, what was found, and what to do where it is not."""

    name: str
    fine: bool
    found: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """All checks, in the order in which a failure explains the ones after it."""
    for check in (_python, _import_names, _torch, _libraries, _processor, _gpu, _data, _results):
        yield check()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")


def _import_names() -> Finding:
    """Our import names are common words; another distribution may have overwritten them."""
    owners = metadata.packages_distributions()
    clashes = {
        name: others
        for name in OURS
        if (others := sorted({o for o in owners.get(name, []) if o != "cnngrid"}))
    }
    if not clashes:
        return Finding("import names", True, f"{', '.join(OURS)} are cnngrid's alone")
    listed = "; ".join(f"{name} is also in {', '.join(o)}" for name, o in clashes.items())
    return Finding(
        "import names", False, listed, "install cnngrid in a virtual environment of its own"
    )


def _torch() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken install raises anything
        return Finding("torch", False, _first_line(error), "pip install torch torchvision")
    try:
        vision = importlib.import_module("torchvision")
    except Exception as error:
        remedy = "install the pair together: pip install --force-reinstall torch torchvision"
        if "nms does not exist" in str(error):
            remedy = f"torch {torch.__version__} does not go with this torchvision; {remedy}"
        return Finding("torch", False, _first_line(error), remedy)
    return Finding("torch", True, f"torch {torch.__version__}, torchvision {vision.__version__}")


def _libraries() -> Finding:
    names = ("ray", "optuna", "pyarrow", "duckdb", "altair")
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("libraries", False, f"no {', '.join(missing)}", "pip install cnngrid")
    return Finding("libraries", True, ", ".join(found))


def _processor() -> Finding:
    flags = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        line = next((row for row in text.splitlines() if row.startswith("flags")), "")
        flags = set(line.partition(":")[2].split())
    quick = "fast" if flags & {"avx512_bf16", "amx_bf16"} else "slow: use precision fp32"
    return Finding("processor", True, f"{machine_cpus()} CPU cores, bf16 {quick}")


def _gpu() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return Finding("gpu", True, "unknown without torch")
    if not torch.cuda.is_available():
        return Finding("gpu", True, "none; trials run on the CPU")
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return Finding("gpu", True, ", ".join(names))


def _data() -> Finding:
    folder = default_data_dir()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    fine = os.access(parent, os.W_OK)
    state = "" if folder.exists() else " (made on first use)"
    return Finding(
        "data folder", fine, f"{folder}{state}", "set CNNGRID_DATA to a folder you can write"
    )


def _results() -> Finding:
    here = Path.cwd()
    fine = os.access(here, os.W_OK)
    return Finding("results folder", fine, str(here / "results"), "change to a writable folder")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
