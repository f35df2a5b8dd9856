"""Outcomes of a search's trials, and the test that one config is worse than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from grid.plan.ids import Trial


@dataclass(frozen=True)
class Outcome:
    """Outcome of a trial that ended or waits, as far as a search needs it."""

    state: str
    val_top1: float | None
    epochs_run: int | None


@dataclass
class Outcomes:
    """Trials of all cells by id: ended, handed out, or waiting with a checkpoint."""

    ended: dict[str, Outcome] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    waiting: dict[str, Outcome] = field(default_factory=dict)

    def mean(self, trials: Sequence[Trial]) -> float | None:
        """Return the mean validation accuracy of trials; None unless all are complete."""
        ended = [self.ended.get(trial.trial_id) for trial in trials]
        values = [o.val_top1 for o in ended if o and o.state == "complete"]
        if len(values) < len(ended) or any(value is None for value in values):
            return None
        return fmean(value for value in values if value is not None)

    def value(self, trial: Trial) -> float:
        """Return the validation accuracy of a trial that has ended; 0 if it has none."""
        return self.ended[trial.trial_id].val_top1 or 0.0


def worse(differences: list[float], p: float) -> bool:
    """Return whether a one-sided paired t test finds their mean below 0 with `p` or less."""
    from scipy.special import stdtr

    if len(differences) < 2 or fmean(differences) >= 0:
        return False
    spread = stdev(differences)
    if spread == 0:
        return True
    t = fmean(differences) / (spread / math.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, t)) <= p
