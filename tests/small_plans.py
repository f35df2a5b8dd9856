"""Plans of tuned sweeps, for tests that run nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from grid.plan.plan import Plan, expand_sweep
from grid.sweep.load import parse_sweep

AXES = """{
  lr: {log_uniform: [1e-4, 1e-1]},
  batch_size: {int_range: [8, 64]},
  momentum: {uniform: [0.5, 0.99], when: {optimizer: sgd}},
  schedule: [constant, cosine, {step: {every: 2}}],
  warmup_epochs: {choice: [0, 1], when: {schedule: cosine}}
}"""

# Axes for samplers that know no conditions and, in one case, no choices.
NUMBERS = """{
  lr: {log_uniform: [1e-4, 1e-1]},
  batch_size: {int_range: [8, 64]},
  momentum: {uniform: [0.5, 0.99], when: {optimizer: sgd}},
  weight_decay: {uniform: [0, 0.01]}
}"""


def slow(*values: str) -> list[Any]:
    """Return parameters of tests that `make quick` leaves out."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def axes_for(sampler: str) -> str:
    return NUMBERS if sampler in ("gp", "cmaes") else AXES


def tuned(
    trials: int = 14,
    sampler: str = "tpe",
    seeds: str = "[0]",
    axes: str = AXES,
    more: str = "",
    stop: str = "",
    epochs: int = 4,
    fixed: str = "",
) -> Plan:
    text = (
        "sweep: s\ncompare: {arch: [cnn3], optimizer: [sgd, adam]}\n"
        "fixed: {dataset: digits, image_size: 32, "
        f"epochs: {epochs}{fixed}}}\n"
        f"tune: {{trials: {trials}, sampler: {sampler}, axes: {axes}{more}}}\nseeds: {seeds}\n"
        f"{stop}"
    )
    facts = SimpleNamespace(image_size=8, class_count=10, fingerprint=None, validation=0)
    return expand_sweep(parse_sweep(text), lambda name, size: facts)
