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
from cluster.gpus import count_gpus, gpus_of_options, option_names
from cluster.job import Allocation, Job
from cluster.security import write_private
from cluster.slurm import log_path, sbatch_script, submit
from grid.code.stored import FOLDER, store_code
from grid.errors import GridError, ResultsError
from grid.launch.command import SWEEP_FILE, launch_id, run_arguments
from grid.lock.hold import drivers_alive
from grid.phrases import counted
from grid.plan.plan import Plan
from grid.store.folder import Store

# Options of sbatch that the job's script must know, so they are ours.
OURS = {
    **dict.fromkeys(("array", "a"), "--array"),
    **dict.fromkeys(("nodes", "N"), "--nodes"),
    **dict.fromkeys(("cpus-per-task", "c", "ntasks", "n", "ntasks-per-node"), "--cpus-per-node"),
}


@dataclass(frozen=True)
class Launch:
    """The options of a launch, beside the plan and the allocation."""

    results: Path
    data_dir: Path
    changes: Sequence[str] = ()
    env_setup: Path | None = None
    stop_before_s: int = 120
    same_code: bool = False


def as_shared_folder(results: str) -> Path:
    """Return the parent of results folders as a path; raise `GridError` for an address."""
    if is_address(results):
        raise GridError(
            f"--results {results}: a Slurm job keeps its script and its logs beside the results, "
            "so it wants a folder that all nodes see"
        )
    return as_folder(results)


def request_gpus(gpus_per_node: str | None, extra: Sequence[str]) -> tuple[int, str | None]:
    """Return the GPUs of a node, and the value of `--gpus-per-node` for sbatch.

    That is None if options of `extra` ask for them, as at sites that know `--gres` only. Raises
    `GridError` for options that contradict each other or that are the script's own.
    """
    for name in sorted(option_names(extra) & set(OURS)):
        dashes = "-" if len(name) == 1 else "--"
        raise GridError(f"--extra {dashes}{name}: the job must know it; give {OURS[name]} instead")
    try:
        by_options = gpus_of_options(extra)
    except ValueError as problem:
        if gpus_per_node is None:
            raise GridError(str(problem)) from None
        by_options = None
    try:
        given = None if gpus_per_node is None else count_gpus(gpus_per_node)
    except ValueError as problem:
        raise GridError(f"--gpus-per-node {problem}") from None
    if by_options is None:
        return given or 0, gpus_per_node if given else None
    if given not in (None, by_options):
        raise GridError(
            f"--gpus-per-node {gpus_per_node}: --extra asks for {counted(by_options, 'GPU')} on "
            "each node; leave one of them out"
        )
    return by_options, None


def slurm_job(plan: Plan, launch: Launch, allocation: Allocation) -> Job:
    """Return the job that runs a plan's sweep; raise `GridError` if a trial does not fit a node."""
    _check(plan, launch, allocation)
    start_in, results, data_dir = Path.cwd(), launch.results.absolute(), launch.data_dir.absolute()
    results_folder = results / plan.folder
    job_folder = results_folder / "run" / "slurm" / launch_id()
    code = results_folder / FOLDER / plan.sources.folder if plan.sources else None
    arguments = run_arguments(
        plan,
        job_folder / SWEEP_FILE,
        results,
        data_dir,
        launch.changes,
        code=code,
        same_code=launch.same_code,
    )
    nodes = allocation.nodes
    machines = f"on {counted(nodes, 'node')}"
    if allocation.array:
        arguments.append("--share")
        each = " each" if nodes > 1 else ""
        machines = f"shared by {counted(allocation.array, 'job')} {machines}{each}"
    return Job(
        name=plan.folder,
        title=f"The sweep {plan.folder}, {plan.planned} trials, {machines}.",
        command=("cnngrid", *arguments),
        allocation=allocation,
        folder=job_folder,
        start_in=start_in,
        logs=results_folder / "logs",
        shared=(start_in, job_folder, data_dir),
        progress=(results_folder / "trials", results_folder / "checkpoints"),
        python=Path(sys.executable),
        env_setup=launch.env_setup.absolute() if launch.env_setup else None,
        stop_before_s=launch.stop_before_s,
    )


def _check(plan: Plan, launch: Launch, allocation: Allocation) -> None:
    """Raise `GridError` if a trial does not fit a node or a file is missing."""
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


def job_script(job: Job) -> str:
    """Return the script of a job; raise `GridError` if one of its options cannot be part of it."""
    try:
        return sbatch_script(job)
    except ValueError as problem:
        raise GridError(str(problem)) from None


def launch_slurm(plan: Plan, launch: Launch, job: Job) -> str:
    """Write a job's folder and submit the job; return the message for the user."""
    text = job_script(job)
    store = Store(launch.results / plan.folder)
    store.check_usable(plan.spec.sweep)
    script, sweep = job.folder / "job.sh", job.folder / SWEEP_FILE
    try:
        launch.data_dir.mkdir(parents=True, exist_ok=True)
        job.logs.mkdir(parents=True, exist_ok=True)
        job.folder.mkdir(parents=True)
        if plan.sources:  # later edits do not change a job that waits or is queued again
            store_code(store, plan.sources)
        job.folder.chmod(0o700)
        write_private(sweep, plan.spec.text, mode=0o600)
        write_private(script, text, mode=0o700)
    except OSError as error:
        raise ResultsError(f"{error.filename}: cannot be written ({error.strerror})") from None
    try:
        job_id = submit(script)
    except ClusterError as problem:
        script.unlink()
        sweep.unlink()
        job.folder.rmdir()
        raise GridError(str(problem)) from None
    return _message(job, job_id, store)


def _message(job: Job, job_id: str, store: Store) -> str:
    """Return the message after a submission: commands to watch and to cancel the job."""
    path = log_path(job, job_id)
    relative = os.path.relpath(path)
    log = str(path) if relative.startswith("..") else relative
    return "\n".join(
        [
            f"job {job_id}: {job.title}",
            f"  cnngrid status {shlex.quote(str(store.folder))}",
            f"  squeue --jobs {job_id}",
            # The name of an array's log is a pattern for the shell.
            f"  tail -F {log if job.allocation.array else shlex.quote(log)}",
            f"  scancel {job_id}    # what finished is kept; launch again to go on",
            *(
                f"process {driver['pid']} on {driver['host']} holds the folder: it must end first"
                for driver in drivers_alive(store)
            ),
        ]
    )
