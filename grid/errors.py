"""Errors for users of the command: printed as a few lines, never as a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore.spelling import shortened


class GridError(Exception):
    """Problem with its position and its remedy; ends the command with `exit_code`."""

    exit_code = 2


# A message stays on one screen: so many problems, each of so many characters.
MOST_SHOWN = 20
LONGEST_SHOWN = 1_500


class SweepError(GridError):
    """Problems of a sweep file, each with its line; nothing was started.

    `sound` is the sweep (`SweepSpec`) without its faulty parts, if it can be checked further.
    """

    def __init__(self, problems: Sequence[str], sound: Any = None) -> None:
        self.problems = tuple(problems)
        self.sound = sound
        texts = [
            "\n".join(
                shortened(line, LONGEST_SHOWN) for line in text.split("\n", MOST_SHOWN)[:MOST_SHOWN]
            )
            for text in self.problems[:MOST_SHOWN]
        ]
        if more := len(self.problems) - len(texts):
            texts.append(f"and {more:,} more problems")
        super().__init__("\n".join(texts))


class ResultsError(GridError):
    """Unusable results folder: not writable, another sweep's, or held by a driver."""


class StoreError(GridError):
    """Failed write to the results folder while the sweep ran; earlier files stay."""

    exit_code = 1


class Superseded(GridError):
    """Attempt replaced: its trial was started again elsewhere, and that attempt counts."""

    exit_code = 1


class BrokenDevice(GridError):
    """GPU that this process can use no more: its trial is lost, and the process is given up."""

    exit_code = 1


class HeadLost(GridError):
    """Loss of a running sweep's Ray cluster; finished trials are kept."""

    exit_code = 1


class StoppedAtOnce(KeyboardInterrupt):
    """A signal to stop at once; any other `KeyboardInterrupt` is raised by the user's code."""
