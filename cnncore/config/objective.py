"""Objective: the validation metric by which configs, epochs and weights are chosen; loads no torch.

Everything that ranks does so by a score: the objective's value, negated if lower is better, and
minus infinity if the value is missing. So the highest score is the best, and a missing one the
worst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnncore.functions import check_function_name
from cnncore.spelling import as_written, closest_hint

VAL_TOP1 = "val_top1"
VAL_LOSS = "val_loss"
# Metrics of predictions that are known by name, beside the user's own.
METRICS = ("balanced_top1", "ece", "macro_auc", "macro_f1", "macro_precision", "macro_recall")
# Objectives that are computed from these metrics on the validation images, and the metric.
METRIC_OF = {
    "val_balanced_top1": "balanced_top1",
    "val_macro_auc": "macro_auc",
    "val_macro_f1": "macro_f1",
}
OBJECTIVES = (VAL_TOP1, VAL_LOSS, *METRIC_OF)
# Last words of names of which lower is better, as scikit-learn names its metrics ("Callable
# scorers", scikit-learn.org/stable/modules/model_evaluation.html). `analysis/sql/setup.sql` has
# the same rule.
LOWER_IS_BETTER = ("loss", "error", "deviance")


@dataclass(frozen=True)
class Objective:
    """Objective of a sweep by its name."""

    name: str = VAL_TOP1

    @classmethod
    def of(cls, name: str | None) -> Objective:
        """Return the objective of a config, where None is `val_top1`."""
        return cls(name or VAL_TOP1)

    @property
    def is_default(self) -> bool:
        """Return whether it is `val_top1`, which has columns of its own in every table."""
        return self.name == VAL_TOP1

    @property
    def lower_is_better(self) -> bool:
        """Return whether the last word of the name says so: `val_loss`, `metrics:cost_error`."""
        return self.name.replace(":", "_").rpartition("_")[2] in LOWER_IS_BETTER

    @property
    def is_fraction(self) -> bool:
        """Return whether its values lie in [0, 1]; of the user's own nobody knows."""
        return self.name == VAL_TOP1 or self.name in METRIC_OF

    @property
    def metric(self) -> str | None:
        """Return the metric that has to be computed for it; None if every epoch has its value."""
        return None if self.name in (VAL_TOP1, VAL_LOSS) else METRIC_OF.get(self.name, self.name)

    def of_value(self, value: float) -> float:
        """Return the score of a value; minus infinity if it is missing (NaN)."""
        if math.isnan(value):
            return -math.inf
        return -value if self.lower_is_better else value

    def score(self, val_top1: float | None, value: float | None) -> float:
        """Return the score of an epoch with these columns `val_top1` and `objective`."""
        if self.is_default:
            return -math.inf if val_top1 is None else val_top1
        return self.of_value(math.nan if value is None else value)

    def score_if_any(self, val_top1: float | None, value: float | None) -> float | None:
        """Return the score of a row with these columns.

        None if no epoch of it has ended, or if there are no validation images.
        """
        return None if val_top1 is None else self.score(val_top1, value)

    def text(self, score: float) -> str:
        """Describe a score by the objective's name and value: `val_loss 0.4312`."""
        if math.isinf(score):
            return f"{self.name} missing"
        return f"{self.name} {self.number(score)}"

    def number(self, score: float) -> str:
        """Return a score as the objective's value, in digits."""
        if math.isinf(score):
            return "missing"
        return f"{-score if self.lower_is_better else score:.4f}"


def check_objective(name: str) -> str:
    """Return the name. Raises `ValueError` if it is neither known nor a function's name."""
    if name in OBJECTIVES or (":" in name and _problem(name) is None):
        return name
    raise ValueError(_unknown("objective", name, OBJECTIVES))


def check_metric(name: str) -> str:
    """Return the name. Raises `ValueError` if it is neither known nor a function's name."""
    if name in METRICS or (":" in name and _problem(name) is None):
        return name
    raise ValueError(_unknown("metric", name, METRICS))


def _problem(name: str) -> str | None:
    if "@" in name:
        return f"{name}: a metric is computed by today's code; leave the @ out"
    return check_function_name(name)


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    if ":" in name:
        return str(_problem(name))
    hint = closest_hint(name, known)
    return (
        f"unknown {what} {as_written(name)}{hint}; known: {', '.join(known)}, or a function of "
        "yours, package.module:function"
    )
