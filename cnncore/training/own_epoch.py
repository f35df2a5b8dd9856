"""An epoch of the user's own, `train_epoch`: what it gets, and what is checked after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnncore.config import TrialConfig
from cnncore.data.batches import TrainSplit
from cnncore.data.splits import Splits
from cnncore.functions import import_function
from cnncore.measure.evaluate import autocast
from cnncore.process_settings import unchanged
from cnncore.seeding import derive_seed
from cnncore.training.ema import update_ema
from cnncore.training.memory import check_memory, memory_tensors
from cnncore.training.optimizers.build import set_rate
from cnncore.training.schedule import learning_rate
from cnncore.training.train_state import TrainState

# Lists of hooks that a module or an optimizer holds.
MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


class EpochBatches:
    """The batches of one epoch, to be taken once and all: images and labels.

    Images are float32 `(batch, 3, height, width)`, augmented and normalised, labels int64
    `(batch,)`; both are copies, on the trial's device. Before each batch its learning rate is set
    in every group of the optimizer. The length is the number of batches.
    """

    def __init__(
        self, train: TrainSplit, optimizer: torch.optim.Optimizer, lrs: tuple[float, ...],
        seed: int, epoch: int
    ) -> None:  # fmt: skip
        self._train, self._optimizer, self._lrs = train, optimizer, lrs
        self._seed, self._epoch = seed, epoch
        self._begun = False
        self.taken = 0

    def __len__(self) -> int:
        return len(self._lrs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._begun:
            raise RuntimeError("the batches of an epoch are taken once: a second pass over the "
                               "images would be another budget")  # fmt: skip
        self._begun = True
        return self._batches()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self._train.batches(self._seed, self._epoch)
        for lr, (images, labels) in zip(self._lrs, batches, strict=True):
            self._train.before_batch()
            set_rate(self._optimizer, lr)
            self.taken += 1
            # Copies: the next batch overwrites these images, and the function may keep them.
            yield images.clone(), labels.clone()
        self._train.before_batch()


@dataclass(frozen=True)
class Epoch:
    """What the function of `train_epoch` gets: everything that an epoch of training needs.

    `number` counts from 1. `model` is in training mode and, like `optimizer`, has no gradients.
    `lrs` are the learning rates of the batches in order. `seed` differs with the trial and the
    epoch; the global generators of Python, NumPy and PyTorch are seeded anew too. `memory` is the
    function's own and comes back in the next epoch, also after an interruption.
    """

    number: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: EpochBatches
    lrs: tuple[float, ...]
    classes: int
    device: torch.device
    seed: int
    memory: dict[str, Any]
    precision: str

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes in the trial's `precision`."""
        return autocast(self.device, self.precision)


EpochFunction = Callable[[Epoch], Any]


def import_epoch(name: str) -> EpochFunction:
    """Import the function of `train_epoch`. Raises `ValueError` if that is impossible."""
    with unchanged():
        return import_function(name)


