"""The training loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncore.config import EarlyStop, Objective, Plateau, TrialConfig
from cnncore.data.augment.mixing import draw_mix
from cnncore.data.batches import Batches
from cnncore.data.splits import Splits
from cnncore.measure.evaluate import autocast, predict
from cnncore.measure.own_metrics import Measured, Measures, objective_value, open_measures
from cnncore.models.classifier_head import feature_norms
from cnncore.models.logits import check_logits
from cnncore.seeding import derive_seed, seed_epoch
from cnncore.training.ema import update_ema
from cnncore.training.float32 import use_float32
from cnncore.training.glibc_allocator import keep_freed_memory
from cnncore.training.loss import build_loss
from cnncore.training.memory_format import to_channels_last
from cnncore.training.optimizers.build import build_optimizer, set_rate
from cnncore.training.optimizers.modes import to_eval_mode, to_train_mode
from cnncore.training.own_epoch import import_epoch, train_own_epoch
from cnncore.training.repeatable import use_deterministic
from cnncore.training.schedule import learning_rate
from cnncore.training.train_state import (
    BestSoFar,
    TrainState,
    copy_weights,
    random_state,
    set_random_state,
)

# Most logits kept on the device for the running accuracy before they are read: 64 MiB in fp32.
UNREAD_LOGITS = 2**24
# With fewer classes top-5 accuracy is not informative.
TOP5_CLASSES = 6


class Diverged(Exception):
    """Error for a training or validation loss that is no longer finite."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True)
class EpochResult:
    """Result of one epoch.

    `train_*` are running means in training mode, on augmented images; `train_loss` is that of the
    loss that is trained on, `val_loss` the plain cross-entropy. For mixed images `train_top1`
    counts the label with the larger weight. `lr` is the last step's. `val_top5` is None below six
    classes. `is_best` is true if `select` would choose this epoch among those so far. `stop_reason`
    is set in the epoch after which `early_stop` ends the training. `objective` is the value of the
    config's objective, NaN where it has none; None if it is `val_top1`. `metrics` are those that
    were asked for, on validation. Without validation images `val_*` are None and `metrics` empty.
    """

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    val_loss: float | None
    val_top1: float | None
    val_top5: float | None
    train_time_s: float
    eval_time_s: float
    train_images_per_s: float
    is_best: bool
    stop_reason: str | None
    objective: float | None = None
    metrics: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class StepBoundary:
    """Moment after step `step` of the unfinished `epoch`; the state is fit for a checkpoint."""

    epoch: int
    step: int


def start(
    config: TrialConfig,
    model: nn.Module,
    seed: int,
    device: torch.device,
    pretrained: Collection[str] = (),
) -> TrainState:
    """Return the state before the first step; moves `model` to `device` and `channels_last`.

    `seed` determines the order, augmentation and dropout of every step. The weights stay as they
    are; `pretrained` names the pre-trained ones. Sets PyTorch's deterministic mode and its 32-bit
    arithmetic as `config` says and, on a CPU, calls `keep_freed_memory`. Raises `ValueError` if the
    device does not have the precision.
    """
    if device.type == "cpu":
        keep_freed_memory()
    use_deterministic(bool(config.deterministic), device)
    use_float32(config.precision, device)
    model.to(device)
    to_channels_last(model)
    return TrainState(
        model=model,
        optimizer=build_optimizer(config, model, pretrained),
        seed=seed,
        device=device,
        ema=copy.deepcopy(model).requires_grad_(False) if config.ema is not None else None,
    )


