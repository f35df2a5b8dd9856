"""The command `cnngrid`; every sub-command imports what it needs, so that each starts quickly."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cnncore.spelling import escaped
from grid.cli.analysis import plot, report, sql, table
from grid.cli.archs import archs
from grid.cli.catalog import datasets, doctor, init, presets, schema
from grid.cli.code import code
from grid.cli.debug import debug
from grid.cli.explain import explain
from grid.cli.folder import compact, logs, stop
from grid.cli.launch import launch
from grid.cli.output import output_problem, prepare_output
from grid.cli.run import Retry, plan, run
from grid.cli.status import status
from grid.cli.terminal import fail
from grid.screen import print, show_log_messages


class Commands(TyperGroup):
    """The sub-commands; wrong arguments are named in characters that can be shown."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before a sub-command."""
        with _printable_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Read a sub-command's arguments and run it."""
        with _printable_errors():
            return super().invoke(*args, **kwargs)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str) and hasattr(error, "ctx"):
            vars(error)["message"] = "\n".join(map(escaped, message.split("\n")))
        raise


app = typer.Typer(
    name="cnngrid",
    cls=Commands,
    help="Fair comparisons of convolutional networks: one sweep file in, tables and figures out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; problems a user can cause end it with a short message and exit code 2."""
    import traceback

    from grid.errors import GridError

    prepare_output()
    show_log_messages()
    try:
        app(_with_retry_state(sys.argv[1:]), standalone_mode=True)
    except GridError as problem:
        fail(str(problem), problem.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; everything that finished is kept", 130)
    except SystemExit as end:
        lost = output_problem()
        if lost and not end.code:
            fail(f"standard output: cannot be written ({lost.strerror})", 1)
        raise
    except Exception:
        print(traceback.format_exc(), file=sys.stderr, end="")
        sys.exit(1)


def _with_retry_state(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `failed` after each `--retry` that has no state.

    Earlier versions had `--retry` as a flag without a value.
    """
    completed: list[str] = []
    for position, argument in enumerate(arguments, start=1):
        completed.append(argument)
        following = arguments[position] if position < len(arguments) else None
        if argument == "--retry" and following not in list(Retry):
            completed.append(Retry.FAILED.value)
    return completed


def _print_version(wanted: bool) -> None:
    """Print the version and exit; the callback of `--version`."""
    if wanted:
        from importlib.metadata import version

        print(f"cnngrid {version('cnngrid')}")
        raise typer.Exit


@app.callback()
def global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Fair comparisons of convolutional networks."""


# `--help` lists the sub-commands in this order.
app.add_typer(launch, name="launch")
SWEEP_COMMANDS = (run, plan, debug)
RESULTS_COMMANDS = (status, logs, sql, table, plot, report, code, explain, compact, stop)
CATALOG_COMMANDS = (presets, archs, datasets, schema, doctor, init)
for _command in (*SWEEP_COMMANDS, *RESULTS_COMMANDS, *CATALOG_COMMANDS):
    app.command()(_command)
