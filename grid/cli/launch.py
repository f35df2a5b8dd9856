"""The sub-commands that run a sweep on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grid.cli.options import Changes, DataDir, ResultsDir, SkipUnreadable, Sweep, planned

launch = typer.Typer(
    help="Run a sweep on a cluster; returns at once with the job's id.", no_args_is_help=True
)
_Asked = Annotated[str | None, typer.Option(help="As sbatch's option of this name.")]


@launch.command("slurm")
def launch_slurm(
    sweep: Sweep,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the job.")] = 1,
    array: Annotated[
        int | None, typer.Option(min=1, help="So many jobs that share the sweep, each of --nodes.")
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="GPUs on each node.")] = 0,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="CPU cores on each node [default: one trial's].")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, such as 8:00:00.")] = None,
    partition: _Asked = None,
    account: _Asked = None,
    qos: _Asked = None,
    constraint: _Asked = None,
    env_setup: Annotated[
        Path | None, typer.Option(help="A shell file that the job sources first.")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="A further option of sbatch; repeatable.")
    ] = None,
    stop_before: Annotated[
        int, typer.Option(min=1, help="Seconds before the time limit at which trials are saved.")
    ] = 120,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, no more.")] = False,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Run a sweep as a Slurm job, which requeues itself at the time limit while work is left."""
    from cluster.job import Allocation
    from grid.api import default_data_dir
    from grid.launch.slurm import Launch, as_shared_folder, job_script, launch_slurm, slurm_job

    spec, plan_ = planned(sweep, change, data, skip_unreadable, download=not dry_run)
    cpus = cpus_per_node or spec.resources.cpus * max(gpus_per_node, 1)
    asked = (time, partition, account, qos, constraint, tuple(extra or ()))
    settings = Launch(
        as_shared_folder(results), data or default_data_dir(), change or (), env_setup, stop_before
    )
    job = slurm_job(plan_, settings, Allocation(nodes, array, cpus, gpus_per_node, *asked))
    print(job_script(job) if dry_run else launch_slurm(plan_, settings, job))


@launch.command("ray")
def launch_ray(
    sweep: Sweep,
    address: Annotated[str, typer.Option(help="The cluster's dashboard: http://HOST:8265.")],
    results: Annotated[
        str, typer.Option(help="A folder that all nodes see, absolute; or s3://bucket/prefix.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Where data sets are, on the nodes.")
    ] = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job, no more.")] = False,
) -> None:
    """Run a sweep as a job of a Ray cluster; code and sweep file travel there."""
    from grid.launch.ray import launch_ray, ray_job, ray_job_text

    here = data if data and data.is_dir() else None
    _, plan_ = planned(sweep, change, here, skip_unreadable, download=not dry_run)
    job = ray_job(plan_, results, data, change or ())
    if dry_run:
        print(ray_job_text(plan_, job, address))
    else:
        print(launch_ray(plan_, results, job, address))
