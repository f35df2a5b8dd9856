"""Ended trials of a results folder under the sweep file of today."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from cnncore.data.sources.kinds import is_function
from grid.code.stored import changed_files
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


def code_notes(plan: Plan, finished: Mapping[str, Finished]) -> Iterator[str]:
    """Yield a text on each edit of the user's own code that leaves finished trials behind."""
    code = plan.resolver.code
    if code.stored is None:
        return
    for new, old in code.vouched.items():
        before = old[:4] if old else "that of earlier trials"
        yield f"--same-code: code {new[:4]} counts as {before}, in later runs too; tables say so"
    for names in sorted(code.too_late):
        yield (
            f"--same-code: {' and '.join(names)}: today's code has finished trials already, so it "
            "stays a version of its own"
        )
    ended = [ran for ran in code.stored.trials if ran.trial_id in finished]
    for names, planned in code.planned.items():
        of_these = [ran for ran in ended if ran.names == names]
        trials = [ran for ran in of_these if ran.fingerprint not in planned]
        newest = max(of_these, key=lambda ran: ran.at, default=None)
        if newest is None or newest.fingerprint in planned:  # known since the first of today's
            continue
        label = " and ".join(names)
        if newest.fingerprint is None:
            change = f"{label}: {counted(len(trials), 'finished trial')} of an earlier version"
            change += " of cnngrid do not tell their code"
        else:
            files = changed_files(code.stored, newest, plan.sources)
            now = code.present.get(names, "")[:4]
            change = (
                f"{files} changed: {counted(len(trials), 'finished trial')} ran earlier code of "
                f"{label} ({newest.fingerprint[:4]}, now {now})"
            )
        yield (
            f"{change}; they do not count, stay, and leave the tables (--all shows them). If the "
            "edit changes no result, give --same-code"
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
