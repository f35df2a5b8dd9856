"""Longer trials of a config that was trained for fewer epochs before, and what they start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grid.ids import Trial, make_trial
from grid.store import Finished, Store


@dataclass
class Lineage:
    """The finished trials of a results folder, as something to continue."""

    store: Store
    finished: Mapping[str, Finished]
    _budgets: dict[str, list[int]] | None = field(default=None, repr=False)

    def shorter(self, trial: Trial) -> Finished | None:
        """The longest ended trial that differs from this one in having fewer epochs; None too
        where the schedule depends on the number of epochs.
        """
        if trial.lineage_id is None:
            return None
        if self._budgets is None:
            self._budgets = self.store.budgets()
        for epochs in self._budgets.get(trial.lineage_id, ()):
            if epochs >= trial.config.epochs:
                continue
            # The id says that seed and fold are the same too.
            same = make_trial(
                trial.config.model_copy(update={"epochs": epochs}),
                trial.seed,
                trial.cell_id,
                fold=trial.fold,
                folds=trial.folds,
            )
            found = self.finished.get(same.trial_id)
            if found and found.state in ("complete", "pruned"):
                return found
        return None

    def start(self, trial: Trial) -> str | None:
        """The trial whose last checkpoint this one goes on from, None where it has none."""
        found = self.shorter(trial)
        if found is None or found.state != "complete":
            return None
        kept = self.store.last_checkpoint(found.trial_id).is_file()
        return found.trial_id if kept else None
