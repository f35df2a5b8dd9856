"""The live display of very many running trials."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from grid.run import display as module
from grid.run.capacity import Capacity
from grid.run.display import Display
from grid.search.sweep_search import Search
from grid.trial.assignment import Progress
from tests.small_plans import tuned


def show(*, terminal: bool) -> tuple[Display, io.StringIO]:
    """Return a display on which a hundred trials run, and what it prints on."""
    search, text = Search(tuned(trials=1, seeds=str(list(range(50)))), None, {}), io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, height=24)
    display = Display(console, "s", 100, Capacity(100, "cpu"), {})
    for _ in range(100):
        trial = search.next()
        assert trial
        display.start(trial)
        display._running[trial.trial_id].last = Progress(trial.trial_id, 1, 4, 0.5, False, {})
    return display, text


def test_a_terminal_shows_the_trials_that_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    display, text = show(terminal=True)
    drawn = []

    def value_text(display: Display, last: Progress) -> str:
        drawn.append(last)
        return ""

    monkeypatch.setattr(Display, "_value_text", value_text)
    display.console.print(display.render())
    lines = text.getvalue().splitlines()
    assert len(lines) <= 24
    assert "... and 82 more" in lines[-1]
    assert len(drawn) == 18, "what has no room costs nothing"


def test_a_line_without_a_terminal_names_a_few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    display, text = show(terminal=False)
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    display._line()
    [line] = text.getvalue().splitlines()
    assert line.count("1/4 50.0 %") == 4
    assert line.endswith("; and 96 more]")


def test_a_slow_forecast_is_made_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    display, _ = show(terminal=False)
    clock, made = [0.0], []

    def forecast(*_: object) -> float:
        clock[0] += 0.5
        made.append(clock[0])
        return 7.0

    monkeypatch.setattr(module, "time_left_s", forecast)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    while clock[0] < 100:
        assert display.time_left_s() == 7.0
        clock[0] += 0.25
    assert len(made) == 4, "a fiftieth of the time at most"
