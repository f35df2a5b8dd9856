"""The state of a training run: all that a checkpoint holds."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Watch:
    """The lowest value so far, and for how many epochs in a row none was lower."""

    best: float = math.inf
    waited: int = 0

    def update(self, value: float, min_delta: float = 0.0) -> None:
        """Take the value of one more epoch."""
        if value < self.best - min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1


@dataclass
class TrainState:
    """All that the rest of a training run depends on, beside config, data and thread count.

    `epoch` counts finished epochs, `step` the finished steps of the one under way, and
    `train_time_s`, `loss_sum`, `correct` and `random` belong to that one; `random` are the states
    of PyTorch's generators at its last pause. `best_weights` are a copy, on the CPU, of what
    `select: best` chose so far. `best_predictions` are the logits and labels of the validation
    images in `best_epoch`; a checkpoint leaves them out, and without them they are computed again.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int
    device: torch.device
    ema: nn.Module | None
    epoch: int = 0
    step: int = 0
    train_time_s: float = 0.0
    loss_sum: float = 0.0
    correct: int = 0
    random: list[Tensor] = field(default_factory=list)
    cuts: int = 0
    plateau: Watch = field(default_factory=Watch)
    patience: Watch = field(default_factory=Watch)
    stop_reason: str | None = None
    best_epoch: int = 0
    best_top1: float = -1.0
    best_weights: dict[str, Tensor] | None = None
    best_predictions: tuple[Tensor, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; the tensors are the live ones, so save before going on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "best_weights": self.best_weights,
            "random": self.random,
            "plateau": vars(self.plateau),
            "patience": vars(self.patience),
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go back to a saved state of the same config; a longer `epochs` is fine."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
        self.best_weights = saved["best_weights"]
        self.best_predictions = None
        self.random = saved["random"]
        self.plateau = Watch(**saved["plateau"])
        self.patience = Watch(**saved["patience"])
        for name in _PLAIN:
            setattr(self, name, saved[name])


_PLAIN = (
    "seed",
    "epoch",
    "step",
    "train_time_s",
    "loss_sum",
    "correct",
    "cuts",
    "stop_reason",
    "best_epoch",
    "best_top1",
)


def chosen_model(state: TrainState) -> nn.Module:
    """A network in eval mode with the weights that `select` chose; `state` stays as it is."""
    model = state.ema or state.model
    if state.best_weights is not None:
        model = copy.deepcopy(model)
        model.load_state_dict(state.best_weights)
    return model.eval()


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """The network's state on the CPU, in memory of its own."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def random_state(device: torch.device) -> list[Tensor]:
    """The states of PyTorch's generators: the CPU's, and the device's where that is another."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Go back to what `random_state` gave."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
