"""Hung trials, found by a heartbeat that does not change.

Clocks of machines differ, so the time written in a heartbeat is never compared: the driver's own
clock measures how long a heartbeat has stayed the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grid.store.folder import Store

# Claims are read this many times within the limit, and at most this often, in seconds.
LOOKS = 10
MOST_OFTEN_S = 0.5
# Extra time before the first step, in which a process imports libraries and opens data: seconds
# on an idle machine, a minute on a busy one.
START_S = 60.0


@dataclass
class Watchdog:
    """Reads the claims of running trials now and then; with a limit of 0 no trial is ever hung."""

    store: Store
    limit_s: float
    clock: Callable[[], float] = time.monotonic
    # Trial -> its claim after the last change, and the time of that change.
    _seen: dict[str, tuple[dict[str, Any], float]] = field(default_factory=dict)
    _looked_at: float = 0.0

    def started(self, trial_id: str) -> None:
        """Watch a trial from now on."""
        self._seen[trial_id] = ({}, self.clock())

    def ended(self, trial_id: str) -> None:
        """Stop watching a trial."""
        self._seen.pop(trial_id, None)

    def hung(self) -> list[str]:
        """Return trials without a new heartbeat for `limit_s`, each once.

        Trials that have not begun to train get `START_S` more.
        """
        now = self.clock()
        if not self.limit_s or now - self._looked_at < max(self.limit_s / LOOKS, MOST_OFTEN_S):
            return []
        self._looked_at = now
        hung = []
        for trial_id, (before, since) in list(self._seen.items()):
            claim = self.store.claims.read(trial_id)
            if claim != before:
                self._seen[trial_id] = (claim, now)
            elif now - since > self.limit_s + (0.0 if claim.get("trains") else START_S):
                hung.append(trial_id)
                self.ended(trial_id)
        return hung
