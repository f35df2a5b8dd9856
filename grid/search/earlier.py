"""Ended trials of a results folder under the sweep file of today."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from cnncore.data.sources.open import is_function
from grid.errors import GridError
from grid.phrases import counted
from grid.plan.ids import Trial
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


def other_data(
    plan: Plan, store: Store, finished: Mapping[str, Finished], trials: Mapping[str, Trial]
) -> Iterator[str]:
    """Yield a text on each data set of which the folder has trials with other content."""
    left = [row for trial_id, row in finished.items() if trial_id not in trials]
    for (name, _), facts in plan.resolver.datasets().items():
        rows = [row for row in left if row.dataset == name and facts.fingerprint]
        others = [row for row in rows if row.data_fingerprint not in (None, facts.fingerprint)]
        if others:
            yield (
                f"{name}: {counted(len(others), 'finished trial')} had other images or labels than "
                "it has now; they do not count, stay, and leave the tables (--all shows them)"
            )
        elif is_function(name) and any(_without_fingerprint(store, row) for row in rows):
            yield (
                f"{name}: finished trials of an earlier version are run again, because their ids "
                "do not tell the data; they stay, and leave the tables (--all shows them)"
            )


def _without_fingerprint(store: Store, row: Finished) -> bool:
    """Recognise a trial from before the data of a user's function were part of a config."""
    stored = store.row(row.trial_id)
    return stored is not None and "data_fingerprint" not in (stored["config"] or "")
