"""Cost of a plan: epochs, time and memory, measured on each network, and disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.results.location import inside
from cnncore.config import NETWORK_KEYS, TrialConfig, network_options, optimizer_moments
from cnncore.error_text import error_line, own_line
from grid.code.stored import code_used
from grid.cost.absent_classes import absent_class_notes
from grid.cost.decoding import decoding_notes
from grid.cost.disk import DiskNeed, disk_need
from grid.cost.slots import check_thread_limit, count_slots, pick_device
from grid.errors import GridError, SweepError
from grid.plan.plan import Plan, active_axes
from grid.search.earlier import code_notes, count_as_done, other_data
from grid.search.sweep_search import Search
from grid.store.open import open_store
from grid.trial.lineage import Lineage
from grid.trial.metric_check import metric_problems
from grid.trial.network_check import try_networks, unfinished_configs

# Batches of a measured epoch; the first epoch warms up, the second counts.
PROBE_BATCHES = 3
# A forward pass costs about a third of a training step, which also goes back through the network
# once for the activations and once for the weights (counting multiply-accumulates).
FORWARD_SHARE = 1 / 3
# Data sets that are decoded in less than this are, so that a plan finds a damaged picture.
PLAN_DECODES_S = 30.0


@dataclass(frozen=True)
class Cost:
    """Upper bound of the cost: early stopping makes it less."""

    trials: int
    left: int
    epochs: int
    training_images: int
    time_s: float
    slots: int
    memory_mib: float
    disk: DiskNeed | None  # None if nothing is left to run
    # Trials whose config was trained for fewer epochs before: how many continue from that
    # checkpoint, the epochs that this saves, and the reasons that others cannot.
    continued: int = 0
    epochs_saved: int = 0
    anew: tuple[str, ...] = ()
    # Notes on classes of which a split has no image; none if nothing is left to run.
    absent_classes: tuple[str, ...] = ()
    # Notes on finished trials that do not count, because their code or data have changed.
    left_behind: tuple[str, ...] = ()
    # What decoded copies take that are not there yet.
    decoding: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Measured:
    """Measurements of one network, and the images of its splits."""

    images_per_s: float
    memory_mib: float
    train_images: float  # of an epoch, on average
    other_images: int
    test_images: int


def estimate(plan: Plan, results: Path | str, data_dir: Path, slots: int | None = None) -> Cost:
    """Measure each different network of the plan for a few steps, and add everything up.

    Trials that the results folder has as finished cost nothing.
    """
    check_thread_limit(plan.spec.resources)
    decoding = decoding_notes(plan, data_dir)  # before any small data set is decoded
    device = pick_device(plan.spec.resources)
    count = count_slots(plan.spec.resources, slots, device)
    store = open_store(inside(results, plan.folder))
    store.files.fetch_tables()
    finished = count_as_done(store.finished(), plan)
    configs = list(_configs(plan))
    left = [config for config, trial_id in configs if trial_id not in finished]
    lineage = Lineage(store, finished)
    continued: Counter[str] = Counter()
    saved: Counter[str] = Counter()
    obstacles: dict[str, None] = {}
    # For a tuned sweep, the trials that were asked for so far.
    search = Search(plan, lineage.store, finished, keep=False)
    if plan.spec.tune and finished:
        _rehearse(search, len(plan.replicates))
    known = search.trials()
    if plan.spec.tune:
        done = sum(trial_id in finished for trial_id in known)
        left = left[min(done, len(left)) :]
    for trial in known.values():
        if trial.trial_id in finished or (shorter := lineage.shorter(trial)) is None:
            continue
        if shorter.state == "pruned" and plan.spec.stop and trial.lineage_id:
            saved[_key(trial.config)] += trial.config.epochs  # it stays pruned
        elif obstacle := lineage.obstacle(trial, shorter):
            obstacles[obstacle] = None
        else:
            continued[_key(trial.config)] += 1
            saved[_key(trial.config)] += shorter.epochs_run or 0
    time_s = memory_mib = 0.0
    images = epochs = 0
    keys = Counter(_key(config) for config in left)
    for key, config in {_key(config): config for config in left}.items():
        measured = _measured(plan, config, data_dir, device)
        trials = keys[key]
        trained = trials * config.epochs - saved[key]
        epochs += trained
        images += round(trained * measured.train_images)
        evaluated = measured.other_images * (trained + trials) + trials * measured.test_images
        time_s += (
            trained * measured.train_images + FORWARD_SHARE * evaluated
        ) / measured.images_per_s
        memory_mib = max(memory_mib, measured.memory_mib)
    return Cost(
        trials=len(configs),
        left=len(left),
        epochs=epochs,
        training_images=images,
        time_s=time_s / count,
        slots=count,
        memory_mib=memory_mib * count,
        disk=disk_need(plan, lineage.store.folder, data_dir, count) if left else None,
        continued=continued.total(),
        epochs_saved=saved.total(),
        anew=tuple(obstacles),
        absent_classes=tuple(absent_class_notes(plan, data_dir)) if left else (),
        left_behind=(*code_notes(plan, finished), *other_data(plan, store, finished, known)),
        decoding=tuple(decoding) if left else (),
    )


def with_tried_networks(plan: Plan, results: Path | str) -> Plan:
    """Try the networks of the trials that are left; return the plan with remarks on them.

    Raises `SweepError` with the problem of each network that cannot be trained, and of each metric
    of the user's.
    """
    store = open_store(inside(results, plan.folder))
    store.files.fetch_tables()
    device = pick_device(plan.spec.resources)
    done = count_as_done(store.finished(), plan)
    tried = try_networks(plan, unfinished_configs(plan, done), device)
    if problems := metric_problems(plan.resolver) + tried.placed(plan.resolver):
        position = plan.spec.source.position
        raise SweepError([f"{position(path)}: {text}" for path, text in problems])
    return replace(plan, remarks=tuple(tried.remarks()))


def _rehearse(search: Search, replicates: int) -> None:
    """Let a search that writes nothing ask again for the suggestions that no longer count.

    Those that need no results come out as they were; their trials may continue shorter ones. A
    search that has ended plans its confirming trials.
    """
    handed_out = max(search.left_behind * replicates, 0 if search.unfinished() else 1)
    for _ in range(handed_out):
        if search.next() is None:
            return


def _configs(plan: Plan) -> Iterable[tuple[TrialConfig, str | None]]:
    """Yield every trial's config and id; a tuned cell counts with the first values of its axes."""
    for trial in plan.trials:
        yield trial.config, trial.trial_id
    if plan.spec.tune:
        for cell in plan.cells:
            axes = active_axes(plan.spec, cell.values)
            first = {
                key: axis.values[0] if hasattr(axis, "values") else axis.low
                for key, axis in axes.items()
            }
            config = plan.resolver.resolve({**cell.values, **first})
            confirm = plan.spec.tune.confirm
            confirming = confirm.top * len(plan.confirm_replicates) if confirm else 0
            for _ in range(cell.budget * len(plan.replicates) + confirming):
                yield config, None


