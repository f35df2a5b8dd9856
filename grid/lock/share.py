"""Units of work on a results folder that several drivers share: each unit is taken by one driver.

A unit is a trial of a grid, or a tuned cell, whose search is one driver's. `run/taken/UNIT` is a
symbolic link to the driver's name, because a link is made exclusively and whole in one step. It
counts as long as that driver lives (`grid/lock/hold.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from grid.lock.heartbeat import HeartbeatWatch, watch_file
from grid.lock.hold import driver_file
from grid.store.folder import Store


class Share:
    """The units that this driver has taken, and watches on the drivers of others."""

    def __init__(self, store: Store, name: str) -> None:
        """`name` is this driver's among those that share the folder (`grid.lock.hold.join`)."""
        self._store = store
        self._name = name
        self._folder = store.run / "taken"
        self._watches: dict[str, HeartbeatWatch] = {}
        self._taken: set[str] = set()

    def take(self, unit: str) -> bool:
        """Take a unit, unless another driver has it that is alive or may be."""
        path = self._folder / unit
        self._store.files.check_present()
        self._folder.mkdir(parents=True, exist_ok=True)
        while unit not in self._taken:
            try:
                os.symlink(self._name, path)
            except FileExistsError:
                holder = self._holder(unit)
                if holder != self._name:
                    if self.held(unit) is not False:
                        return False
                    self._remove_dead(path, holder)
                    continue
            self._taken.add(unit)
        return True

    def held(self, unit: str) -> bool | None:
        """Return whether another driver that lives has a unit; None while that is unsure."""
        holder = self._holder(unit)
        if holder in (None, self._name):
            return False
        if holder not in self._watches:
            self._watches[holder] = watch_file(driver_file(self._store, holder))
        return self._watches[holder].alive

    def release(self, units: Iterable[str] | None = None) -> None:
        """Release units that are done or left to others: those named, or all that were taken."""
        for unit in list(self._taken) if units is None else units:
            if unit in self._taken:
                self._taken.discard(unit)
                (self._folder / unit).unlink(missing_ok=True)

    def _holder(self, unit: str) -> str | None:
        try:
            return os.readlink(self._folder / unit)
        except FileNotFoundError:
            return None

    def _remove_dead(self, path: Path, holder: str | None) -> None:
        """Move a dead driver's link away; of several that see it, renaming lets one win."""
        aside = path.with_name(f"{path.name}-{self._name}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            if os.readlink(aside) != holder:  # another driver was quicker: it is its own already
                os.rename(aside, path)
            else:
                aside.unlink()