def train_own_epoch(
    function: EpochFunction, state: TrainState, splits: Splits, config: TrialConfig
) -> tuple[float, float, float]:
    """Let the function train an epoch; return its last learning rate, loss and top-1.

    Settings of the process that it changes are put back, and it begins without gradients, so that
    an epoch depends on nothing that a checkpoint does not hold. Raises `ValueError` if it takes
    other than all batches once, returns no mean loss and share of hits, changes the structure of
    the network or the optimizer, or leaves something in its memory that cannot be stored.
    """
    model, optimizer, epoch = state.model, state.optimizer, state.epoch + 1
    steps, name = splits.train.steps, str(config.train_epoch)
    lrs = tuple(
        learning_rate(config, state.epoch * steps + step, steps, state.cuts)
        for step in range(1, steps + 1)
    )
    batches = EpochBatches(splits.train, optimizer, lrs, state.seed, epoch)
    updates = 0

    def follow(*_: Any) -> None:
        """Update the average after each update of the weights, as the ordinary epoch does."""
        nonlocal updates
        updates += 1
        if state.ema is not None and config.ema is not None:
            try:
                update_ema(state.ema, model, config.ema, state.epoch * steps + updates)
            except ValueError:  # other tensors than the average has
                _check_structure(name, before, model, optimizer)
                raise

    optimizer.zero_grad()
    model.zero_grad()
    hook = optimizer.register_step_post_hook(follow)
    before = _structure(model, optimizer)
    try:
        with unchanged():
            returned = function(
                Epoch(
                    number=epoch,
                    model=model,
                    optimizer=optimizer,
                    batches=batches,
                    lrs=lrs,
                    classes=len(splits.class_names),
                    device=state.device,
                    seed=derive_seed(state.seed, "train_epoch", epoch),
                    memory=state.memory,
                    precision=config.precision,
                )
            )
        _check_structure(name, before, model, optimizer)
    finally:
        hook.remove()
    if batches.taken != steps:
        raise ValueError(
            f"{name} took {batches.taken} of the {steps} batches of epoch {epoch}; an epoch is one "
            "pass over all of them, or trials would have other budgets than their rows say"
        )
    if state.ema is not None and not updates:
        raise ValueError(
            f"{name} never called optimizer.step(), after which `ema` averages the weights: call "
            "it, or leave ema out"
        )
    try:
        check_memory(state.memory, _addresses(state))
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None
    for tensor in memory_tensors(state.memory):
        tensor.grad = None  # a checkpoint does not hold it
    loss, top1 = _scores(name, returned)
    return lrs[-1], loss, top1


def _scores(name: str, returned: Any) -> tuple[float, float]:
    """Return a function's mean loss and top-1 as numbers. Raises `ValueError` for other values."""
    try:
        loss, top1 = map(float, returned)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must return two numbers, (loss, top1): means over the images of the epoch, "
            f"but got {type(returned).__name__} {str(returned)[:80]}"
        ) from None
    # A loss that is not finite ends the trial as diverged, whatever the accuracy.
    if math.isfinite(loss) and not 0.0 <= top1 <= 1.0:
        raise ValueError(
            f"{name} returned the top-1 accuracy {top1:g}, but it is a share of the images, from 0 "
            "to 1"
        )
    return loss, top1


def _structure(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Describe what checkpoints do not hold: weights by identity, their flags, hooks, groups."""
    parts: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        hooks = len(weight._backward_hooks or ())
        parts[f"the parameter {name}"] = (id(weight), weight.requires_grad, hooks)
    for name, buffer in model.named_buffers():
        parts[f"the buffer {name}"] = (buffer.shape, buffer.dtype, buffer.device)
    for name, module in model.named_modules():
        counts = [len(getattr(module, hooks, ())) for hooks in MODULE_HOOKS]
        parts[f"the module {name or '(the network itself)'}"] = (type(module), counts)
    for index, group in enumerate(optimizer.param_groups):
        parts[f"the optimizer's group {index}"] = [id(weight) for weight in group["params"]]
    parts["the optimizer's hooks"] = [len(getattr(optimizer, hooks)) for hooks in OPTIMIZER_HOOKS]
    return parts


def _check_structure(
    name: str, before: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Raise `ValueError` with the first part that was added, removed or changed."""
    after = _structure(model, optimizer)
    for part in dict.fromkeys((*before, *after)):
        if before.get(part) != after.get(part):
            raise ValueError(
                f"{name} left {part} changed, which a resumed trial would not have; undo it before "
                "the epoch ends, or build it into the network"
            )


def _addresses(state: TrainState) -> dict[int, str]:
    """Name the tensors of the trial by the address of their storage."""
    named = {f"the network's {name}": tensor for name, tensor in state.model.state_dict().items()}
    if state.ema is not None:
        named |= {f"the average's {name}": t for name, t in state.ema.state_dict().items()}
    pairs = [*named.items()]
    for values in state.optimizer.state.values():
        pairs += [(f"the optimizer's {key}", value) for key, value in values.items()]
    return {
        value.untyped_storage().data_ptr(): name
        for name, value in pairs
        if isinstance(value, Tensor)
    }
