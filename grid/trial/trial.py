"""One trial: a config and a seed in, rows out. Knows no Ray and no other trial."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from cnncore.catalog import library_of
from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint
from cnncore.complexity import count_parameters, describe_network
from cnncore.config import TrialConfig, network_options
from cnncore.data.progress import show_progress
from cnncore.data.resident import drop_resident
from cnncore.measure.device import device_name, prepare_process
from cnncore.measure.energy import energy_meter
from cnncore.measure.evaluate import class_rows, predict, prediction_columns
from cnncore.measure.latency import measure_latency
from cnncore.measure.memory import (
    limit_memory,
    peak_memory_mib,
    reset_peak_memory,
)
from cnncore.measure.metrics import classification_metrics
from cnncore.measure.own_metrics import Measures, open_measures
from cnncore.models.logits import check_logits
from cnncore.own_modules import use
from cnncore.process_settings import ProcessSettings, random_states_kept, unchanged
from cnncore.training.busy_machine import BusyWatch
from cnncore.training.train import EpochResult, train
from cnncore.training.train_state import TrainState, chosen_model
from grid.code.stored import imported_packages, open_code
from grid.code.versions import versions
from grid.errors import StoppedAtOnce, StoreError, Superseded
from grid.store.atomic import remove, storing
from grid.store.folder import Store
from grid.trial.assignment import Assignment, Progress
from grid.trial.attempt import Attempt
from grid.trial.faults import fault_of, leave_device, write_log
from grid.trial.open import ReadyTrial, look_up_in, open_trial
from grid.trial.rows import drop_checkpoints

log = logging.getLogger(__name__)

# File of the chosen weights in a trial's checkpoint folder.
BEST = "best.pt"


def run_trial(assignment: Assignment, store: Store) -> Generator[Progress, None, None]:
    """Train, evaluate and record one trial; resume from its last checkpoint if it has one.

    Yields after every epoch but the last of the budget, which needs no decision, and at the end:
    that report has `done` set, and the trial's row is stored, unless the trial ran out of memory
    and must run once more with a device to itself (`retry_alone`). In long epochs it also yields
    now and then after a step (`within_epoch`). Closing it earlier writes a checkpoint of that
    moment; the caller writes the row if the trial ends there (`write_pruned`). An exception of the
    trial itself makes it `failed`, a loss that is not a number `diverged`; `StoreError` passes.
    Raises `BrokenDevice` if this process can use its GPU no more: it must run no further trial.

    Settings of the process that the network changes hold for this trial alone: whoever runs between
    its steps and after it has those from before.
    """
    prepare_process(assignment.device)
    before, steps = ProcessSettings(), _run(assignment, store)
    with random_states_kept():
        try:
            for progress in steps:
                within = before.swap()
                yield progress
                if within:
                    within.put_back()
        finally:
            steps.close()
            before.put_back()


def _run(assignment: Assignment, store: Store) -> Generator[Progress, None, None]:
    """Run the trial under the settings that it finds and makes."""
    started, own = time.perf_counter(), os.getpid()
    attempt = Attempt.begin(assignment, store)
    attempt.machine = machine = BusyWatch(assignment.threads)
    machine.start()
    fault = None
    try:
        # The steps do not see this generator's own end, so whatever they raise is the trial's.
        with contextlib.closing(_steps(assignment, store, attempt, started)) as steps:
            while True:
                try:
                    with _exits_raise(), _only_in(own):
                        progress = next(steps)
                except (StoreError, Superseded, StoppedAtOnce):
                    raise
                except BaseException as error:
                    if hasattr(error, "ray_terminate_msg"):
                        raise  # Ray ends this process on SIGTERM, by a `SystemExit` with this mark
                    fault = fault_of(assignment, attempt, error)
                    if fault.kind in ("failed", "broken device"):
                        write_log(store, assignment, error)
                    break
                if progress.done:
                    break
                yield progress
    finally:
        machine.stop()
    # Outside the handler, because the traceback holds the network and its batches.
    leave_device(assignment, fault)
    if fault is None:
        yield progress
    elif fault.kind == "out of memory":
        yield attempt.retry_alone(fault.reason)
    else:
        yield attempt.end(fault.kind, fault.reason, started)


@contextlib.contextmanager
def _only_in(process: int) -> Iterator[None]:
    """End a process that the trial's code forked and that comes out of the block like its parent.

    It would go on as a second driver.
    """
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


@contextlib.contextmanager
def _exits_raise() -> Iterator[None]:
    """Let `os._exit`, called by the trial's own thread, raise `SystemExit` in the block.

    Without Ray a trial runs in the driver's process, which it must not end, least of all with 0.
    """
    end, own = os._exit, (os.getpid(), threading.get_ident())

    def exit_trial(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) == own:
            raise SystemExit(f"os._exit({status})")
        end(status)

    os._exit = exit_trial
    try:
        yield
    finally:
        os._exit = end


def _steps(
    assignment: Assignment, store: Store, attempt: Attempt, started: float
) -> Generator[Progress, None, None]:
    config = assignment.trial.config
    attempt.claim(started)
    limit_memory(torch.device(assignment.device), assignment.own_share)
    if assignment.alone:
        drop_resident()
    look_up_in(assignment.module_path)
    _use_code(assignment, store, attempt)
    measures = open_measures(assignment.metrics, config.objective)
    # Pictures that this node has not decoded yet may take hours: that is no hang.
    with show_progress(lambda *_: attempt.renew_if_due(started)):
        trial = open_trial(
            assignment.trial,
            data_dir=assignment.data_dir,
            threads=assignment.threads,
            device=assignment.device,
            module_path=assignment.module_path,
            skip_unreadable=assignment.skip_unreadable,
            # The plan's, also for a trial that runs alone: batches of evaluation stay the same.
            gpu_share=assignment.gpu_share,
        )
    data, splits, state, device = trial.data, trial.splits, trial.state, trial.device
    for split in (splits.train, splits.val, splits.test):
        split.before_batch = lambda: attempt.renew_if_due(started)
    attempt.changes = trial.changes
    attempt.renew_if_due(started)
    with unchanged():
        costs = _cost_columns(config, state.model, len(data.class_names))
    attempt.row.update(
        costs,
        device=device_name(device),
        data_fingerprint=data.fingerprint,
        skipped_images=data.skipped,
        checkpoint_mib=_size_mib(state.model),
    )
    attempt.renew_if_due(started)
    reset_peak_memory(device)
    earlier_j = _resume(assignment, store, attempt, state)
    # Energy is of the whole GPU, its neighbours included, and of all epochs or none.
    counts = earlier_j is not None and attempt.row["gpu_share"] == 1
    energy = energy_meter(device) if counts else None
    checkpointed = time.perf_counter()
    if state.epoch:
        # The row of a resumed trial, also if the early stop of a shorter trial ends this one too.
        attempt.update(state.best_epoch, splits.train.images_until, started)
    if 0 < state.epoch < config.epochs:
        # Reported again, because the driver may have died before it judged this epoch.
        yield attempt.progress(done=False)

    for event in train(
        state,
        splits,
        config,
        boundary_every_s=min(assignment.heartbeat_s, assignment.checkpoint_s),
        measures=measures,
    ):
        is_epoch = isinstance(event, EpochResult)
        attempt.trains = True
        if isinstance(event, EpochResult):
            attempt.add_epoch(event)
            attempt.update(state.best_epoch, splits.train.images_until, started)
            attempt.row["energy_j"] = (earlier_j or 0.0) + energy.joules() if energy else None
        saved = is_epoch and event.epoch in assignment.pause_epochs
        if saved or time.perf_counter() - checkpointed >= assignment.checkpoint_s:
            _save(assignment, store, attempt, state)
            saved, checkpointed = True, time.perf_counter()
        if is_epoch or saved:
            attempt.renew(started)
        else:
            attempt.renew_if_due(started)
        if not is_epoch or event.epoch < config.epochs:
            try:
                yield attempt.progress(done=False, within_epoch=not is_epoch)
            except GeneratorExit:
                # Stopped, or ended or started elsewhere. If the disk is full, the checkpoint
                # before this one has to do.
                if not saved:
                    with contextlib.suppress(StoreError, Superseded):
                        _save(assignment, store, attempt, state)
                raise

    _finish(assignment, store, attempt, trial, measures)
    ended = attempt.end("complete", state.stop_reason, started)
    # Only now: a trial that is cut off before its row is stored resumes from these files.
    if assignment.keep == "best":
        store.files.remove(store.last_checkpoint(assignment.trial.trial_id))
    elif assignment.keep == "none":
        drop_checkpoints(store, assignment.trial.trial_id)
    yield ended


def _use_code(assignment: Assignment, store: Store, attempt: Attempt) -> None:
    """Let this process import the author's modules from the copy that the trial is to run."""
    if assignment.code_folder is None:
        return
    folder = open_code(store, assignment.code_folder).absolute()
    # Anew: weights that a module keeps would go from one trial to the next.
    use(folder, anew=True)
    attempt.row.update(
        code_folder=assignment.code_folder,
        code=assignment.code,
        versions=versions(library_of(assignment.trial.config.arch), *imported_packages(folder)),
    )


