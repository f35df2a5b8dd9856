"""Ended trials of a results folder under the sweep file of today."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from grid.errors import GridError
from grid.phrases import counted
from grid.plan.plan import Plan
from grid.store.folder import Finished, Store
from grid.sweep.load import load_sweep


def count_as_done(
    rows: Mapping[str, Finished], plan: Plan, *, retry: Collection[str] = ()
) -> dict[str, Finished]:
    """Return the ended trials that count as done for this plan."""
    tune = plan.spec.tune
    prunes = plan.spec.stop is not None or (tune is not None and tune.drop is not None)
    return {
        trial_id: row
        for trial_id, row in rows.items()
        # Without a rule that prunes, a pruned trial is one cut short: it is trained to its end.
        if not (row.state == "pruned" and not prunes) and row.state not in retry
    }


def pruned_otherwise(store: Store, plan: Plan, finished: Mapping[str, Finished]) -> str | None:
    """Return a note if trials that count as done were pruned by another rule than today's.

    The folder still has the sweep file of the last run.
    """
    pruned = sum(row.state == "pruned" for row in finished.values())
    path = store.folder / "sweep.yaml"
    if not pruned:
        return None
    try:
        store.files.fetch(path)
        before = load_sweep(path)
    except GridError:
        return None
    if before.stop == plan.spec.stop:
        return None
    return (
        f"{store.display_name}: {counted(pruned, 'trial')} ended early by a stopping rule that the "
        "sweep file no longer has; they stay as they are. To search by today's rule alone, give "
        "another --results folder"
    )
