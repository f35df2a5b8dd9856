"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from cnncore.config import Cosine, Milestones, Restarts, Step, TrialConfig


def learning_rate(config: TrialConfig, step: int, steps_per_epoch: int, cuts: int = 0) -> float:
    """Return the learning rate of `step` (from 1); it depends on the arguments alone.

    `cuts` counts the cuts that a plateau schedule has made. Warm-up rises linearly from `lr / n`
    at the first of its n steps to `lr` at the last. Cosines span the steps after warm-up, each
    from `lr` towards, but not quite to, `lr * final`. Steps and milestones count epochs from the
    first.
    """
    warmup = (config.warmup_epochs or 0) * steps_per_epoch
    if step <= warmup:
        return config.lr * step / warmup
    schedule = config.schedule
    if isinstance(schedule, Step):
        return config.lr * schedule.factor ** ((step - 1) // steps_per_epoch // schedule.every)
    if isinstance(schedule, Milestones):
        epoch = (step - 1) // steps_per_epoch
        passed = sum(epoch >= share * config.epochs for share in schedule.at)
        return float(config.lr * schedule.factor**passed)
    if isinstance(schedule, Cosine):
        span = config.epochs * steps_per_epoch - warmup
        return config.lr * half_cosine(step - 1 - warmup, span, schedule.final)
    if isinstance(schedule, Restarts):
        done, span = step - 1 - warmup, schedule.first * steps_per_epoch
        while done >= span:
            done, span = done - span, span * schedule.factor
        return config.lr * half_cosine(done, span, schedule.final)
    if schedule.kind == "plateau":
        return config.lr * schedule.factor**cuts
    return config.lr


def half_cosine(done: int, span: int, final: float) -> float:
    """Return the factor after `done` of `span` steps: from 1 down to `final`."""
    return final + (1 - final) * (0.5 * (1 + math.cos(math.pi * done / span)))
