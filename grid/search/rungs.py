"""Arithmetic of stopping rules: rungs, brackets, and the configs that a rule plans for each."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Epochs after the stage before up to `end`, and the count of a cell's configs in them."""

    end: int
    configs: float


def rung_epochs(grace_epochs: int, reduction: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which configs are compared: `grace_epochs` times powers of `reduction`.

    All are below `epochs`: a trial that reaches its budget is complete.
    """
    rungs = []
    rung = grace_epochs
    while rung < epochs:
        rungs.append(rung)
        rung *= reduction
    return tuple(rungs)


def bracket_shares(brackets: int, reduction: int) -> list[int]:
    """Return how many configs each bracket of Hyperband starts with, in proportion."""
    top = brackets - 1
    return [math.ceil(brackets / (top - n + 1) * reduction ** (top - n)) for n in range(brackets)]


def halving_stages(
    rungs: tuple[int, ...], reduction: int, configs: int, epochs: int
) -> list[Stage]:
    """Plan a successive halving: after each rung 1/`reduction` of the configs go on, rounded up."""
    stages = []
    for end in (*rungs, epochs):
        stages.append(Stage(end, configs))
        configs = -(-configs // reduction)
    return stages


def bracket_stages(ends: tuple[int, ...], reduction: int, configs: int) -> list[Stage]:
    """Plan all brackets of a Hyperband together; bracket b compares after stage b and later."""
    shares = bracket_shares(len(ends), reduction)
    sizes = [configs * share / sum(shares) for share in shares]
    return [
        Stage(end, sum(size / reduction ** max(n - b, 0) for b, size in enumerate(sizes)))
        for n, end in enumerate(ends)
    ]
