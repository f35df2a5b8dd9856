"""What became of the trials of a search, and whether one config's are worse than another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from grid.plan.ids import Trial


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, or where it waits, as far as a search cares."""

    state: str
    val_top1: float | None
    epochs_run: int | None


@dataclass
class Ledger:
    """What became of the trials of all cells: ended, handed out, or waiting with a checkpoint."""

    ended: dict[str, Outcome] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    waiting: dict[str, Outcome] = field(default_factory=dict)

    def mean(self, trials: Sequence[Trial]) -> float | None:
        """Mean validation accuracy of trials all of which are complete."""
        outcomes = [self.ended.get(trial.trial_id) for trial in trials]
        values = [o.val_top1 for o in outcomes if o and o.state == "complete"]
        if len(values) < len(outcomes) or any(value is None for value in values):
            return None
        return fmean(value for value in values if value is not None)

    def value(self, trial: Trial) -> float:
        """Validation accuracy of a trial that has ended; 0 where it has none."""
        return self.ended[trial.trial_id].val_top1 or 0.0


def worse(differences: list[float], p: float) -> bool:
    """Whether a one-sided paired t test finds the mean of differences below 0 with `p` or less."""
    from scipy.special import stdtr

    if len(differences) < 2 or fmean(differences) >= 0:
        return False
    spread = stdev(differences)
    if spread == 0:
        return True
    t = fmean(differences) / (spread / math.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, t)) <= p
