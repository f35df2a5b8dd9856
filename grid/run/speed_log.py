"""What finished trials tell of this machine's speed, for the estimates of later plans."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnncore.data import DataError
from grid.cost.times.measured import of_trial, record, speed_key
from grid.errors import StoreError
from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.plan.planned_data import SplitSizes, sizes_key, split_sizes
from grid.store.folder import Store


@dataclass
class SpeedLog:
    """Stores the speed of each complete trial in the cache of measurements."""

    plan: Plan
    store: Store
    data_dir: Path
    _sizes: dict[str, SplitSizes] = field(default_factory=dict)

    def take(self, trial: Trial, row: Mapping[str, Any], beside: int) -> None:
        """Store the speed of a trial that ended beside so many, itself included.

        Nothing is stored where its epochs are not at hand, in an object store. No trial fails
        because its speed cannot be kept.
        """
        if row["state"] != "complete" or not self.store.files.all_on_disk:
            return
        with suppress(DataError, StoreError, OSError):
            key = sizes_key(trial.config)
            if key not in self._sizes:
                self._sizes[key] = split_sizes(self.plan, trial.config, self.data_dir)
            epochs = self.store.epochs(trial.trial_id)
            if measurement := of_trial(row, epochs, self._sizes[key], beside):
                record(speed_key(trial.config, row["device"], row["threads"]), measurement)
