"""The sub-commands `run` and `plan`."""

from __future__ import annotations

import sys
from enum import StrEnum
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
from grid.cli.terminal import data_errors, fail, print_outcome
from grid.screen import open_console, print


class Retry(StrEnum):
    """Trials to run again, by the state in which they ended."""

    FAILED = "failed"
    DIVERGED = "diverged"
    ALL = "all"

    @property
    def states(self) -> frozenset[str]:
        """The states of the trials to run again."""
        return frozenset(("failed", "diverged") if self is Retry.ALL else (self.value,))


class OnError(StrEnum):
    """Behaviour of a sweep after a failed trial."""

    CONTINUE = "continue"
    STOP = "stop"


def run(
    sweep: Sweep,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Number of trials that run at a time.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster's address.")] = None,
    retry: Annotated[
        Retry | None,
        typer.Option("--retry", help="Run trials again that ended in this state."),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Continue or stop the sweep if a trial fails.")
    ] = OnError.CONTINUE,
    share: Annotated[
        bool,
        typer.Option(
            "--share", help="Share the sweep with other runs of it; each trial runs in one of them."
        ),
    ] = False,
    same_code: SameCode = False,
    code: Annotated[str | None, typer.Option("--code", hidden=True)] = None,
) -> None:
    """Plan a sweep, skip finished trials, resume interrupted ones, run the rest."""
    from cnncore.own_modules import use
    from grid.api import default_data_dir
    from grid.run.driver import RunOptions
    from grid.run.session import run_plan

    data_dir = (data or default_data_dir()).absolute()
    states = retry.states if retry else frozenset()
    options = RunOptions(results, data_dir, local, slots, address, states, share, on_error.value)
    if code:  # a job runs the code that was there when it was submitted
        try:
            use(code)
        except (OSError, ValueError) as error:
            fail(f"--code {code}: the stored code cannot be read: {error}; launch the job again")
    _, plan = plan_sweep(
        sweep,
        change,
        data,
        skip_unreadable,
        download=True,
        results=results,
        same_code=same_code,
    )
    with data_errors():
        summary = run_plan(plan, options, open_console(stderr=True))
    print_outcome(summary, open_console())
    sys.exit(summary.exit_code)


def plan(
    sweep: Sweep,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
    same_code: SameCode = False,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Number of trials that run at a time.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure a few steps of each network, for a minute.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as JSON, one object per trial.")
    ] = False,
) -> None:
    """Print the trials of a sweep and their cost; run nothing, but for --probe."""
    from grid.api import default_data_dir
    from grid.code.stored import staged_code_used
    from grid.cost.estimate import estimate, with_tried_networks
    from grid.cost.plan_text import plan_json, plan_text
    from grid.run.reading import reading_shown

    _, plan = plan_sweep(
        sweep,
        change,
        data,
        skip_unreadable,
        results=results,
        same_code=same_code,
        without_data=not as_json,
    )
    data_dir = (data or default_data_dir()).absolute()
    with staged_code_used(plan.sources), reading_shown(open_console(stderr=True)):
        with data_errors():
            plan = with_tried_networks(plan, results)
        if as_json:
            print(plan_json(plan))
            return
        with data_errors():
            cost = estimate(plan, results, data_dir, slots, measure=probe)
    print(plan_text(plan, results, cost))
