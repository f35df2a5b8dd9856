"""Outcomes of a search's trials, and the test that one config is worse than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from grid.plan.ids import Trial


@dataclass(frozen=True)
class Outcome:
    """Outcome of a trial that ended or waits, as far as a search needs it.

    `score` is that of the objective: the higher the better, minus infinity if it is missing; None
    if no epoch has ended.
    """

    state: str
    score: float | None
    epochs_run: int | None


@dataclass
class Outcomes:
    """Trials of all cells by id: ended, handed out, or waiting with a checkpoint."""

    ended: dict[str, Outcome] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    waiting: dict[str, Outcome] = field(default_factory=dict)

    def mean(self, trials: Sequence[Trial]) -> float | None:
        """Return the mean score of trials; None unless all are complete."""
        ended = [self.ended.get(trial.trial_id) for trial in trials]
        values = [o.score for o in ended if o and o.state == "complete"]
        if len(values) < len(ended) or any(value is None for value in values):
            return None
        return fmean(value for value in values if value is not None)

    def value(self, trial: Trial) -> float:
        """Return the score of a trial that has ended; minus infinity if it has none."""
        score = self.ended[trial.trial_id].score
        return -math.inf if score is None else score


def worse(differences: list[float], p: float) -> bool:
    """Return whether a one-sided paired t test finds their mean below 0 with `p` or less.

    A missing value (an infinite difference) is worse than any other, and as bad as another (NaN).
    """
    from scipy.special import stdtr

    if not all(map(math.isfinite, differences)):
        return -math.inf in differences and math.inf not in differences
    if len(differences) < 2 or fmean(differences) >= 0:
        return False
    spread = stdev(differences)
    if spread == 0:
        return True
    t = fmean(differences) / (spread / math.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, t)) <= p
