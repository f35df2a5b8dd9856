"""The sub-commands `launch slurm` and `launch ray`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grid.cli.options import (
    Changes,
    DataDir,
    ResultsDir,
    SameCode,
    SkipUnreadable,
    Sweep,
    plan_sweep,
)
from grid.screen import print

launch = typer.Typer(
    help="Run a sweep on a cluster; returns at once with the job's id.", no_args_is_help=True
)
SbatchOption = Annotated[str | None, typer.Option(help="Passed to sbatch under the same name.")]


@launch.command("slurm")
def launch_slurm(
    sweep: Sweep,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the job.")] = 1,
    array: Annotated[
        int | None,
        typer.Option(min=1, help="Number of jobs that share the sweep, each of --nodes."),
    ] = None,
    gpus_per_node: Annotated[
        str | None, typer.Option(help="GPUs on each node, such as 2 or a100:2 (default: none).")
    ] = None,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="CPU cores on each node (default: for one trial).")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, such as 8:00:00.")] = None,
    partition: SbatchOption = None,
    account: SbatchOption = None,
    qos: SbatchOption = None,
    constraint: SbatchOption = None,
    env_setup: Annotated[
        Path | None, typer.Option(help="A shell file that the job sources first.")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="A further option of sbatch; repeatable.")
    ] = None,
    stop_before: Annotated[
        int, typer.Option(min=1, help="Seconds before the time limit at which trials are saved.")
    ] = 120,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the script.")] = False,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    same_code: SameCode = False,
) -> None:
    """Run a sweep as a Slurm job, which requeues itself at the time limit while work is left."""
    from cluster.job import Allocation
    from grid.api import default_data_dir
    from grid.launch.slurm import (
        Launch,
        as_shared_folder,
        job_script,
        launch_slurm,
        request_gpus,
        slurm_job,
    )

    gpus, gpu_request = request_gpus(gpus_per_node, extra or ())
    spec, plan = plan_sweep(
        sweep,
        change,
        data,
        skip_unreadable,
        download=not dry_run,
        results=results,
        same_code=same_code,
    )
    trials = gpus * spec.resources.trials_per_gpu
    cpus = cpus_per_node or spec.resources.cpus * max(trials, 1)
    options = (gpu_request, time, partition, account, qos, constraint, tuple(extra or ()))
    settings = Launch(
        as_shared_folder(results),
        data or default_data_dir(),
        change or (),
        env_setup,
        stop_before,
        same_code,
    )
    job = slurm_job(plan, settings, Allocation(nodes, array, cpus, gpus, *options))
    print(job_script(job) if dry_run else launch_slurm(plan, settings, job))


@launch.command("ray")
def launch_ray(
    sweep: Sweep,
    address: Annotated[str, typer.Option(help="The cluster's dashboard: http://HOST:8265.")],
    results: Annotated[
        str, typer.Option(help="A folder that all nodes see, absolute; or s3://bucket/prefix.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the data sets on the nodes.")
    ] = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    same_code: SameCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the job.")] = False,
) -> None:
    """Run a sweep as a job of a Ray cluster; code and sweep file travel there."""
    from grid.launch.ray import launch_ray, ray_job, ray_job_text

    # The folder is one of the cluster; this machine may see it too.
    local_data = data if data and data.is_dir() else None
    _, plan = plan_sweep(sweep, change, local_data, skip_unreadable, download=not dry_run)
    job = ray_job(plan, results, data, change or (), same_code=same_code)
    if dry_run:
        print(ray_job_text(plan, job, address))
    else:
        print(launch_ray(plan, results, job, address))
