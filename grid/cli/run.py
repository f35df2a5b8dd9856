"""The sub-commands that run a sweep, or say what it would run."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from grid.cli.options import (
    Changes,
    DataDir,
    ResultsDir,
    SkipUnreadable,
    Sweep,
    data_errors,
    planned,
)
from grid.cli.terminal import fail, print_outcome


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

    from grid.api import default_data_dir
    from grid.run.driver import RunOptions
    from grid.run.session import run_plan

    if local and (slots or address):
        fail("--local runs one trial at a time here; leave --slots and --address out")
    _, plan = planned(sweep, change, data, skip_unreadable, download=True)
    folder = (data or default_data_dir()).absolute()
    console = Console(stderr=True)
    states = retry.states if retry else frozenset()
    options = RunOptions(results, folder, local, slots, address, states, share, on_error.value)
    with data_errors():
        summary = run_plan(plan, options, console)
    print_outcome(summary, Console())
    sys.exit(summary.exit_code)


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
    from grid.api import default_data_dir
    from grid.cost.estimate import estimate
    from grid.cost.plan_text import plan_json, plan_text

    _, plan_ = planned(sweep, change, data, skip_unreadable)
    if json_:
        print(plan_json(plan_))
        return
    cost = estimate(plan_, results, (data or default_data_dir()).absolute(), slots)
    print(plan_text(plan_, results, cost))
