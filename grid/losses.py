"""What counts against a trial whose attempts end without a word, as its process or node dies.

The counts are kept in the trial's claim, so they outlive the driver.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from grid.store import Store

# A trial is given up whose process died so often in a row without saving anything new, with its
# node alive: it would do so for ever.
MAX_DEATHS = 3
# Losing the node is seldom the trial's doing; but one that takes every machine down has an end too.
MAX_LOSSES = 10
# A cluster on which so many processes in a row could not be started has something else to mend.
MAX_UNSTARTED = 20


@dataclass(frozen=True)
class Cause:
    """How a trial was lost: its process died alone, with its node or out of sight, or it could not
    be started, for a reason.
    """

    what: Literal["process", "node", "start"]
    reason: str = ""

    @property
    def text(self) -> str:
        """It in words."""
        return {
            "process": "its process died",
            "node": "its node was lost",
            "start": f"its process could not be started: {self.reason}",
        }[self.what]


def note_loss(store: Store, trial_id: str, cause: Cause) -> None:
    """Count that an attempt was lost."""
    claim = store.read_claim(trial_id)
    deaths, losses = _counts(claim)
    deaths, losses = deaths + (cause.what == "process"), losses + (cause.what == "node")
    counts = {"deaths": deaths, "losses": losses, "further": False}
    store.write_claim(trial_id, {**claim, **counts, "heartbeat": 0})


def hopeless(store: Store, trial_id: str) -> str | None:
    """Why a trial is not to be started once more; None where it is."""
    deaths, losses = _counts(store.read_claim(trial_id))
    if deaths >= MAX_DEATHS:
        return f"its process died {deaths} times (out of memory, or killed)"
    if losses >= MAX_LOSSES:
        return f"its node was lost {losses} times in a row before it could save anything"
    return None


def settle_claims(store: Store, finished: Collection[str], *, local: bool) -> None:
    """Close the claims that an earlier driver left.

    The processes of a driver on Ray end with it, which says nothing of their trials; a local
    driver is its trial's process.
    """
    for trial_id, claim in store.claims().items():
        if trial_id in finished:
            store.drop_claim(trial_id)
        elif not claim.get("heartbeat"):
            continue
        elif local:
            note_loss(store, trial_id, Cause("process"))
        else:
            store.silence_claim(trial_id)


def _counts(claim: dict[str, object]) -> tuple[int, int]:
    """Attempts in a row that were lost alone, and with their node, before one got further."""
    if claim.get("further"):
        return 0, 0
    deaths, losses = (claim.get(key, 0) for key in ("deaths", "losses"))
    return (deaths if isinstance(deaths, int) else 0), (losses if isinstance(losses, int) else 0)
