"""Trials that continue a shorter trial of the same config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grid.plan.ids import Trial, make_trial
from grid.store.folder import Finished, Store


@dataclass
class Lineage:
    """The finished trials of a results folder that longer trials can continue."""

    store: Store
    finished: Mapping[str, Finished]
    _budgets: list[int] | None = field(default=None, repr=False)

    def start(self, trial: Trial) -> Finished | None:
        """Return the trial whose last checkpoint this one starts from, None if there is none."""
        found = self.shorter(trial)
        return found if found and not self.obstacle(trial, found) else None

    def shorter(self, trial: Trial) -> Finished | None:
        """Return the longest ended trial that differs from this one in nothing but fewer epochs."""
        if self._budgets is None:
            self._budgets = self.store.budgets() if self.finished else []
        for epochs in self._budgets:
            if epochs >= trial.config.epochs:
                continue
            # Equal ids: config, seed and fold are the same.
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

    def obstacle(self, trial: Trial, shorter: Finished) -> str | None:
        """Return the reason why a trial cannot continue a shorter one, None if it can."""
        if trial.lineage_id is None:
            return f"the schedule {trial.config.schedule.kind} depends on the number of epochs"
        if shorter.state != "complete":
            return "the shorter trial was pruned"
        if not self.store.files.has(self.store.last_checkpoint(shorter.trial_id)):
            return "their last checkpoints were not kept (`keep: last` does)"
        return None
