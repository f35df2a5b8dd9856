"""The finished trial that an explanation is about: found in its results folder, opened again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.results.database import connect, rows, sql
from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint
from cnncore.config import TrialConfig
from cnncore.data import DataError, Splits, load_dataset, open_splits
from cnncore.models import build_model
from cnncore.seeding import derive_seed, seed_everything
from cnncore.training.allocator import keep_freed_memory
from grid.api import use_own_modules
from grid.cost.slots import pick_device
from grid.errors import GridError
from grid.plan.ids import make_trial
from grid.store.folder import Store
from grid.store.open import open_store
from grid.sweep.load import load_sweep
from grid.sweep.spec import Resources
from grid.trial.trial import BEST, network_options


@dataclass(frozen=True)
class Subject:
    """A complete trial with its data; its network is built when it is asked for."""

    store: Store
    trial_id: str
    config: TrialConfig
    seed: int
    splits: Splits
    device: torch.device

    @property
    def about(self) -> str:
        """The trial in a few words, for the note of a figure."""
        return f"{self.config.arch} on {self.config.dataset}, trial {self.trial_id}"

    @property
    def image_size(self) -> int:
        """The side of the network's input."""
        assert self.config.image_size is not None  # the plan fills it in
        return self.config.image_size

    def fresh(self) -> nn.Module:
        """The network with weights of its own: neither the trial's nor those it began with."""
        seed_everything(derive_seed(self.seed, "fresh weights"))
        model = build_model(
            self.config.arch,
            classes=len(self.splits.class_names),
            image_size=self.image_size,
            **network_options(self.config),
        )
        return model.to(self.device).eval()

    def trained(self) -> nn.Module:
        """The network with the weights that the trial chose. Raises `GridError` without them."""
        path = self.store.checkpoints(self.trial_id) / BEST
        self.store.fetch(path)
        try:
            payload = load_checkpoint(path)
        except DamagedCheckpoint as problem:
            raise GridError(f"{problem}; run the sweep into another --results folder") from None
        if payload is None:
            raise GridError(
                f"trial {self.trial_id} has no checkpoint ({path}): its weights were not kept; "
                "set `keep: best` in the sweep file and run it into another --results folder"
            )
        model = self.fresh()
        model.load_state_dict(payload["weights"])
        return model.eval()


def open_subject(results: str, wanted: str | None, data_dir: Path) -> Subject:
    """The trial whose id starts with `wanted`; by default the best of the best cell's winner.

    Raises `GridError` where there is none, more than one, or its data are not as they were.
    """
    store = open_store(results)
    row = _find(results, wanted)
    if row["state"] != "complete":
        raise GridError(
            f"trial {row['trial_id']} is {row['state']}: only complete trials can be explained"
        )
    config = TrialConfig.model_validate_json(row["config"])
    use_own_modules()
    try:
        data = load_dataset(
            config.dataset,
            data_dir,
            config.image_size,
            config.labels,
            skip_unreadable=bool(row["skipped_images"]),
        )
    except DataError as problem:
        raise GridError(str(problem)) from None
    if row["data_fingerprint"] not in (None, data.fingerprint):
        raise GridError(
            f"the images of {config.dataset} in {data_dir} are not those of trial "
            f"{row['trial_id']} (fingerprint {data.fingerprint}, then {row['data_fingerprint']}); "
            "give --data the folder that it was run with"
        )
    device = torch.device(pick_device(Resources()))
    if device.type == "cpu":
        keep_freed_memory()
    splits = open_splits(config, data, device, _fold(store, config, row))
    return Subject(store, row["trial_id"], config, row["seed"], splits, device)


def _fold(store: Store, config: TrialConfig, row: dict[str, Any]) -> tuple[int, int] | None:
    """Which fold of how many the trial had; the id tells whether the sweep file still says so."""
    if row["fold"] is None:
        return None
    sweep = store.folder / "sweep.yaml"
    store.fetch(sweep)
    folds = load_sweep(sweep).folds
    trial = make_trial(config, row["seed"], "", fold=row["fold"], folds=folds)
    if folds is None or trial.trial_id != row["trial_id"]:
        raise GridError(
            f"trial {row['trial_id']} had other folds than {sweep} has now, so "
            "its validation images are not known"
        )
    return row["fold"], folds


def _find(results: str, wanted: str | None) -> dict[str, Any]:
    connection = connect(results, all=wanted is not None)
    if wanted is None:
        found = rows(connection, sql("questions/winner"))
        if not found:
            raise GridError(f"{results}: no trial of it is complete yet; `cnngrid run` its sweep")
        return found[0]
    found = rows(connection, sql("questions/trials_by_id"), start=wanted)
    if len(found) != 1:
        raise GridError(
            f"--trial {wanted}: {'several ended trials start so' if found else 'no such trial'}; "
            f'`cnngrid sql {results} "SELECT trial_id, arch, seed, test_top1 FROM trials"` lists '
            "them"
        )
    return found[0]