def train(
    state: TrainState,
    splits: Splits,
    config: TrialConfig,
    *,
    boundary_every_s: float = 30.0,
    measures: Measures | None = None,
) -> Iterator[EpochResult | StepBoundary]:
    """Train to the last epoch or an early stop; yield after each epoch, and within long ones.

    `measures`, by default those of the objective alone, are computed after each epoch.
    A `StepBoundary` follows the first step that ends more than `boundary_every_s` seconds after
    the last yield; within an epoch of the user's own, `train_epoch`, there is none. At every yield
    `state` is whole: resumed from a copy of it, on a CPU with as many threads, all later weights
    and metrics are the same bit for bit. The consumer may use the model and the global random
    generators meanwhile; its time is not counted.

    Raises `Diverged` when the training or validation loss is no longer finite.
    """
    model, optimizer, ema = state.model, state.optimizer, state.ema
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    device, steps = state.device, splits.train.steps
    loss_of = build_loss(config, splits, device)
    own_epoch = None if config.train_epoch is None else import_epoch(config.train_epoch)
    aux_weight = config.aux_weight or 0.0
    # Statistics of frozen features keep their trained values.
    frozen_norms = feature_norms(model) if config.freeze == "features" else []
    measures = measures or open_measures((), config.objective)

    while state.epoch < config.epochs and state.stop_reason is None:
        epoch = state.epoch + 1
        images_seen = splits.train.images_until(epoch) - splits.train.images_until(epoch - 1)
        to_train_mode(optimizer)
        model.train()
        for norm in frozen_norms:
            norm.eval()
        started = perf_counter()
        # Dropout draws from the global generators: each epoch has streams of its own.
        if state.step == 0:
            seed_epoch(derive_seed(state.seed, "epoch", epoch))
        else:
            set_random_state(state.random, device)
        unread: list[tuple[Tensor, Tensor, Tensor]] = []
        batches: Batches = iter(())
        if own_epoch is None:
            batches = splits.train.batches(state.seed, epoch, state.step)
        else:
            lr, train_loss, train_top1 = train_own_epoch(own_epoch, state, splits, config)
        for images, labels in batches:
            state.step += 1
            lr = learning_rate(config, state.epoch * steps + state.step, steps, state.cuts)
            set_rate(optimizer, lr)

            mixed = draw_mix(config, images, state.seed, epoch, state.step)
            if mixed is not None:
                images = mixed.images(images)
            with autocast(device, config.precision):
                outputs = model(images)
            # In training mode a network with auxiliary heads returns its own logits, then theirs.
            logits, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
            for head in (logits, *heads):
                check_logits(head, len(labels), len(splits.class_names))
            loss = loss_of(logits, labels, mixed)
            for head in heads:
                loss = loss + aux_weight * loss_of(head, labels, mixed)
            if mixed is not None:
                labels = mixed.main_labels(labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            if config.grad_clip is not None:
                nn.utils.clip_grad_norm_(weights, config.grad_clip)
            optimizer.step()
            if ema is not None and config.ema is not None:
                update_ema(ema, model, config.ema, state.epoch * steps + state.step)

            # Read later, many at once: each read waits for the device.
            unread.append((loss.detach(), logits.detach(), labels))
            if len(unread) * logits.numel() > UNREAD_LOGITS:
                add_steps(state, unread)

            if perf_counter() - started > boundary_every_s and state.step < steps:
                add_steps(state, unread)
                if not math.isfinite(state.loss_sum):
                    raise Diverged(epoch)
                state.random = random_state(device)
                state.train_time_s += perf_counter() - started
                yield StepBoundary(epoch, state.step)
                set_random_state(state.random, device)
                model.train()
                for norm in frozen_norms:
                    norm.eval()
                started = perf_counter()

        if own_epoch is None:
            add_steps(state, unread)
            train_loss = state.loss_sum / images_seen
            train_top1 = state.correct / images_seen
        elif not math.isfinite(train_loss):
            raise Diverged(epoch)
        state.train_time_s += perf_counter() - started

        started = perf_counter()
        batches = splits.train.batches(state.seed, epoch)
        to_eval_mode(optimizer, model, batches, config.precision, frozen_norms)
        predictions = val_loss = val_top1 = val_top5 = None
        if len(splits.val):
            predictions = predict(
                ema or model, splits.val.batches(), precision=config.precision, device=device
            )
            val_loss, val_top1, val_top5 = validation_scores(*predictions)
        eval_time_s = perf_counter() - started
        if not (math.isfinite(train_loss) and math.isfinite(val_loss or 0.0)):
            raise Diverged(epoch)

        measured = measures(*predictions) if predictions else {}
        objective = objective_value(config.objective, val_loss, measured)
        score = Objective.of(config.objective).score(val_top1, objective)
        # Of equal epochs the earliest, also if all have no value.
        is_best = config.select == "last" or not state.best_epoch or score > state.best_score
        if is_best:
            state.best_epoch, state.best_score = epoch, score
            state.best_predictions = predictions
            if config.select == "best":
                state.best_weights = copy_weights(ema or model)
        if isinstance(config.schedule, Plateau):
            state.plateau.update(lower_is_better(config.schedule.metric, val_loss, val_top1))
            if state.plateau.waited > config.schedule.patience:  # as PyTorch counts
                state.cuts += 1
                state.plateau.waited = 0
        if config.early_stop is not None:
            state.stop_reason = early_stop(state.patience, config.early_stop, val_loss, val_top1)
        result = EpochResult(
            epoch=epoch,
            lr=lr,
            train_loss=train_loss,
            train_top1=train_top1,
            val_loss=val_loss,
            val_top1=val_top1,
            val_top5=val_top5,
            train_time_s=state.train_time_s,
            eval_time_s=eval_time_s,
            train_images_per_s=images_seen / state.train_time_s,
            is_best=is_best,
            stop_reason=state.stop_reason,
            objective=objective,
            metrics=measured,
        )
        state.epoch, state.step, state.train_time_s = epoch, 0, 0.0
        state.loss_sum, state.correct, state.random = 0.0, 0, []
        yield result


def add_steps(state: TrainState, unread: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Add unread steps' losses, logits and labels to the epoch's sums, and empty the list.

    Losses are added one by one, so that the sum does not depend on how the steps are grouped.
    Waits for the device.
    """
    if not unread:
        return
    losses, logits, labels = zip(*unread, strict=True)
    for loss, its_labels in zip(torch.stack(losses).tolist(), labels, strict=True):
        state.loss_sum += loss * len(its_labels)
    state.correct += int((torch.cat(logits).argmax(1) == torch.cat(labels)).sum())
    unread.clear()


def validation_scores(logits: Tensor, labels: Tensor) -> tuple[float, float, float | None]:
    """Return the mean cross-entropy in nats, top-1 and top-5 (None below six classes)."""
    loss = F.cross_entropy(logits.double(), labels).item()
    right = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    top1, top5 = right[:, 0].sum().item() / len(labels), right.sum().item() / len(labels)
    return loss, top1, top5 if logits.shape[1] >= TOP5_CLASSES else None


def lower_is_better(metric: str | None, val_loss: float | None, val_top1: float | None) -> float:
    """Return the metric's value for `BestSoFar`: accuracy is negated, so that lower is better."""
    assert val_loss is not None  # the plan refuses these rules without validation images
    assert val_top1 is not None
    return -val_top1 if metric == "val_top1" else val_loss


def early_stop(
    best: BestSoFar, rule: EarlyStop, val_loss: float | None, val_top1: float | None
) -> str | None:
    """Count one more epoch; return the reason if the training ends after it."""
    best.update(lower_is_better(rule.metric, val_loss, val_top1), rule.min_delta)
    if best.waited < rule.patience:
        return None
    return f"early_stop: no better {rule.metric} in {best.waited} epochs"
