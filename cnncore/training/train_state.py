"""State of a training run, as a checkpoint stores it."""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnncore.training.memory import memory_tensors, moved_back


@dataclass
class BestSoFar:
    """Lowest value so far, and the number of epochs in a row without a lower one (`waited`)."""

    best: float = math.inf
    waited: int = 0

    def update(self, value: float, min_delta: float = 0.0) -> None:
        """Add the value of one more epoch."""
        if value < self.best - min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1


@dataclass
class TrainState:
    """Complete state of a training run, apart from config, data and thread count.

    `epoch` counts finished epochs and `step` the finished steps of the current one.
    `train_time_s`, `loss_sum`, `correct` and `random` belong to the current epoch; `random` holds
    the states of the global generators at the last `StepBoundary`. `cuts` counts the cuts of a
    plateau schedule. `best_weights` is a copy, on the CPU, of the weights that `select: best`
    chose so far, and `best_score` the objective's score in `best_epoch` (`Objective.of_value`); a
    checkpoint has it under its first name, `best_top1`. `best_predictions` are the logits and
    labels of the validation images in `best_epoch`; a checkpoint leaves them out, and they are then
    computed again. `memory` belongs to the user's `train_epoch`.
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
    plateau: BestSoFar = field(default_factory=BestSoFar)
    patience: BestSoFar = field(default_factory=BestSoFar)
    stop_reason: str | None = None
    best_epoch: int = 0
    best_score: float = -math.inf
    best_weights: dict[str, Tensor] | None = None
    best_predictions: tuple[Tensor, Tensor] | None = None
    memory: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; tensors are not copied, so save before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "best_weights": self.best_weights,
            "random": self.random,
            "plateau": vars(self.plateau),
            "patience": vars(self.patience),
            "best_top1": self.best_score,
            "memory": self.memory,
            "memory_places": [tensor.device.type for tensor in memory_tensors(self.memory)],
            **{name: getattr(self, name) for name in _PLAIN_VALUES},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a saved state of the same config; `epochs` may be larger."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.ema:
            self.ema.load_state_dict(saved["ema"])
        self.best_weights = saved["best_weights"]
        self.best_predictions = None
        self.random = saved["random"]
        # Checkpoints of earlier versions have no memory.
        places = saved.get("memory_places", [])
        self.memory = moved_back(saved.get("memory", {}), places, self.device)
        self.plateau = BestSoFar(**saved["plateau"])
        self.patience = BestSoFar(**saved["patience"])
        self.best_score = saved["best_top1"]
        for name in _PLAIN_VALUES:
            setattr(self, name, saved[name])


_PLAIN_VALUES = (
    "seed",
    "epoch",
    "step",
    "train_time_s",
    "loss_sum",
    "correct",
    "cuts",
    "stop_reason",
    "best_epoch",
)


def chosen_model(state: TrainState) -> nn.Module:
    """Return a network in eval mode with the weights that `select` chose; `state` is unchanged."""
    model = state.ema or state.model
    if state.best_weights is not None:
        model = copy.deepcopy(model)
        model.load_state_dict(state.best_weights)
    return model.eval()


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copy the network's state to the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the global generators: PyTorch's CPU, its GPU, Python's, NumPy's.

    A network's code may draw from each of them. Whole numbers below 2^32 are exact as float64.
    """
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    _, words, gauss = random.getstate()
    _, keys, *rest = np.random.get_state()
    return [
        *states,
        torch.tensor([*words, math.nan if gauss is None else gauss], dtype=torch.float64),
        torch.tensor([*keys, *rest], dtype=torch.float64),
    ]


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Restore the states that `random_state` returned; earlier versions stored PyTorch's alone."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1 and states[1].dtype == torch.uint8:
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "cuda":  # written on a CPU: its state decides
        torch.cuda.manual_seed_all(int.from_bytes(bytes(states[0][:8].tolist()), "big") >> 1)
    if states[-1].dtype != torch.float64:
        return
    *words, gauss = states[-2].tolist()
    random.setstate((3, tuple(map(int, words)), None if math.isnan(gauss) else gauss))
    *keys, position, has_gauss, cached = states[-1].tolist()
    np.random.set_state(
        ("MT19937", np.array(keys, np.uint32), int(position), int(has_gauss), cached)
    )
