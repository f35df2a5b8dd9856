"""Attempts that end without a report because their process or node died, and their counts.

The counts are kept in the trial's claim, so they outlive the driver.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from grid.store.folder import Store

# A lost node is seldom the trial's fault; but a trial that takes every machine down must end too.
MAX_LOSSES = 10
# This many processes in a row that could not be started count as a problem of the cluster.
MAX_UNSTARTED = 20


@dataclass(frozen=True)
class Cause:
    """Cause of a loss: the process died alone, the node was lost, or no process could start."""

    what: Literal["process", "node", "start"]
    reason: str = ""

    @property
    def text(self) -> str:
        """The cause in words."""
        return {
            "process": self.reason or "its process died",
            "node": "its node was lost",
            "start": f"its process could not be started: {self.reason}",
        }[self.what]


def note_loss(store: Store, trial_id: str, cause: Cause) -> None:
    """Count a lost attempt in the trial's claim."""
    claim = store.claims.read(trial_id)
    deaths, losses = _counts(claim)
    reasons = claim.get("reasons", []) if deaths else []
    if cause.what == "process":
        deaths, reasons = deaths + 1, [*reasons, cause.text]
    losses += cause.what == "node"
    counts = {"deaths": deaths, "losses": losses, "further": False, "reasons": reasons}
    store.claims.write(trial_id, {**claim, **counts, "heartbeat": 0})


def reason_to_give_up(store: Store, trial_id: str, max_attempts: int) -> str | None:
    """Return the reason not to start a trial again, None if it may start.

    A trial is given up if its process died `max_attempts` times in a row without a new checkpoint
    while its node lived: it would do so for ever.
    """
    claim = store.claims.read(trial_id)
    deaths, losses = _counts(claim)
    if deaths >= max_attempts:
        why = "; ".join(dict.fromkeys(claim.get("reasons", ())))
        return f"given up after {deaths} attempts: {why or 'its process died'}"
    if losses >= MAX_LOSSES:
        return f"its node was lost {losses} times in a row before it could save anything"
    return None


def settle_claims(store: Store, finished: Collection[str], *, local: bool) -> None:
    """Close the claims that an earlier driver left.

    The processes of a driver on Ray end with it, so this is no fault of their trials; a local
    driver is its trial's own process, so its death counts as the trial's.
    """
    for trial_id, claim in store.claims.all().items():
        if trial_id in finished:
            store.claims.drop(trial_id)
        elif not claim.get("heartbeat"):
            continue
        elif local:
            note_loss(store, trial_id, Cause("process"))
        else:
            store.claims.silence(trial_id)


def _counts(claim: Mapping[str, Any]) -> tuple[int, int]:
    """Return the attempts in a row lost alone, and those lost with their node, without progress."""
    if claim.get("further"):
        return 0, 0
    return int(claim.get("deaths", 0)), int(claim.get("losses", 0))
