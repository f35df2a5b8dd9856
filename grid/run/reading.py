"""How far the reading of a data set is, shown while it lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnncore.data.progress import show_progress
from grid.run.display import print_note

if TYPE_CHECKING:
    from rich.console import Console

FIRST_AFTER_S = 2.0
EVERY_S = 10.0


@contextmanager
def reading_shown(console: Console) -> Iterator[None]:
    """Print how far the reading of files is, if it takes more than a moment."""
    next_at = time.monotonic() + FIRST_AFTER_S
    shown_of = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal next_at, shown_of
        if time.monotonic() >= next_at or (done == total and what == shown_of):
            print_note(console, f"{what}: {done:,} of {total:,} files")
            next_at, shown_of = time.monotonic() + EVERY_S, what if done < total else ""

    with show_progress(show):
        yield