def _cost_columns(
    config: TrialConfig, model: torch.nn.Module, classes: int
) -> dict[str, int | None]:
    assert config.image_size is not None
    # Counted on the trial's own network, because its frozen weights are not trainable.
    parameters = count_parameters(model)
    _, complexity = describe_network(
        config.arch, classes=classes, image_size=config.image_size, **network_options(config)
    )
    return {
        "trainable_params": parameters.trainable,
        "non_trainable_params": parameters.non_trainable,
        "macs": complexity.macs,
        "activations": complexity.activations,
    }


def _size_mib(model: torch.nn.Module) -> float:
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20


def _resume(
    assignment: Assignment, store: Store, attempt: Attempt, state: TrainState
) -> float | None:
    """Load the trial's last checkpoint, else that of the shorter trial it continues.

    Returns the energy so far, in joules; None if it was not measured.
    """
    folder = store.checkpoints(assignment.trial.trial_id)
    if folder.is_symlink():  # not ours: its target stays as it is
        remove(folder)
    for part in folder.glob("*.tmp"):
        remove(part)  # left by an attempt that died while it wrote
    for trial_id in (assignment.trial.trial_id, assignment.continued_from):
        path = store.last_checkpoint(trial_id) if trial_id else None
        if path is None or not store.files.fetch(path):
            continue
        try:
            payload = load_checkpoint(path)
        except DamagedCheckpoint as problem:
            log.warning("%s; the trial starts again from its first epoch", problem)
            store.files.remove(path)
            continue
        assert payload is not None
        state.load_state_dict(payload["state"])
        own = trial_id == assignment.trial.trial_id
        attempt.take_over(
            payload["epochs"],
            payload.get("metrics", []),
            payload["continued_from"] if own else trial_id,
        )
        shares = [attempt.row["gpu_share"], payload.get("gpu_share")]
        attempt.row["gpu_share"] = min((s for s in shares if s is not None), default=None)
        energy_j = payload["energy_j"]
        # Within the first epoch there is none yet.
        return energy_j if energy_j is not None or payload["epochs"] else 0.0
    return 0.0


