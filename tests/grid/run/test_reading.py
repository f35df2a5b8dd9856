"""Progress of reading data, on the console."""

import io

import pytest
from rich.console import Console

from cnncore.data.progress import tell_progress
from grid.run import reading


def test_long_reading_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    monkeypatch.setattr(reading, "FIRST_AFTER_S", 1e9)
    with reading.reading_shown(console):
        tell_progress("reading x", 9, 9)
    monkeypatch.setattr(reading, "FIRST_AFTER_S", 0)
    with reading.reading_shown(console):
        for done in (2_000, 4_000, 9_000):  # the second comes too soon after the first
            tell_progress("reading x", done, 9_000)
    tell_progress("reading x", 1, 1)  # nobody shows it
    assert printed.getvalue().splitlines() == [
        "reading x: 2,000 of 9,000 files",
        "reading x: 9,000 of 9,000 files",
    ]
