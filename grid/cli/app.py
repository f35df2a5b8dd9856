"""The command `cnngrid`; every sub-command imports what it needs, so that each starts quickly."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from grid.cli.analysis import plot, report, sql, table
from grid.cli.catalog import archs, datasets, doctor, init, presets, schema
from grid.cli.debug import debug
from grid.cli.explain import explain
from grid.cli.folder import compact, logs, stop
from grid.cli.launch import launch
from grid.cli.run import Retry, plan, run
from grid.cli.status import status
from grid.cli.terminal import fail

app = typer.Typer(
    name="cnngrid",
    help="Fair comparisons of convolutional networks: one sweep file in, tables and figures out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


app.add_typer(launch, name="launch")


RUNS = (run, plan, debug)
ANSWERS = (status, logs, sql, table, plot, report, explain, compact, stop)
LISTINGS = (presets, archs, datasets, schema, doctor, init)
for _command in (*RUNS, *ANSWERS, *LISTINGS):
    app.command()(_command)
