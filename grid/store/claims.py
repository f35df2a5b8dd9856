"""Claims: a small file per trial with its machine and its progress.

A claim lies at `run/trials/ID.json`. Its heartbeat is the time of its last write, 0 once the trial
no longer runs. It is not flushed to disk, because it may be lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grid.errors import StoreError
from grid.store.files import Files


class Claims:
    """The claims of one set of results."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._limits = files.claim_limits
        # Times of the last writes, by trial, on the clock `time.monotonic`.
        self._written: dict[str, float] = {}

    @property
    def check_every_s(self) -> float:
        """The shortest time between two looks for a later attempt at a trial."""
        return self._limits.check_every_s

    @property
    def silence_s(self) -> float:
        """The shortest time without a heartbeat that counts as a hang, in seconds."""
        return self._limits.silence_s

    def path(self, trial_id: str) -> Path:
        """Return the file of a trial's claim."""
        return self._files.folder / "run" / "trials" / f"{trial_id}.json"

    def read(self, trial_id: str) -> dict[str, Any]:
        """Return the claim of a trial's last attempt; empty if there was none."""
        return self._files.read_json(self.path(trial_id))

    def all(self) -> dict[str, dict[str, Any]]:
        """Return the claims of this disk, by trial; those of an object store are not listed."""
        paths = map(Path, self._files.list_paths("run/trials", ".json"))
        return {path.stem: claim for path in paths if (claim := self.read(path.stem))}

    def dropped(self, trial_id: str) -> bool:
        """Return whether a trial certainly has no claim, as after its end.

        Raises `StoreError` if there are no results any more.
        """
        self._files.check_present()
        return not self._limits.may_be_lost and not self.path(trial_id).exists()

    def write(self, trial_id: str, claim: Mapping[str, Any]) -> None:
        """Store a claim; heartbeats that follow each other too fast are left out."""
        now = time.monotonic()
        last = self._written.get(trial_id, -math.inf)
        if claim.get("heartbeat") and now - last < self._limits.write_every_s:
            return
        self._written[trial_id] = now
        with self._may_fail():
            self._files.write(self.path(trial_id), json.dumps(claim).encode(), flush=False)

    def silence(self, trial_id: str) -> None:
        """Note that a trial no longer runs but did not end; its next attempt reads the claim."""
        with self._may_fail():
            if claim := self.read(trial_id):
                self.write(trial_id, {**claim, "heartbeat": 0})

    def drop(self, trial_id: str) -> None:
        """Remove the claim of a trial that ended."""
        self._files.remove(self.path(trial_id))

    def _may_fail(self) -> contextlib.AbstractContextManager[None]:
        """Let the sweep go on without a claim if claims may be lost."""
        lost = self._limits.may_be_lost
        return contextlib.suppress(StoreError) if lost else contextlib.nullcontext()
