"""Progress of reading data, on the console."""

import io
import time

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


def test_a_rate_and_the_time_left_are_shown_as_lines_and_as_a_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown = []
    for terminal in (False, True):
        printed = io.StringIO()
        console = Console(file=printed, width=80 if terminal else 200, force_terminal=terminal)
        with reading.reading_shown(console):
            # What was there at the start says nothing of the rate.
            for at, done in ((0.0, 1_000), (1.0, 1_200), (10.0, 3_000), (30.0, 7_000)):
                now += at
                tell_progress("decoding x", done, 9_000, "pictures")
            tell_progress("waiting for y", 0, 0)
        shown.append(printed.getvalue())
    assert shown[0].splitlines() == [
        "decoding x: 3,000 of 9,000 pictures, 182 a second, about 33 s left",
        "decoding x: 7,000 of 9,000 pictures, 146 a second, about 14 s left",
    ]
    assert "\u2501" in shown[1]
    assert "7,000 of 9,000 pictures, 146 a second, about 14 s left" in shown[1]
