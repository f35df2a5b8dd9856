"""Arguments and options that several sub-commands share, and the plan that they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.terminal import data_errors
from grid.errors import SweepError
from grid.screen import open_console

if TYPE_CHECKING:
    from grid.plan.plan import Plan
    from grid.sweep.spec import SweepSpec

# Of commands that plan a sweep.
Sweep = Annotated[str, typer.Argument(help="A sweep file, or the name of a preset.")]
ResultsDir = Annotated[
    str, typer.Option("--results", help="The parent of results folders; s3://bucket/prefix too.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the data sets (default: $CNNGRID_DATA, else ~/.cache)."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a fixed setting; repeatable."),
]
SameCode = Annotated[
    bool,
    typer.Option(
        "--same-code", help="Vouch that edits of your own code change no result: trials stay."
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")
]

# Of commands on the results folder of one sweep.
Results = Annotated[
    str,
    typer.Argument(help="A results folder, such as results/digits, or its address (s3://...)."),
]
All = Annotated[bool, typer.Option("--all", help="Include rows that are not in the newest plan.")]


def plan_sweep(
    sweep: str,
    changes: list[str] | None,
    data_dir: Path | None,
    skip_unreadable: bool,
    *,
    download: bool = False,
    results: str | Path | None = None,
    same_code: bool = False,
    without_data: bool = False,
) -> tuple[SweepSpec, Plan]:
    """Load and plan the sweep that a command's arguments describe.

    With `download`, absent data sets are downloaded. `results`, `same_code` and `without_data` are
    those of `grid.api.make_plan`. Raises `GridError`; problems of a data set
    end the command with a message.
    """

    from grid.api import make_plan, with_further_problems
    from grid.run.reading import reading_shown
    from grid.sweep.load import load_sweep, parse_changes

    try:
        spec = load_sweep(sweep)
    except SweepError as error:
        raise with_further_problems(
            error,
            changes or (),
            data_dir=data_dir,
            skip_unreadable=skip_unreadable,
            download=download,
        ) from None
    with data_errors(), reading_shown(open_console(stderr=True)):
        plan = make_plan(
            spec,
            parse_changes(changes or [], spec),
            data_dir=data_dir,
            download=download,
            skip_unreadable=skip_unreadable,
            results=results,
            same_code=same_code,
            without_data=without_data,
        )
    return spec, plan