def _key(config: TrialConfig) -> str:
    """Return a key that is equal for configs of equal cost."""
    names = ("arch", "arch_options", "dataset", "image_size", "batch_size", "precision", "epochs")
    more = ("augment", "limit_train", "limit_test", "val_fraction", "ema", "mixup", "cutmix")
    own = ("loss", "train_epoch", "steps_per_epoch")
    content = config.model_dump(mode="json", include={*NETWORK_KEYS, "freeze", *names, *more, *own})
    return json.dumps(content, sort_keys=True)


def _measured(plan: Plan, config: TrialConfig, data_dir: Path, device: str) -> _Measured:
    """Measure a config. Raises `GridError` if it cannot be trained here."""
    try:
        with code_used(plan.resolver.code.earlier_folder(config)):
            return _measure(plan, config, data_dir, device)
    except GridError:
        raise
    except (Exception, SystemExit) as error:
        place = f" ({line})" if (line := own_line(error)) else ""
        raise GridError(
            f"{config.arch} on {config.dataset} with image_size {config.image_size} and "
            f"batch_size {config.batch_size} cannot be trained on this machine: "
            f"{error_line(error)}{place}"
        ) from None


def _measure(plan: Plan, config: TrialConfig, data_dir: Path, device: str) -> _Measured:
    """Train a network for a few batches, and estimate its memory."""
    from cnncore.complexity import describe_network
    from cnncore.data import open_splits, outline_planned
    from cnncore.process_settings import random_states_kept, unchanged
    from cnncore.training.train import EpochResult, train
    from grid.plan.ids import make_trial
    from grid.trial.open import open_trial

    import torch  # isort: skip

    assert config.image_size is not None
    # Pixels do not change how long a step takes.
    data = outline_planned(
        config, data_dir, skip_unreadable=plan.skip_unreadable, decodes_s=PLAN_DECODES_S
    )
    folds = plan.spec.folds
    splits = open_splits(config, data, torch.device(device), (0, folds) if folds else None)
    short = min(PROBE_BATCHES * config.batch_size, len(splits.train))
    probe = config.model_copy(
        update={
            "limit_train": max(short, len(data.class_names)),
            "limit_test": None,
            "val_fraction": 1 / len(data.train_labels),
            "epochs": 2,
            "steps_per_epoch": None,
            # They cost nothing, and so few images may lack a class.
            "class_weights": None,
            "sampling": None,
        }
    )
    with unchanged(), random_states_kept():
        trial = open_trial(
            make_trial(probe, 0, ""),
            data_dir=data_dir,
            threads=plan.spec.resources.cpus,
            device=device,
            module_path=str(Path.cwd()),
            skip_unreadable=plan.skip_unreadable,
            data=data,
        )
        rate = 1.0
        for event in train(trial.state, trial.splits, probe, boundary_every_s=1e9):
            if isinstance(event, EpochResult):
                rate = event.train_images_per_s
        parameters, complexity = describe_network(
            config.arch,
            classes=len(data.class_names),
            image_size=config.image_size,
            **network_options(config),
        )
    weights_mib = 4 * (parameters.trainable + parameters.non_trainable) / 2**20
    # The gradient and the moments.
    states = 1 + optimizer_moments(config.optimizer, config.momentum, config.optimizer_options)
    # Each activation is held for the backward pass, before and after its non-linearity.
    # Where activations cannot be counted, the weights alone are the lower bound.
    activations_mib = 2 * 4 * (complexity.activations or 0) * config.batch_size / 2**20
    return _Measured(
        images_per_s=rate,
        memory_mib=weights_mib * (1 + states) + activations_mib,
        train_images=splits.train.images_until(config.epochs) / config.epochs,
        other_images=len(splits.val),
        test_images=len(splits.test),
    )
