"""Optimizers: their defaults, their state, the keys that have a meaning for each."""

from __future__ import annotations

from typing import Any

# Defaults of each optimizer: PyTorch's own, except for SGD's momentum. "SGD" in a comparison of
# networks means momentum 0.9, so the plan says so.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "adam": {"betas": (0.9, 0.999), "weight_decay": 0.0},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01},
}

# Values that each optimizer keeps per weight: a velocity (SGD with momentum), or two moments.
OPTIMIZER_MOMENTS: dict[str, int] = {"sgd": 1, "adam": 2, "adamw": 2}

# Keys with a meaning for some optimizers only; for others they resolve to null.
OPTIMIZER_KEYS: dict[str, tuple[str, ...]] = {
    "momentum": ("sgd",),
    "nesterov": ("sgd",),
    "momentum_form": ("sgd",),
    "betas": ("adam", "adamw"),
}
