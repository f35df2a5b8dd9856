"""How far the reading of a data set is, shown while it lasts: a bar, or a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnncore.data.progress import show_progress
from grid.phrases import format_s
from grid.run.display import print_note

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

FIRST_AFTER_S = 2.0
EVERY_S = 10.0
# A bar is drawn anew this often, and a rate is told once it was measured for a second.
BAR_EVERY_S = 0.2
LEAST_MEASURED_S = 1.0
BAR_WIDTH = 10


@contextmanager
def reading_shown(console: Console) -> Iterator[None]:
    """Show how far the reading of files is, if it takes more than a moment."""
    shown = _Bar(console) if console.is_terminal else _Lines(console)
    try:
        with show_progress(shown.show):
            yield
    finally:
        shown.close()


class _Pace:
    """What is read now, how fast, and how long it will take."""

    def __init__(self) -> None:
        self.what = ""
        self._started_at = 0.0
        self._first = 0

    def follow(self, what: str, done: int) -> None:
        """Begin to measure anew if something else is read."""
        if what != self.what:
            self.what, self._started_at, self._first = what, time.monotonic(), done

    def text(self, done: int, total: int) -> str:
        """Return rate and time left: `412 a second, about 17 s left`; empty if not known yet."""
        elapsed_s = time.monotonic() - self._started_at
        if elapsed_s < LEAST_MEASURED_S or done <= self._first:
            return ""
        rate = (done - self._first) / elapsed_s
        left = f", about {format_s((total - done) / rate)} left" if done < total else ""
        return f"{rate:,.0f} a second{left}"


class _Lines:
    """A line now and then, for files and other programs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_at = time.monotonic() + FIRST_AFTER_S
        self._shown_of = ""
        self._pace = _Pace()

    def show(self, what: str, done: int, total: int, unit: str) -> None:
        """Print how far it is, if the last line is old, or at its end."""
        self._pace.follow(what, done)
        if time.monotonic() < self._next_at and not (done == total and what == self._shown_of):
            return
        pace = self._pace.text(done, total)
        counts = f": {done:,} of {total:,} {unit}{f', {pace}' if pace else ''}" if total else ""
        print_note(self._console, f"{what}{counts}")
        self._next_at, self._shown_of = time.monotonic() + EVERY_S, what if done < total else ""

    def close(self) -> None:
        """Do nothing: lines stay."""


class _Bar:
    """A bar on a terminal, for each thing that is read."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_at = time.monotonic() + FIRST_AFTER_S
        self._pace = _Pace()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, what: str, done: int, total: int, unit: str) -> None:
        """Draw the bar, if the last drawing is old, or at its end."""
        if what != self._pace.what:
            self._pace.follow(what, done)
            self._task = None
        ended = done == total and self._task is not None
        if time.monotonic() < self._next_at and not ended:
            return
        self._next_at = time.monotonic() + BAR_EVERY_S
        if self._progress is None:
            self._progress = _progress(self._console)
            self._progress.start()
        if self._task is None:
            self._task = self._progress.add_task(what, total=None, counts="")
        counts = f"{done:,} of {total:,} {unit}" if total else ""
        self._progress.update(
            self._task,
            completed=done,
            total=total or None,
            counts=", ".join(part for part in (counts, self._pace.text(done, total)) if part),
        )

    def close(self) -> None:
        """Leave the last bars on the screen."""
        if self._progress is not None:
            self._progress.stop()


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # A long name is cut off, so that the bar and the time left stay on a narrow terminal.
    name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(BAR_WIDTH, table_column=Column(min_width=BAR_WIDTH)),
        TextColumn("{task.fields[counts]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
    )
