"""A sweep as a Slurm job, which runs it by `cnngrid run --address`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.results.location import as_folder, is_address
from cluster.errors import ClusterError
from cluster.job import Allocation, Job
from cluster.security import write_private
from cluster.slurm import log_path, sbatch_script
from cluster.slurm import submit as submit_to_slurm
from grid.errors import GridError, ResultsError
from grid.lock.hold import drivers_alive
from grid.phrases import counted
from grid.plan.plan import Plan
from grid.store.folder import Store, now


@dataclass(frozen=True)
class Launch:
    """What a sweep is launched with, beside the plan."""

    results: Path
    data_dir: Path
    changes: Sequence[str] = ()
    env_setup: Path | None = None
    stop_before_s: int = 120


def as_shared_folder(results: str) -> Path:
    """Where a Slurm job's results folders are; raises `GridError` for an address."""
    if is_address(results):
        raise GridError(
            f"--results {results}: a Slurm job keeps its script and its logs beside the results, "
            "so it wants a folder that all nodes see"
        )
    return as_folder(results)


def slurm_job(plan: Plan, launch: Launch, allocation: Allocation) -> Job:
    """The job that runs a plan's sweep; raises `GridError` where a trial does not fit a node."""
    resources = plan.spec.resources
    if resources.cpus > allocation.cpus_per_node:
        raise GridError(
            f"--cpus-per-node {allocation.cpus_per_node}: a trial wants {resources.cpus} CPU "
            "cores (resources.cpus)"
        )
    if resources.gpus != "auto" and resources.gpus > allocation.gpus_per_node:
        raise GridError(
            f"--gpus-per-node {allocation.gpus_per_node}: a trial wants {resources.gpus:g} GPUs "
            "(resources.gpus)"
        )
    if launch.env_setup and not launch.env_setup.is_file():
        raise GridError(f"--env-setup {launch.env_setup}: no such file")
    here, results, data = Path.cwd(), launch.results.absolute(), launch.data_dir.absolute()
    folder = results / plan.folder
    own = folder / "run" / "slurm" / f"{now():%Y%m%dT%H%M%S}-{os.urandom(2).hex()}"
    nodes = allocation.nodes
    command = ["cnngrid", "run", str(own / "sweep.yaml")]
    command += ["--results", str(results), "--data", str(data)]
    for change in launch.changes:
        command += ["--set", change]
    if plan.skip_unreadable:
        command.append("--skip-unreadable")
    where = f"on {counted(nodes, 'node')}"
    if allocation.array:
        command.append("--share")
        where = f"shared by {counted(allocation.array, 'job')} {where}" + (" each" * (nodes > 1))
    return Job(
        name=plan.folder,
        title=f"The sweep {plan.folder}, {plan.planned} trials, {where}.",
        command=tuple(command),
        allocation=allocation,
        folder=own,
        start_in=here,
        logs=folder / "logs",
        shared=(here, own, data),
        progress=(folder / "trials", folder / "checkpoints"),
        programs=Path(sys.executable).parent,
        env_setup=launch.env_setup.absolute() if launch.env_setup else None,
        stop_before_s=launch.stop_before_s,
    )


def job_script(job: Job) -> str:
    """The script of a job; `GridError` where one of its options cannot be part of it."""
    try:
        return sbatch_script(job)
    except ValueError as problem:
        raise GridError(str(problem)) from None


def launch_slurm(plan: Plan, launch: Launch, job: Job) -> str:
    """Write a job's folder and submit it; returns what to tell the user."""
    text = job_script(job)
    store = Store(launch.results / plan.folder)
    store.check_usable(plan.spec.sweep)
    script = job.folder / "job.sh"
    try:
        launch.data_dir.mkdir(parents=True, exist_ok=True)
        job.logs.mkdir(parents=True, exist_ok=True)
        job.folder.mkdir(parents=True)
        job.folder.chmod(0o700)
        # A copy, so that later edits of the file do not change a job that waits.
        sweep = plan.spec.source.text or plan.spec.model_dump_json(indent=2)
        write_private(job.folder / "sweep.yaml", sweep, mode=0o600)
        write_private(script, text, mode=0o700)
    except OSError as error:
        raise ResultsError(f"{error.filename}: cannot be written ({error.strerror})") from None
    try:
        job_id = submit_to_slurm(script)
    except ClusterError as problem:
        script.unlink()
        (job.folder / "sweep.yaml").unlink()
        job.folder.rmdir()
        raise GridError(str(problem)) from None
    log = log_path(job, job_id)
    shown = os.path.relpath(log)
    shown = shown if not shown.startswith("..") else str(log)
    drivers = drivers_alive(store)
    return "\n".join(
        [
            f"job {job_id}: {job.title}",
            f"  cnngrid status {shlex.quote(str(store.folder))}",
            f"  squeue --jobs {job_id}",
            f"  tail -F {shown if job.allocation.array else shlex.quote(shown)}",
            f"  scancel {job_id}    # what finished is kept; launch again to go on",
            *(
                f"process {driver['pid']} on {driver['host']} holds the folder: it must end first"
                for driver in drivers
            ),
        ]
    )
