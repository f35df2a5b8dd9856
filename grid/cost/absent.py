"""What a plan lacks on this machine: classes without an image in a split, pre-trained weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cnncore.catalog import library_of
from cnncore.config import TrialConfig
from cnncore.data import SPLIT_KEYS, absent_classes
from cnncore.models.pretrained_source import IMAGENET
from grid.plan.plan import Plan, corners
from grid.plan.planned_data import data_of

MOST_NAMED = 5


def absent_class_notes(plan: Plan, data_dir: Path) -> list[str]:
    """Return a note on every data set that lacks a class in a split. Raises `DataError`."""
    notes: dict[str, None] = {}
    fold = (0, plan.spec.folds) if plan.spec.folds else None
    for config in _different_splits(plan):
        if config.dataset in plan.absent_data:
            continue
        data = data_of(plan, config, data_dir)
        for split, names in absent_classes(config, data, fold).items():
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            listed = f"{', '.join(names[:MOST_NAMED])}{more}"
            which = "class" if len(names) == 1 else "classes"
            note = f"{config.dataset}: no {split} image of {which} {listed}{CONSEQUENCE[split]}"
            notes[note] = None
    return list(notes)


def weights_notes(configs: Iterable[TrialConfig]) -> list[str]:
    """Return a note on ImageNet's weights of each network that a run would download."""
    networks = {config.arch for config in configs if config.pretrained == IMAGENET}
    missing = [arch for arch in sorted(networks) if library_of(arch) is None]
    if not missing:
        return []
    from cnncore.models.pretrained import missing_weights  # loads torch

    return [note for arch in missing if (note := missing_weights(arch))]


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
