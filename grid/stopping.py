"""Early stopping: one ASHA per cell, so that no trial is ended by another cell's speed.

A stopper looks at other trials only; a rule on a trial's own history is the config's `early_stop`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from grid.plan import Plan
from grid.spec import Asha


def rung_epochs(asha: Asha, epochs: int) -> tuple[int, ...]:
    """Epochs at which trials are compared: `grace_epochs` times powers of `reduction`, below
    `epochs` (a trial that reaches its budget is complete, never pruned).
    """
    rungs = []
    rung = asha.grace_epochs
    while rung < epochs:
        rungs.append(rung)
        rung *= asha.reduction
    return tuple(rungs)


@dataclass
class CellAsha:
    """Asynchronous successive halving of one cell, stopping variant (arXiv 1810.05934).

    At a rung a trial goes on while its `val_top1` is not below the (1 - 1/reduction) quantile of
    all trials of the cell that came to this rung so far, itself included: the first always does.
    """

    asha: Asha
    # rung -> trial -> val_top1 there
    seen: dict[int, dict[str, float]] = field(default_factory=dict)

    def record(self, trial_id: str, epoch: int, val_top1: float) -> None:
        """Note what a trial reached; any epoch may be given, only rungs count."""
        if self._is_rung(epoch):
            self.seen.setdefault(epoch, {})[trial_id] = val_top1

    def decide(self, trial_id: str, epoch: int, val_top1: float, epochs: int) -> str | None:
        """Why this trial must stop now, or None; notes its value as `record` does."""
        self.record(trial_id, epoch, val_top1)
        if epoch >= epochs or not self._is_rung(epoch):
            return None
        values = list(self.seen[epoch].values())
        cutoff = float(np.quantile(values, 1 - 1 / self.asha.reduction))
        if val_top1 >= cutoff or math.isclose(val_top1, cutoff):
            return None
        return (
            f"asha: val_top1 {val_top1:.4f} at epoch {epoch}, below {cutoff:.4f}, "
            f"the best 1/{self.asha.reduction} of {len(values)} trials of the cell"
        )

    def _is_rung(self, epoch: int) -> bool:
        return epoch in rung_epochs(self.asha, epoch + 1)


class Stopper:
    """All cells' stoppers of a sweep; without `stop:` in the sweep file it stops nothing."""

    def __init__(self, plan: Plan) -> None:
        asha = plan.spec.stop.asha if plan.spec.stop else None
        self._cells = {cell.cell_id: CellAsha(asha) for cell in plan.cells} if asha else {}

    def restore(self, cell_of: Mapping[str, str], epochs: Iterable[Mapping[str, Any]]) -> None:
        """Note what the store's trials reached (rows of `epochs`), in any order."""
        for row in epochs:
            cell = self._cells.get(cell_of.get(row["trial_id"], ""))
            if cell and row["val_top1"] is not None:
                cell.record(row["trial_id"], row["epoch"], row["val_top1"])

    def decide(
        self, cell_id: str, trial_id: str, epoch: int, val_top1: float | None, epochs: int
    ) -> str | None:
        """Why this trial must stop after this epoch, or None."""
        cell = self._cells.get(cell_id)
        if cell is None or val_top1 is None:
            return None
        return cell.decide(trial_id, epoch, val_top1, epochs)
