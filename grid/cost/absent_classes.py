"""Classes of which a split of the plan has no image: no score can be measured for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cnncore.config import TrialConfig
from cnncore.data import SPLIT_KEYS, absent_classes, outline_planned
from grid.plan.plan import Plan, corners

MOST_NAMED = 5


def absent_class_notes(plan: Plan, data_dir: Path) -> list[str]:
    """Return a note on every data set that lacks a class in a split. Raises `DataError`."""
    notes: dict[str, None] = {}
    fold = (0, plan.spec.folds) if plan.spec.folds else None
    for config in _different_splits(plan):
        data = outline_planned(config, data_dir, skip_unreadable=plan.skip_unreadable)
        for split, names in absent_classes(config, data, fold).items():
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            listed = f"{', '.join(names[:MOST_NAMED])}{more}"
            which = "class" if len(names) == 1 else "classes"
            note = f"{config.dataset}: no {split} image of {which} {listed}{CONSEQUENCE[split]}"
            notes[note] = None
    return list(notes)


CONSEQUENCE = {
    "train": ", which the networks cannot learn",
    "val": "",
    "test": "; macro averages leave out a class without test images unless it is predicted",
}


def _different_splits(plan: Plan) -> Iterator[TrialConfig]:
    """Yield a config of the plan for every different choice of images."""
    seen = set()
    for cell in plan.cells:
        for tuned in corners(plan.spec, cell.values):
            config = plan.resolver.resolve({**cell.values, **tuned})
            if (key := config.model_dump_json(include=SPLIT_KEYS)) not in seen:
                seen.add(key)
                yield config
