"""Output where characters are missing, nobody reads, or the terminal is gone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from grid.cli.output import plain
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
