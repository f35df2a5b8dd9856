"""Arguments and options that several sub-commands share, and the plan they ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.terminal import fail

if TYPE_CHECKING:
    from grid.plan.plan import Plan
    from grid.sweep.spec import SweepSpec


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
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")
]


def planned(
    sweep: str,
    changes: list[str] | None,
    data: Path | None,
    skip_unreadable: bool,
    *,
    download: bool = False,
) -> tuple[SweepSpec, Plan]:
    from grid.api import make_plan
    from grid.sweep.load import load_sweep, parse_changes

    spec = load_sweep(sweep)
    with data_errors():
        plan_ = make_plan(
            spec,
            parse_changes(changes or [], spec),
            data_dir=data,
            download=download,
            skip_unreadable=skip_unreadable,
        )
    return spec, plan_


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    from cnncore.data import DataError

    try:
        yield
    except DataError as problem:
        fail(str(problem))


Results = Annotated[
    str,
    typer.Argument(help="A results folder, such as results/digits, or its address (s3://...)."),
]
All = Annotated[bool, typer.Option("--all", help="Include rows that the newest plan lacks.")]
