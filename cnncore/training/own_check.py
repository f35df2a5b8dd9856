"""A loss or an epoch of the user's own, tried before any trial in a process of its own.

`two_images.main` calls these by name. Each returns an answer in its form: `problem`, or None, and
`notes`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnncore.config import TrialConfig, network_options
from cnncore.data.batches import Normalization, TrainSplit
from cnncore.data.splits import Splits
from cnncore.error_text import defined_at, error_line, own_line
from cnncore.functions import import_function
from cnncore.measure.memory import is_out_of_memory
from cnncore.models.builder import build_model
from cnncore.models.classifier_head import freeze_features
from cnncore.process_settings import unchanged
from cnncore.seeding import seed_epoch, seed_everything
from cnncore.training.loss import check_losses
from cnncore.training.own_epoch import import_epoch, train_own_epoch
from cnncore.training.train import start
from cnncore.training.train_state import TrainState

BATCH, STEPS = 2, 2


def try_loss(loss: str, classes: int, device: str) -> dict[str, Any]:
    """Call a loss of the user's own on two images' logits, twice."""
    return _answer(loss, lambda: _check_loss(loss, classes, torch.device(device)))


def try_epoch(config: dict[str, Any], classes: int, device: str) -> dict[str, Any]:
    """Train two epochs of two tiny batches, once in one go and once from a checkpoint."""
    read = TrialConfig.model_validate(config)
    return _answer(str(read.train_epoch), lambda: _check_epoch(read, classes, torch.device(device)))


def _answer(name: str, check: Callable[[], list[str]]) -> dict[str, Any]:
    try:
        return {"problem": None, "notes": check(), "tried": True}
    except BaseException as error:  # `sys.exit` too: it is the function's own
        if is_out_of_memory(error):
            return {"problem": None, "notes": [], "tried": False}
        place = own_line(error)
        ours = place is None and isinstance(error, ValueError | RuntimeError)
        text = str(error) if ours else error_line(error)
        text = text.removeprefix(f"{name}: ").removeprefix(f"{name} ")
        place = place or _defined_at(name)
        return {"problem": f"{text} ({place})" if place else text, "notes": [], "tried": True}


def _defined_at(name: str) -> str | None:
    try:
        return defined_at(import_function(name))
    except BaseException:  # it cannot be imported, which the message says
        return None


def _check_loss(name: str, classes: int, device: torch.device) -> list[str]:
    """Raise `ValueError` unless the losses are per image, finite, repeatable, with a gradient."""
    with unchanged():
        function = import_function(name)
    torch.manual_seed(0)
    logits = torch.randn(2, classes, device=device, requires_grad=True)
    labels = torch.tensor([0, classes - 1], device=device)
    before = logits.detach().clone(), labels.clone()
    answers = []
    for _ in range(2):
        seed_everything(0)
        losses = function(logits * 1.0, labels)
        check_losses(name, losses, 2)
        answers.append(losses)
    if not torch.equal(*answers):
        raise ValueError(
            "gives two answers for the same logits: it counts or remembers something, which a "
            "resumed trial would not have"
        )
    if not (torch.equal(logits, before[0]) and torch.equal(labels, before[1])):
        raise ValueError("changes the labels or logits that it gets: compute with copies")
    losses = answers[0]
    if not bool(losses.isfinite().all()):
        raise ValueError(f"is not finite for ordinary logits: {losses.tolist()}")
    gradient = None
    if losses.requires_grad:
        (gradient,) = torch.autograd.grad(losses.sum(), logits, allow_unused=True)
    if gradient is None or not gradient.any():
        raise ValueError(
            "has no gradient for the logits: it must not detach, round or compare them"
        )
    if not bool(gradient.isfinite().all()):
        raise ValueError("has a gradient that is not finite for ordinary logits")
    return []


def _check_epoch(config: TrialConfig, classes: int, device: torch.device) -> list[str]:
    """Raise `ValueError` if an epoch breaks its contract or depends on more than its memory."""
    assert config.image_size is not None
    with unchanged():
        function = import_epoch(str(config.train_epoch))
    splits = _tiny_splits(config.image_size, classes, device)
    stepped = 0

    def count(*_: Any) -> None:
        nonlocal stepped
        stepped += 1

    state = _begin(config, classes, device)
    state.optimizer.register_step_post_hook(count)
    once = [_epoch(function, state, splits, config) for _ in range(2)]
    again = _begin(config, classes, device)
    repeated = [_epoch(function, again, splits, config)]
    file = io.BytesIO()
    torch.save(again.state_dict(), file)
    file.seek(0)
    resumed = _begin(config, classes, device)
    resumed.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    repeated.append(_epoch(function, resumed, splits, config))
    if device.type == "cpu":  # elsewhere sums may come out in another order
        if once[0] != repeated[0]:
            raise ValueError(
                "trains differently from the same start: it keeps something outside of "
                "epoch.memory, which another trial of the process would see, or draws from a "
                "generator that is not seeded by epoch.seed"
            )
        if once[1] != repeated[1]:
            raise ValueError(
                "trains differently after its epoch.memory was stored and read again: something "
                "that the next epoch needs is not in it, or is shared between its entries"
            )
    if stepped:
        return []
    return ["never calls optimizer.step(), so `optimizer`, `lr` and the like may decide nothing"]


def _begin(config: TrialConfig, classes: int, device: torch.device) -> TrainState:
    seed_everything(0)
    with unchanged():
        model = build_model(
            config.arch,
            classes=classes,
            image_size=config.image_size or 0,
            **network_options(config),
        )
    if config.freeze:
        freeze_features(model)
    return start(config, model, 0, device)


def _epoch(
    function: Callable[[Any], Any], state: TrainState, splits: Splits, config: TrialConfig
) -> tuple[Any, ...]:
    """Train one epoch; return its numbers and all weights after it."""
    seed_epoch(state.epoch + 1)
    state.model.train()
    _, *numbers = train_own_epoch(function, state, splits, config)
    state.epoch += 1
    return (*map(repr, numbers), *map(_bytes, state.model.state_dict().values()))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _tiny_splits(side: int, classes: int, device: torch.device) -> Splits:
    """Return splits whose training part has two batches of random pixels."""
    count = BATCH * STEPS
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    half = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    train = TrainSplit(
        torch.from_numpy(pixels), labels, np.arange(count), (), BATCH, side, half, device
    )
    names = tuple(map(str, range(classes)))
    return Splits(train, None, None, names)  # type: ignore[arg-type]  # an epoch sees none
