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
# A trial that ran when a local driver was killed, this often in a row, gets a process of its own.
SUSPECT = 2


@dataclass(frozen=True)
class Cause:
    """Cause of a loss: the process died alone, with its driver or its node, or never started."""

    what: Literal["process", "driver", "node", "start"]
    reason: str = ""

    @property
    def text(self) -> str:
        """The cause in words."""
        return {
            "process": self.reason or "its process died",
            "driver": "its driver died",
            "node": "its node was lost",
            "start": f"its process could not be started: {self.reason}",
        }[self.what]


# What a loss counts as in a claim: alone, with a local driver, with its node. A process that could
# not start counts as nothing.
COUNTED = {"process": "deaths", "driver": "cut_offs", "node": "losses"}


def note_loss(store: Store, trial_id: str, cause: Cause) -> None:
    """Count a lost attempt in the trial's claim."""
    claim = store.claims.read(trial_id)
    counts = _counts(claim)
    if (counted := COUNTED.get(cause.what)) is not None:
        counts[counted] += 1
    reasons = claim.get("reasons", []) if counts["deaths"] else []
    if cause.what == "process":
        reasons = [*reasons, cause.text]
    left = {**counts, "further": False, "reasons": reasons, "heartbeat": 0}
    store.claims.write(trial_id, {**claim, **left})


def is_suspect(store: Store, trial_id: str) -> bool:
    """Return whether a trial may be what ended the last local drivers, without a new checkpoint.

    Whether they were killed from outside or by their trial cannot be told afterwards.
    """
    return _counts(store.claims.read(trial_id))["cut_offs"] >= SUSPECT


def reason_to_give_up(store: Store, trial_id: str, max_attempts: int) -> str | None:
    """Return the reason not to start a trial again, None if it may start.

    A trial is given up if its process died `max_attempts` times in a row without a new checkpoint
    while its node lived: it would do so for ever.
    """
    claim = store.claims.read(trial_id)
    counts = _counts(claim)
    deaths, losses = counts["deaths"], counts["losses"]
    if deaths >= max_attempts:
        why = "; ".join(dict.fromkeys(claim.get("reasons", ())))
        return f"given up after {deaths} attempts: {why or 'its process died'}"
    if losses >= MAX_LOSSES:
        return f"its node was lost {losses} times in a row before it could save anything"
    return None


def settle_claims(store: Store, finished: Collection[str], *, local: bool) -> None:
    """Close the claims that an earlier driver left.

    The processes of a driver on Ray end with it, so this is no fault of their trials. A local
    driver is its trial's own process, so its death may be the trial's fault.
    """
    for trial_id, claim in store.claims.all().items():
        if trial_id in finished:
            store.claims.drop(trial_id)
        elif not claim.get("heartbeat"):
            continue
        elif local:
            note_loss(store, trial_id, Cause("driver"))
        else:
            store.claims.silence(trial_id)


def _counts(claim: Mapping[str, Any]) -> dict[str, int]:
    """Return how many attempts in a row were lost without progress, by what is counted."""
    return {
        name: 0 if claim.get("further") else int(claim.get(name, 0)) for name in COUNTED.values()
    }
