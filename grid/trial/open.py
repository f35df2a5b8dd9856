"""A trial made ready to train: its data on the device, its network with fresh weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from cnncore.config import network_options, own_training_names
from cnncore.data import ImageData, Splits, load_planned, open_splits
from cnncore.data.sources.kinds import name_from
from cnncore.functions import import_function
from cnncore.measure.device import prepare_process
from cnncore.models import build_model
from cnncore.models.builder import import_network
from cnncore.models.classifier_head import freeze_features
from cnncore.models.pretrained import load_pretrained
from cnncore.process_settings import SettingChanges, unchanged
from cnncore.seeding import derive_seed, seed_everything
from cnncore.training.openmp import use_threads
from cnncore.training.train import start
from cnncore.training.train_state import TrainState
from grid.plan.ids import Trial


@dataclass(frozen=True)
class ReadyTrial:
    """A trial before its first step."""

    data: ImageData
    splits: Splits
    state: TrainState
    device: torch.device
    changes: SettingChanges


def open_trial(
    trial: Trial,
    *,
    data_dir: str | Path,
    threads: int,
    device: str,
    module_path: str | None,
    skip_unreadable: bool,
    gpu_share: float | None = None,
    data: ImageData | None = None,
) -> ReadyTrial:
    """Load the data and build the network; its weights are pre-trained or follow from the seed.

    `threads` becomes PyTorch's number of threads in this process. Modules of the sweep's author
    are looked up in `module_path`, after everything installed, and so are data below it. With
    `skip_unreadable`, image files that cannot be decoded are left out. Settings of the process that
    the network's module or function changes are put back at once: they hold for no trial, not even
    this one. `data` are those of the trial, if they are loaded already.
    """
    config, seed = trial.config, trial.seed
    assert config.image_size is not None  # the plan fills it in
    prepare_process(device)
    look_up_in(module_path)
    use_threads(threads)
    torch_device = torch.device(device)
    if data is None:
        # Ray's workers run in a folder of their own.
        name = name_from(config.dataset, Path(data_dir), module_path)
        planned = config.model_copy(update={"dataset": name})
        data = load_planned(planned, data_dir, skip_unreadable=skip_unreadable)
    fold = None if trial.fold is None or trial.folds is None else (trial.fold, trial.folds)
    splits = open_splits(config, data, torch_device, fold, gpu_share or 1.0)
    # What a module draws when it is imported belongs to the trial, whichever process it is.
    seed_everything(derive_seed(seed, "import"))
    with unchanged() as by_import:
        import_network(config.arch)  # before seeding: the module may draw numbers when imported
        for name in own_training_names(config):
            import_function(name)
    seed_everything(derive_seed(seed, "weights"))
    with unchanged() as by_building:
        model = build_model(
            config.arch,
            classes=len(data.class_names),
            image_size=config.image_size,
            **network_options(config),
        )
    pretrained: set[str] = set()
    if config.pretrained:
        pretrained = load_pretrained(
            model,
            config.arch,
            config.pretrained,
            config.pretrained_fingerprint,
            image_size=config.image_size,
            options=network_options(config),
        )
    if config.freeze:
        freeze_features(model)
    state = start(config, model, seed, torch_device, pretrained)
    return ReadyTrial(data, splits, state, torch_device, SettingChanges(by_import + by_building))


def look_up_in(module_path: str | None) -> None:
    """Let modules be found in a folder, after everything installed."""
    if module_path and module_path not in sys.path:
        sys.path.append(module_path)
