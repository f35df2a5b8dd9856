"""Progress of long reading, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Show(Protocol):
    """Called with what is read, and how much of how much is done, in files or pictures."""

    def __call__(self, what: str, done: int, total: int, unit: str) -> None: ...


_show: ContextVar[Show | None] = ContextVar("show_progress", default=None)


@contextmanager
def show_progress(show: Show) -> Iterator[None]:
    """Call `show` for all reading of data sets in this context."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def tell_progress(what: str, done: int, total: int, unit: str = "files") -> None:
    """Tell how far `what` is; does nothing if nobody shows it."""
    if show := _show.get():
        show(what, done, total, unit)