def _save(assignment: Assignment, store: Store, attempt: Attempt, state: TrainState) -> None:
    """Write the checkpoint to resume from."""
    attempt.check()
    payload = {
        "state": state.state_dict(),
        "epochs": [{**row, "ended_at": row["ended_at"].isoformat()} for row in attempt.epochs],
        "metrics": attempt.metrics,
        "energy_j": attempt.row.get("energy_j"),
        "gpu_share": attempt.row["gpu_share"],
        "continued_from": attempt.row.get("continued_from"),
    }
    _write_checkpoint(store, store.last_checkpoint(assignment.trial.trial_id), payload)
    attempt.save(state.epoch, state.step)


def _write_checkpoint(store: Store, path: Path, payload: dict[str, Any]) -> None:
    store.files.check_present()
    with storing(path):
        save_checkpoint(path, payload)
    store.files.upload(path)


def _finish(
    assignment: Assignment, store: Store, attempt: Attempt, trial: ReadyTrial, measures: Measures
) -> None:
    """Evaluate the chosen weights on validation, then on test, read for the first and only time."""
    config, trial_id = assignment.trial.config, assignment.trial.trial_id
    state, data, splits, device = trial.state, trial.data, trial.splits, trial.device
    assert config.image_size is not None
    # The last checkpoint comes first: a kill during the evaluation then costs no training.
    if assignment.keep == "last" or attempt.row["wall_time_s"] >= assignment.checkpoint_s:
        _save(assignment, store, attempt, state)
    model = chosen_model(state)
    predictions = {}
    if len(splits.val):
        # The chosen epoch's are in memory, unless the trial resumed after that epoch.
        predictions["val"] = state.best_predictions or predict(
            model, splits.val.batches(), precision=config.precision, device=device
        )
    test = predict(model, splits.test.batches(), precision=config.precision, device=device)
    predictions["test"] = test
    for logits, labels in predictions.values():  # a network may answer otherwise than in training
        check_logits(logits, len(labels), len(data.class_names))
    metrics_of = {split: classification_metrics(*pair) for split, pair in predictions.items()}
    one, sixteen = (
        measure_latency(
            model,
            config.image_size,
            batch_size=size,
            device=device,
            precision=config.precision,
        )
        for size in (1, 16)
    )
    scores = metrics_of["test"]
    attempt.row.update(
        test_top1=scores.top1,
        test_top5=scores.top5,
        test_loss=scores.loss,
        test_macro_precision=scores.macro_precision,
        test_macro_recall=scores.macro_recall,
        test_macro_f1=scores.macro_f1,
        test_macro_auc=scores.macro_auc,
        test_ece=scores.ece,
        latency_ms_p50=one.p50_ms,
        latency_ms_p95=one.p95_ms,
        batch16_latency_ms=sixteen.p50_ms,
        peak_memory_mib=peak_memory_mib(device),
    )
    rows = [
        row
        for split, metrics in metrics_of.items()
        for row in class_rows(metrics, data.class_names, trial_id=trial_id, split=split)
    ]
    attempt.check()
    store.write("classes", trial_id, rows)
    attempt.add_metrics("test", state.best_epoch, measures(*test))
    if assignment.keep_predictions == "all" or assignment.keep_predictions == assignment.trial.role:
        columns = prediction_columns(metrics_of["test"], trial_id=trial_id, split="test")
        store.write_columns("predictions", trial_id, columns)
    if assignment.keep == "best":
        folder = store.checkpoints(trial_id)
        _write_checkpoint(store, folder / BEST, {"weights": model.state_dict()})
