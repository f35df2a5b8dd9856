"""Slots: the trials that run at the same time, and their device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from grid.cost.slots import gpus_per_trial
from grid.errors import GridError
from grid.phrases import counted
from grid.sweep.spec import Resources

# The shortest time between two looks at the nodes of a cluster.
LOOK_EVERY_S = 2.0


class Capacity:
    """The slots of one machine; `device` is `cpu` or `cuda`."""

    def __init__(self, slots: int, device: str) -> None:
        self.slots = slots
        self.device = device
        self._slot_of: dict[str, int] = {}

    def refresh(self) -> None:
        """Do nothing: a machine's slots stay the same."""

    @property
    def full(self) -> bool:
        """True if no slot is free."""
        return len(self._slot_of) >= self.slots

    def take(self, trial_id: str) -> int:
        """Give a trial the lowest free slot, counted from 0."""
        taken = set(self._slot_of.values())
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        self._slot_of[trial_id] = slot
        return slot

    def release(self, trial_id: str) -> None:
        """Free the slot of a trial, if it has one."""
        self._slot_of.pop(trial_id, None)


class ClusterCapacity(Capacity):
    """The slots of a cluster whose nodes come and go; one slot on a CPU before it is joined.

    `wanted` is the number of slots that the user asked for, None for as many as there is room for.
    """

    def __init__(
        self, resources: Resources, wanted: int | None, note: Callable[[str], None]
    ) -> None:
        super().__init__(slots=1, device="cpu")
        self._resources = resources
        self._wanted = wanted
        self._note = note
        self._look: Callable[[], Mapping[str, float]] | None = None
        self._room = 0
        self._looked_at = 0.0

    def join(self, look: Callable[[], Mapping[str, float]]) -> None:
        """Take device and slots from the cluster's resources, and follow them from now on.

        `look` returns the resources by Ray's names, `CPU` and `GPU`. Raises `GridError` if they
        are too small for one trial or for the slots asked for.
        """
        self._look = look
        have = look()
        self.device = "cuda" if self._resources.gpus != 0 and have.get("GPU") else "cpu"
        if self.device == "cpu" and self._resources.gpus not in ("auto", 0):
            raise GridError(
                f"the cluster has no GPU, and a trial takes {self._resources.gpus:g} of one "
                "(resources.gpus); set it to 0 or auto"
            )
        self._room = self._measure(have)
        self._looked_at = time.monotonic()
        if self._room < 1:
            gpus = gpus_per_trial(self._resources, self.device)
            raise GridError(
                f"the cluster has no room for one trial ({self._resources.cpus} CPU cores, "
                f"{gpus:g} GPUs)"
            )
        if self._wanted and self._wanted > self._room:
            raise GridError(
                f"--slots {self._wanted}: the cluster takes {counted(self._room, 'trial')} at a "
                f"time: {self._short(have)}"
            )
        self.slots = self._wanted or self._room

    def refresh(self) -> None:
        """Update the slots every two seconds; note a change."""
        if self._look is None or time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        before, self._room = self._room, self._measure(self._look())
        if self._room != before:
            self._note(
                f"the cluster takes {counted(self._room, 'trial')} at a time now"
                if self._room
                else "the cluster has no room for a trial now: waiting for a node"
            )
        # One slot even without any node: its trial starts as soon as there is one.
        self.slots = max(min(self._room, self._wanted or self._room), 1)

    def _measure(self, have: Mapping[str, float]) -> int:
        """Return the number of trials that fit the cluster's resources."""
        return min(self._rooms(have).values())

    def _rooms(self, have: Mapping[str, float]) -> dict[str, int]:
        """Return the number of trials that fit by CPU cores, and by GPUs if they use them."""
        rooms = {"CPU": int(have.get("CPU", 0) // self._resources.cpus)}
        if self.device == "cuda":
            rooms["GPU"] = int(have.get("GPU", 0)) * self._resources.trials_per_gpu
        return rooms

    def _short(self, have: Mapping[str, float]) -> str:
        """Describe the resource that allows the fewest trials."""
        rooms = self._rooms(have)
        if rooms.get("GPU", rooms["CPU"]) < rooms["CPU"]:
            share = gpus_per_trial(self._resources, self.device)
            gpus = counted(int(have.get("GPU", 0)), "GPU")
            return f"it has {gpus}, and a trial takes {share:g} of one (resources.gpus)"
        cores = counted(int(have.get("CPU", 0)), "CPU core")
        return f"it has {cores}, and a trial takes {self._resources.cpus} (resources.cpus)"
