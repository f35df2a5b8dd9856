"""The command `cnngrid`; every sub-command imports what it needs, so that each starts quickly."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.answers import compact, plot, report, sql, table
from grid.control import logs, stop
from grid.explain import explain
from grid.listings import archs, datasets, doctor, init, presets, schema
from grid.status import status
from grid.terminal import fail, print_outcome

if TYPE_CHECKING:
    from grid.plan import Plan
    from grid.spec import SweepSpec

app = typer.Typer(
    name="cnngrid",
    help="Fair comparisons of convolutional networks: one sweep file in, tables and figures out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sweep = Annotated[str, typer.Argument(help="A sweep file, or the name of a preset.")]
ResultsDir = Annotated[
    str, typer.Option("--results", help="Where results folders are; s3://bucket/prefix too.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="Where data sets are [default: $CNNGRID_DATA, else ~/.cache]."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a fixed setting; repeatable."),
]


class Retry(StrEnum):
    """Which trials to run again."""

    FAILED = "failed"
    DIVERGED = "diverged"
    ALL = "all"

    @property
    def states(self) -> frozenset[str]:
        return frozenset(("failed", "diverged") if self is Retry.ALL else (self.value,))


class OnError(StrEnum):
    """Whether a sweep goes on after a failed trial."""

    CONTINUE = "continue"
    STOP = "stop"


SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")
]


def main() -> None:
    """Run the command; problems a user can cause end it with a short message and exit code 2."""
    from grid.errors import GridError

    # `--retry` alone once was all there was.
    words = sys.argv[1:]
    for place in range(len(words), 0, -1):
        if words[place - 1] == "--retry" and words[place : place + 1] not in [[r] for r in Retry]:
            words.insert(place, Retry.FAILED.value)
    try:
        app(words, standalone_mode=True)
    except GridError as problem:
        fail(str(problem), problem.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; everything that finished is kept", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"cnngrid {version('cnngrid')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fair comparisons of convolutional networks."""


@app.command()
def run(
    sweep: Sweep,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    slots: Annotated[int | None, typer.Option(min=1, help="Trials at a time.")] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster's address.")] = None,
    retry: Annotated[
        Retry | None,
        typer.Option("--retry", help="Run trials again that ended so."),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="What a failed trial means for the rest.")
    ] = OnError.CONTINUE,
    share: Annotated[
        bool,
        typer.Option(
            "--share", help="Beside other runs of the same sweep: each takes what nobody else has."
        ),
    ] = False,
) -> None:
    """Plan a sweep, skip what is done, resume what was cut off, run the rest."""
    from rich.console import Console

    from grid.driver import RunOptions
    from grid.run import run_plan
    from grid.runner import default_data_dir

    if local and (slots or address):
        fail("--local runs one trial at a time here; leave --slots and --address out")
    _, plan = _plan(sweep, change, data, skip_unreadable, download=True)
    folder = (data or default_data_dir()).absolute()
    console = Console(stderr=True)
    states = retry.states if retry else frozenset()
    options = RunOptions(results, folder, local, slots, address, states, share, on_error.value)
    with _data_errors():
        summary = run_plan(plan, options, console)
    print_outcome(summary, Console())
    sys.exit(summary.exit_code)


@app.command()
def plan(
    sweep: Sweep,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    slots: Annotated[int | None, typer.Option(min=1, help="Trials at a time.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="The plan as JSON, a trial each.")] = False,
) -> None:
    """Show what a sweep would run, and what it costs; runs nothing."""
    from grid.cost import estimate
    from grid.plan_text import plan_json, plan_text
    from grid.runner import default_data_dir

    _, planned = _plan(sweep, change, data, skip_unreadable)
    if json_:
        print(plan_json(planned))
        return
    cost = estimate(planned, results, (data or default_data_dir()).absolute(), slots)
    print(plan_text(planned, results, cost))


@app.command()
def debug(
    sweep: Sweep,
    trial: Annotated[str | None, typer.Option(help="A trial's id, or its place from 0.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Run one trial in this process, without Ray; an exception opens the debugger."""
    import pdb
    import traceback

    from grid.debug import debug_trial, find_trial
    from grid.job import Job
    from grid.runner import default_data_dir
    from grid.slots import pick_device

    spec, planned = _plan(sweep, change, data, skip_unreadable, download=True)
    job = Job(
        trial=find_trial(planned, trial),
        sweep=spec.sweep,
        results="",
        data_dir=str(data or default_data_dir()),
        threads=spec.resources.cpus,
        device=pick_device(spec.resources),
        keep="none",
        keep_predictions="none",
        checkpoint_s=spec.checkpoint_s,
        git_commit=None,
        module_path=str(Path.cwd()),
        skip_unreadable=skip_unreadable,
    )
    try:
        for line in debug_trial(job, steps):
            print(line)
    except Exception as error:
        traceback.print_exc()
        if sys.stdin.isatty():
            pdb.post_mortem(error.__traceback__)
        sys.exit(1)


launch = typer.Typer(
    help="Run a sweep on a cluster; returns at once with the job's id.", no_args_is_help=True
)
app.add_typer(launch, name="launch")
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
    from grid.launch import Launch, as_shared_folder, job_script, launch_slurm, slurm_job
    from grid.runner import default_data_dir

    spec, planned = _plan(sweep, change, data, skip_unreadable, download=not dry_run)
    cpus = cpus_per_node or spec.resources.cpus * max(gpus_per_node, 1)
    asked = (time, partition, account, qos, constraint, tuple(extra or ()))
    settings = Launch(
        as_shared_folder(results), data or default_data_dir(), change or (), env_setup, stop_before
    )
    job = slurm_job(planned, settings, Allocation(nodes, array, cpus, gpus_per_node, *asked))
    print(job_script(job) if dry_run else launch_slurm(planned, settings, job))


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
    from grid.launch import launch_ray, ray_job, ray_job_text

    here = data if data and data.is_dir() else None
    _, planned = _plan(sweep, change, here, skip_unreadable, download=not dry_run)
    job = ray_job(planned, results, data, change or ())
    if dry_run:
        print(ray_job_text(planned, job, address))
    else:
        print(launch_ray(planned, results, job, address))


def _plan(
    sweep: str,
    changes: list[str] | None,
    data: Path | None,
    skip_unreadable: bool,
    *,
    download: bool = False,
) -> tuple[SweepSpec, Plan]:
    from grid.runner import make_plan
    from grid.spec import load_sweep, parse_changes

    spec = load_sweep(sweep)
    with _data_errors():
        planned = make_plan(
            spec,
            parse_changes(changes or [], spec),
            data_dir=data,
            download=download,
            skip_unreadable=skip_unreadable,
        )
    return spec, planned


@contextlib.contextmanager
def _data_errors() -> Iterator[None]:
    from cnncore.data import DataError

    try:
        yield
    except DataError as problem:
        fail(str(problem))


ANSWERS = (status, logs, sql, table, plot, report, explain, compact, stop)
LISTINGS = (presets, archs, datasets, schema, doctor, init)
for _command in (*ANSWERS, *LISTINGS):
    app.command()(_command)


if __name__ == "__main__":
    main()
