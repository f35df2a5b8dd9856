"""Errors and warnings of the package, and the hints in their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnalysisError(ValueError):
    """A question that cannot be answered: no such folder, view, table or figure, or wrong SQL."""


class ResultsWarning(UserWarning):
    """A file of the results folder is damaged and left out."""


def closest_hint(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean best?)`, or an empty string if no known name is similar."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of a DuckDB error; it tells the cause."""
    return str(error).strip().partition("\n")[0]
