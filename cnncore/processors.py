"""CPU cores that this process may use: fewer than the machine's in a container."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def machine_cpus() -> int:
    """Count the CPU cores of this process: its affinity, and the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cgroup_quota()
    # A trial counts on whole cores, so half of one more is none.
    return cpus if quota is None else min(cpus, max(int(quota), 1))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU time that the kernel grants per unit of time, None without a limit.

    The least quota counts, of this process's control group and those around it as far as they can
    be seen, in versions 1 and 2. `root` is the root of the file system.
    """
    quotas = [quota for folder in _cgroups(root) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups for CPU time, each with its parents."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux
        return
    path_of = {}  # by the type of file system
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:
            path_of["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            path_of["cgroup"] = path
    for mount in mounts:
        # The manual of /proc/PID/mountinfo names these fields.
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind not in path_of or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top, point = before.split()[3:5]
        mounted = root / point.lstrip("/")
        folder = mounted / _below(path_of[kind], top)
        while True:
            yield folder
            if folder == mounted:
                break
            folder = folder.parent


def _below(path: str, top: str) -> str:
    """Return a control group's path below the one that is mounted, empty if it is not below it."""
    inside = path == top or path.startswith(top.rstrip("/") + "/")
    if not inside or ".." in path.split("/"):
        return ""
    return path.removeprefix(top).strip("/")


def _quota(folder: Path) -> float | None:
    """Return the quota of one control group, None if it has none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = (
            (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")
            for name in ("quota", "period")
        )
        return None if int(quota) <= 0 else int(quota) / int(period)
    return None
