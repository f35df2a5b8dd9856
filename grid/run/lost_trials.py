"""What counts against a trial whose attempts end without a word, as its process or node dies.

The counts are kept in the trial's claim, so they outlive the driver.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from grid.store.folder import Store

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
            "process": self.reason or "its process died",
            "node": "its node was lost",
            "start": f"its process could not be started: {self.reason}",
        }[self.what]


def note_loss(store: Store, trial_id: str, cause: Cause) -> None:
    """Count that an attempt was lost."""
    claim = store.read_claim(trial_id)
    deaths, losses = _counts(claim)
    reasons = claim.get("reasons", []) if deaths else []
    if cause.what == "process":
        deaths, reasons = deaths + 1, [*reasons, cause.text]
    losses += cause.what == "node"
    counts = {"deaths": deaths, "losses": losses, "further": False, "reasons": reasons}
    store.write_claim(trial_id, {**claim, **counts, "heartbeat": 0})


def reason_to_give_up(store: Store, trial_id: str, max_attempts: int) -> str | None:
    """Why a trial is not to be started once more; None where it is.

    It is given up whose process died `max_attempts` times in a row without saving anything new,
    with its node alive: it would do so for ever.
    """
    claim = store.read_claim(trial_id)
    deaths, losses = _counts(claim)
    if deaths >= max_attempts:
        why = "; ".join(dict.fromkeys(claim.get("reasons", ())))
        return f"given up after {deaths} attempts: {why or 'its process died'}"
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


def _counts(claim: Mapping[str, Any]) -> tuple[int, int]:
    """Attempts in a row that were lost alone, and with their node, before one got further."""
    if claim.get("further"):
        return 0, 0
    return int(claim.get("deaths", 0)), int(claim.get("losses", 0))
