"""Trials that give no sign of life: judged by whether their heartbeat changes, never by its time.

Clocks of machines differ, so what counts is how long a heartbeat has been the same by the clock of
the one who looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grid.store.folder import Store

# Claims are looked at this many times within the limit, and not more often than this.
LOOKS = 10
MOST_OFTEN_S = 0.5
# Before its first step a process imports libraries and opens data: seconds on an idle machine, a
# minute on a busy one. So much more is allowed then.
START_S = 60.0


@dataclass
class Watchdog:
    """Looks at the claims of running trials now and then; a limit of 0 never finds one hung."""

    store: Store
    limit_s: float
    clock: Callable[[], float] = time.monotonic
    # Trial -> its claim when it was last seen to change, and when that was.
    _seen: dict[str, tuple[dict[str, Any], float]] = field(default_factory=dict)
    _looked: float = 0.0

    def started(self, trial_id: str) -> None:
        """A trial runs from now on, on whatever process."""
        self._seen[trial_id] = ({}, self.clock())

    def ended(self, trial_id: str) -> None:
        """It no longer does."""
        self._seen.pop(trial_id, None)

    def hung(self) -> list[str]:
        """Trials that have given no sign of life for `limit_s`, those that have not begun to train
        for `START_S` more; each is named once.
        """
        now = self.clock()
        if not self.limit_s or now - self._looked < max(self.limit_s / LOOKS, MOST_OFTEN_S):
            return []
        self._looked = now
        found = []
        for trial_id, (before, since) in list(self._seen.items()):
            claim = self.store.read_claim(trial_id)
            if claim != before:
                self._seen[trial_id] = (claim, now)
            elif now - since > self.limit_s + (0.0 if claim.get("trains") else START_S):
                found.append(trial_id)
                self.ended(trial_id)
        return found
