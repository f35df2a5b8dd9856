"""An optimizer of the user's own tried on a tiny network: what would go wrong in a trial."""

from __future__ import annotations

import io
import math
from typing import Any

import torch
from torch import nn

from cnncore.config import TrialConfig
from cnncore.error_text import error_line, own_line
from cnncore.measure.memory import is_out_of_memory
from cnncore.process_settings import unchanged
from cnncore.training.optimizers.build import build_optimizer, set_rate
from cnncore.training.optimizers.modes import has_modes, to_train_mode

# Steps before and after the state is saved; the rate at which all optimizers move weights a little.
STEPS = 2
RATE = 0.01


class TriedOptimizer:
    """A tiny network with its optimizer, trained on the same few images at every step."""

    def __init__(self, config: TrialConfig, saved: bytes | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        )
        self.images = torch.rand(6, 3, 5, 5)
        self.optimizer = build_optimizer(config, self.model)
        if saved is not None:
            file = io.BytesIO(saved)
            state = torch.load(file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random"])

    def saved(self) -> bytes:
        """Return the state as a checkpoint would store it."""
        file = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        torch.save(state, file)
        return file.getvalue()

    def train(self, steps: int = STEPS, lr: float = RATE) -> None:
        """Take steps with falling losses, as the training loop does."""
        to_train_mode(self.optimizer)
        for _ in range(steps):
            set_rate(self.optimizer, lr)
            labels = torch.arange(len(self.images)) % 3
            loss = nn.functional.cross_entropy(self.model(self.images), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            self.optimizer.step()

    def eval(self) -> None:
        """Go to the weights that are evaluated."""
        if has_modes(self.optimizer):
            self.optimizer.eval()  # type: ignore[attr-defined]  # `has_modes` found it

    def weights(self) -> list[float]:
        """Return all weights."""
        return [x for weight in self.model.parameters() for x in weight.flatten().tolist()]


def try_optimizer(keys: dict[str, Any]) -> dict[str, Any]:
    """Try the optimizer of these keys of a config; return its `problem`, or None.

    It must build, change weights, follow the learning rate of its groups, and continue from a
    checkpoint as it would have without it, within an epoch and between two.
    """
    config = TrialConfig.model_validate({"arch": "cnn3", "dataset": "digits", "epochs": 1, **keys})
    try:
        with unchanged():
            problem = _problem(config)
    except BaseException as error:  # `sys.exit` too: it is the optimizer's own
        if is_out_of_memory(error):
            return {"problem": None, "notes": [], "tried": False}
        place = own_line(error)
        ours = place is None and isinstance(error, ValueError)
        text = str(error).removeprefix(f"{config.optimizer}: ") if ours else error_line(error)
        problem = f"{text} ({place})" if place else text
    return {"problem": problem, "notes": [], "tried": True}


def _problem(config: TrialConfig) -> str | None:
    tried = TriedOptimizer(config)
    before = tried.weights()
    tried.train()
    within, half_way = tried.saved(), tried.weights()
    if half_way == before:
        return "its steps change no weight"
    if not all(map(math.isfinite, half_way)):
        return f"after {STEPS} steps at the rate {RATE:g} a weight is no longer a finite number"
    slower = TriedOptimizer(config, within)
    slower.train(1, RATE / 2)
    same_rate = TriedOptimizer(config, within)
    same_rate.train(1)
    if slower.weights() == same_rate.weights():
        return (
            "its steps do not depend on the `lr` of its param_groups, so that no schedule would "
            "change them: read the rate from there at every step"
        )
    random = torch.get_rng_state()
    for place, whole in (("within", within), ("after", None)):
        torch.set_rng_state(random)
        straight = TriedOptimizer(config)
        straight.train()
        if whole is None:
            straight.eval()
            whole = straight.saved()
        straight.train()
        resumed = TriedOptimizer(config, whole)
        resumed.train()
        if not _same(straight.weights(), resumed.weights()):
            return (
                f"a trial that resumes from a checkpoint {place} an epoch would go on with other "
                f"numbers: {STEPS} steps, state_dict, load_state_dict and {STEPS} steps give other "
                f"weights than {2 * STEPS} steps; keep all that changes in `state` and in "
                "`param_groups`"
            )
    return None


def _same(one: list[float], other: list[float]) -> bool:
    """Compare weights; two that are no numbers are the same."""
    return len(one) == len(other) and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True)
    )
