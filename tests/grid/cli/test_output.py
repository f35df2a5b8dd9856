"""Output where characters are missing, nobody reads, or the terminal is gone."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from analysis.tables.table_formats import Column, Table
from grid.cli.output import plain
from grid.cli.terminal import print_table
from tests.small_sweeps import environment, trial_rows

# `cnngrid` with a report that takes no time.
PROGRAM = """
import analysis, sys
def write_report(connection, folder):
    folder.mkdir()
    return folder / "index.html"
analysis.write_report = write_report
from grid.cli import main
main()
"""


O_UMLAUT = "\N{LATIN SMALL LETTER O WITH DIAERESIS}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def test_what_an_encoding_lacks_is_written_in_ascii() -> None:
    text = f"85.1 {PLUS_MINUS} 0.3 \N{BOX DRAWINGS LIGHT HORIZONTAL} {O_UMLAUT}l \udce4"
    assert plain(text, "ascii") == "85.1 +- 0.3 - ol \\udce4"
    assert plain(text, "latin-1") == f"85.1 {PLUS_MINUS} 0.3 - {O_UMLAUT}l \\udce4"
    assert plain(text[:-1], "utf-8") == text[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["ascii", "closed", "nobody reads", "full disk"])
def test_a_sweep_ends_with_its_report_whatever_becomes_of_its_output(
    write_sweep: Callable[..., Path], data_dir: Path, tmp_path: Path, streams: str
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.1, "epochs": 1}, seeds=[0, 1])
    line = [sys.executable, "-c", PROGRAM, "run", str(sweep), "--local"]
    env = {**environment(data_dir), "PYTHONIOENCODING": "ascii:strict"}
    shell = {
        "ascii": '"$@"',
        "closed": '"$@" >&- 2>&- <&-',
        "nobody reads": '{ "$@" 2>&1; echo $? > code; } | true; exit $(cat code)',
        "full disk": '"$@" > /dev/full',
    }[streams]
    result = subprocess.run(
        ["bash", "-c", shell, "bash", *line],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        timeout=300,
    )
    folder = tmp_path / "results" / "small"
    assert result.returncode == (1 if streams == "full disk" else 0), result.stderr
    assert [row.state for row in trial_rows(folder)] == ["complete"] * 2
    assert (folder / "report").is_dir()
    assert b"Traceback" not in result.stderr
    if streams == "ascii":
        lines = result.stdout.decode("ascii").splitlines()
        (row,) = (line for line in lines if "cnn3" in line)
        (head,) = (line for line in lines if "test top-1 (%)" in line)
        value = re.search(r"\d+[.]\d+ [+]- \d+[.]\d+", row)
        assert value
        assert value.end() == head.index("test top-1 (%)") + len("test top-1 (%)")


def long_table(rows: int) -> Table:
    columns = [Column("a", "alpha"), Column("n", "n", "count"), Column("word", "word")]
    wide = "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
    content = [(f"x{row}" * (row % 3), row * 37, wide * (row % 5) + "\x1b") for row in range(rows)]
    return Table("A table", "Its caption.", columns, [*content, (None, None, None)])


def printed(table: Table, *, terminal: bool) -> str:
    text = io.StringIO()
    print_table(table, Console(file=text, force_terminal=terminal, width=80))
    return text.getvalue()


def test_a_long_table_goes_into_a_file_as_a_short_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    by_rich = printed(long_table(100), terminal=False)
    monkeypatch.setattr("grid.cli.terminal.MOST_ROWS", 50)
    monkeypatch.setattr("grid.cli.terminal.print_rich", None)
    assert printed(long_table(100), terminal=False) == by_rich


def test_a_terminal_gets_the_first_rows_of_a_long_table_and_is_told_of_the_rest() -> None:
    text = printed(long_table(20_000), terminal=True)
    assert "... 19,801 more rows: --format csv has all" in text
    assert len(text.splitlines()) < 210
    assert "more rows" not in printed(long_table(150), terminal=True)
