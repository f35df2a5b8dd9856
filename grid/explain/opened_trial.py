"""A finished trial, found in its results folder and opened again for an analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.results.database import connect, rows
from analysis.results.sql_files import sql
from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint
from cnncore.config import TrialConfig, network_options
from cnncore.data import DataError, Splits, load_dataset, open_splits
from cnncore.data.dataset import ANY
from cnncore.data.sources.kinds import is_function
from cnncore.functions import RESERVED
from cnncore.models import build_model
from cnncore.models.builder import import_network
from cnncore.own_modules import use
from cnncore.process_settings import unchanged
from cnncore.seeding import derive_seed, seed_everything
from cnncore.training.glibc_allocator import keep_freed_memory
from grid.api import use_own_modules
from grid.code.sources import names_in
from grid.code.stored import open_code
from grid.cost.slots import pick_device
from grid.errors import GridError
from grid.plan.ids import make_trial
from grid.store.folder import Store
from grid.store.open import open_store
from grid.sweep.load import load_sweep
from grid.sweep.spec import Resources
from grid.trial.trial import BEST


@dataclass(frozen=True)
class OpenedTrial:
    """A complete trial with its data; its network is built on request."""

    store: Store
    trial_id: str
    config: TrialConfig
    seed: int
    splits: Splits
    device: torch.device

    @property
    def about(self) -> str:
        """Short description of the trial for the note of a figure."""
        return f"{self.config.arch} on {self.config.dataset}, trial {self.trial_id}"

    @property
    def image_size(self) -> int:
        """Side of the network's input, in pixels."""
        assert self.config.image_size is not None  # the plan fills it in
        return self.config.image_size

    def fresh(self) -> nn.Module:
        """Return the network with new random weights, neither the trial's nor its initial ones."""
        with unchanged():
            import_network(self.config.arch)  # before seeding: the module may draw numbers
        seed_everything(derive_seed(self.seed, "fresh weights"))
        with unchanged():
            model = build_model(
                self.config.arch,
                classes=len(self.splits.class_names),
                image_size=self.image_size,
                **network_options(self.config),
            )
        return model.to(self.device).eval()

    def trained(self) -> nn.Module:
        """Return the network with the trial's best weights; raise `GridError` without them."""
        path = self.store.checkpoints(self.trial_id) / BEST
        self.store.files.fetch(path)
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
        try:
            model.load_state_dict(payload["weights"])
        except (KeyError, TypeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise GridError(f"{path}: not the weights of {self.config.arch}: {reason}") from None
        return model.eval()


def open_finished_trial(
    results: str, id_start: str | None, data_dir: Path, *, trust: bool = False
) -> OpenedTrial:
    """Open the trial whose id starts with `id_start`, or the best of the best cell's winner.

    Functions outside cnngrid that its config names are called only with `trust`. Raises
    `GridError` if there is no such trial or more than one, or if its data have changed.
    """
    store = open_store(results)
    row = _trial_row(results, id_start)
    if row["state"] != "complete":
        raise GridError(
            f"trial {row['trial_id']} is {row['state']}: only complete trials can be explained"
        )
    try:
        config = TrialConfig.model_validate_json(row["config"])
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise GridError(f"{results}: trial {row['trial_id']}: damaged config: {reason}") from None
    if named := _foreign_functions(config):
        if not trust:
            raise GridError(
                f"{results}: trial {row['trial_id']} needs {' and '.join(named)}, code that is not "
                "cnngrid's; to run it give --trust, if you know where this folder comes from"
            )
        use_own_modules()
        if row["code_folder"]:
            use(open_code(store, row["code_folder"]).absolute())
    try:
        data = load_dataset(
            config.dataset,
            data_dir,
            config.image_size,
            config.labels,
            skip_unreadable=bool(row["skipped_images"]),
            fingerprint=row["data_fingerprint"] if is_function(config.dataset) else ANY,
            resize=config.resize,
            background=config.background,
        )
    except DataError as problem:
        raise GridError(str(problem)) from None
    if row["data_fingerprint"] not in (None, data.fingerprint):
        raise GridError(
            f"the images of {config.dataset} in {data_dir} are not those of trial "
            f"{row['trial_id']} (fingerprint {data.fingerprint}, then {row['data_fingerprint']}); "
            "give --data the folder that it was run with; if it is that folder, an earlier version "
            "read these images in another way, so run the sweep again"
        )
    device = torch.device(pick_device(Resources()))
    if device.type == "cpu":
        keep_freed_memory()
    splits = open_splits(config, data, device, _fold(store, config, row))
    return OpenedTrial(store, row["trial_id"], config, row["seed"], splits, device)


def _foreign_functions(config: TrialConfig) -> list[str]:
    """Return the functions that a config names and cnngrid does not bring itself."""
    return [
        name for name in names_in(config.model_dump()) if name.partition(":")[0] not in RESERVED
    ]


def _fold(store: Store, config: TrialConfig, row: dict[str, Any]) -> tuple[int, int] | None:
    """Return a trial's fold and the number of folds; None without cross-validation.

    The number comes from the sweep file. It is right if it gives the trial's id; raises `GridError`
    otherwise.
    """
    if row["fold"] is None:
        return None
    sweep = store.folder / "sweep.yaml"
    store.files.fetch(sweep)
    folds = load_sweep(sweep).folds
    trial = make_trial(config, row["seed"], "", fold=row["fold"], folds=folds)
    if folds is None or trial.trial_id != row["trial_id"]:
        raise GridError(
            f"trial {row['trial_id']} had other folds than {sweep} has now, so "
            "its validation images are not known"
        )
    return row["fold"], folds


def _trial_row(results: str, id_start: str | None) -> dict[str, Any]:
    """Return the row of the trial to open; raise `GridError` if it is not exactly one."""
    connection = connect(results, all=id_start is not None)
    if id_start is None:
        winners = rows(connection, sql("questions/winner"))
        if not winners:
            raise GridError(f"{results}: no trial of it is complete yet; `cnngrid run` its sweep")
        winner = winners[0]
        if winner["val_top1"] is None and winner["complete"] > 1:
            raise GridError(
                f"{results}: without validation images no trial is the best; name one: --trial ID "
                f'(`cnngrid sql {results} "SELECT trial_id, arch, seed, test_top1 FROM trials"`)'
            )
        return winner
    trials = rows(connection, sql("questions/trials_by_id"), start=id_start)
    if len(trials) != 1:
        problem = "several ended trials start with it" if trials else "no such trial"
        raise GridError(
            f"--trial {id_start}: {problem}; "
            f'`cnngrid sql {results} "SELECT trial_id, arch, seed, test_top1 FROM trials"` lists '
            "them"
        )
    return trials[0]
