"""What the command prints: messages, tables and the outcome of a run."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from analysis.results.location import as_folder, is_address

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from grid.run.session import Summary


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a message on standard error and leave."""
    print(f"cnngrid: {message}", file=sys.stderr)
    sys.exit(code)


def print_outcome(summary: Summary, console: Console) -> None:
    """Say what a run did: states, the comparison and where the report is."""
    from grid.phrases import counted, format_s

    states = ", ".join(f"{count} {state}" for state, count in summary.states.items()) or "nothing"
    others = f", {summary.elsewhere} left to other drivers" if summary.elsewhere else ""
    if not summary.ran and not summary.unfinished:
        print(f"{summary.folder}: nothing to do, {states}{others}")
        return
    took = format_s(summary.wall_time_s)
    left = f", {summary.unfinished} not run" if summary.unfinished else ""
    print(f"{summary.folder}: {states}{left}{others}; {counted(summary.ran, 'trial')} in {took}\n")
    if summary.states.get("complete"):
        from analysis import AnalysisError, make_table, write_report
        from analysis.results.database import connect

        connection = connect(summary.folder)
        print_table(make_table(connection, "comparison"), console)
        if is_address(summary.folder):
            print(f"\nreport: cnngrid report {shlex.quote(str(summary.folder))}")
            return
        try:
            print(f"\nreport: {write_report(connection, as_folder(summary.folder) / 'report')}")
        except (OSError, AnalysisError) as error:
            print(f"cnngrid: no report: {error}", file=sys.stderr)
    if summary.interrupted or summary.unfinished:
        print("run the same command again to go on", file=sys.stderr)


def print_table(made: Any, console: Console) -> None:
    """A neutral table in the terminal; into a pipe at its full width."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=made.title or None, title_justify="left")
    for column, title in zip(made.columns, made.titles(), strict=True):
        table.add_column(Text(title), justify="right" if column.right else "left")
    for row in made.text_rows():
        table.add_row(*(Text(value) for value in row))
    print_rich(table, console)
    if made.caption:
        console.print(Text(made.caption, style="dim"))


def print_rich(table: RichTable, console: Console) -> None:
    """A table of rich's: fitted to a terminal, in its full width into anything else."""
    if not console.is_terminal:
        console.width = 10_000
        console.width = max(console.measure(table).maximum, 80)
    console.print(table)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn the questions' own errors into short messages."""
    import warnings

    from analysis.results.database import AnalysisError, ResultsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", ResultsWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        except AnalysisError as problem:
            fail(str(problem))


def _show_warning(message: Any, *details: Any, **more: Any) -> None:
    print(f"cnngrid: {message}", file=sys.stderr)
