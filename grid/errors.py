"""What a user of the command can meet: printed as a few lines, never as a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class GridError(Exception):
    """A problem with its place and its remedy; ends the command with `exit_code`."""

    exit_code = 2


class SweepError(GridError):
    """One or more problems of a sweep file, each with its line; nothing was started."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ResultsError(GridError):
    """The results folder cannot be used: not writable, another sweep's, or held by a driver."""


class StoreError(GridError):
    """A write to the results folder failed while the sweep ran; what was written before stays."""

    exit_code = 1


class Superseded(GridError):
    """A trial was started again elsewhere while this attempt still ran: that one counts."""

    exit_code = 1


class HeadLost(GridError):
    """The Ray cluster of a running sweep is gone; what finished is kept."""

    exit_code = 1
