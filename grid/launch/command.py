"""The command of a job, `cnngrid run`, and the copy of the sweep file that it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from grid.plan.plan import Plan
from grid.store.folder import now

# A job runs a copy, so that later edits of the sweep file do not change a job that waits.
SWEEP_FILE = "sweep.yaml"


def run_arguments(
    plan: Plan,
    sweep: str | Path,
    results: str | Path,
    data_dir: Path | None,
    changes: Sequence[str],
    *,
    code: Path | None = None,
    same_code: bool = False,
) -> list[str]:
    """Return the arguments with which `cnngrid` runs a plan's sweep on the cluster.

    `sweep` is the path of the copy there. Without `data_dir`, the cluster's default is used. `code`
    is the stored copy of the user's own code, which every start of the job runs.
    """
    arguments = ["run", str(sweep), "--results", str(results)]
    if data_dir is not None:
        arguments += ["--data", str(data_dir)]
    for change in changes:
        arguments += ["--set", change]
    if plan.skip_unreadable:
        arguments.append("--skip-unreadable")
    if same_code:
        arguments.append("--same-code")
    if code is not None:
        arguments += ["--code", str(code)]
    return arguments


def launch_id() -> str:
    """Return a new id for a launch: the time in UTC and four random hexadecimal digits."""
    return f"{now():%Y%m%dT%H%M%S}-{os.urandom(2).hex()}"
