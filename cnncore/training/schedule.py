"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from cnncore.config import (
    Cosine,
    Exponential,
    Linear,
    Milestones,
    OneCycle,
    OwnSchedule,
    Plateau,
    Polynomial,
    Restarts,
    Step,
    TrialConfig,
    WarmupStableDecay,
)
from cnncore.functions import import_function
from cnncore.spelling import as_written


def learning_rate(config: TrialConfig, step: int, steps_per_epoch: int, cuts: int = 0) -> float:
    """Return the learning rate of `step` (from 1); it depends on the arguments alone.

    `cuts` counts the cuts that a plateau schedule has made. Warm-up rises linearly from `lr / n`
    at the first of its n steps to `lr` at the last. Cosines, lines and powers span the steps after
    warm-up, each from `lr` towards, but not quite to, `lr * final`. Steps and milestones count
    epochs from the first. Raises `ValueError` if a function of the user's returns no factor.
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
    done, span = step - 1 - warmup, config.epochs * steps_per_epoch - warmup
    if isinstance(schedule, Linear):
        return config.lr * line(1.0, schedule.final, done / span)
    if isinstance(schedule, Polynomial):
        return config.lr * line(schedule.final, 1.0, (1 - done / span) ** schedule.power)
    if isinstance(schedule, Exponential):
        return float(config.lr * schedule.factor ** (done / steps_per_epoch))
    if isinstance(schedule, OneCycle):
        return config.lr * one_cycle(schedule, done, span)
    if isinstance(schedule, WarmupStableDecay):
        return config.lr * warmup_stable_decay(schedule, done, span)
    if isinstance(schedule, OwnSchedule):
        return config.lr * own_factor(schedule.function, done + 1, span)
    if isinstance(schedule, Plateau):
        return max(config.lr * schedule.factor**cuts, schedule.min_lr or 0.0)
    return config.lr


def half_cosine(done: int, span: int, final: float) -> float:
    """Return the factor after `done` of `span` steps: from 1 down to `final`."""
    return final + (1 - final) * (0.5 * (1 + math.cos(math.pi * done / span)))


def line(start: float, end: float, share: float) -> float:
    """Return the value at a share, in [0, 1], of the way from `start` to `end`."""
    return start + (end - start) * share


def one_cycle(schedule: OneCycle, done: int, span: int) -> float:
    """Return the factor after `done` of `span` steps, as PyTorch's `OneCycleLR` computes it.

    The last step before `pct_start * span` has the peak, the very last one the lowest rate.
    """
    low, peak = 1 / schedule.div_factor, schedule.pct_start * span - 1
    start, end, share = low, 1.0, done / peak if peak > 0 else 1.0
    if done > peak:
        start, end = 1.0, low / schedule.final_div_factor
        share = (done - peak) / (span - 1 - peak)
    if schedule.anneal == "cos":
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
    return line(start, end, share)


def warmup_stable_decay(schedule: WarmupStableDecay, done: int, span: int) -> float:
    """Return the factor after `done` of `span` steps.

    The first of n steps of warm-up has 1/n, the last has 1; the decay starts from 1.
    """
    warmup, decay = round(schedule.warmup * span), round(schedule.decay * span)
    if done < warmup:
        return (done + 1) / warmup
    if done < span - decay:
        return 1.0
    share = (done - (span - decay)) / decay
    if schedule.anneal == "cos":
        return half_cosine(done - (span - decay), decay, schedule.final)
    return line(1.0, schedule.final, math.sqrt(share) if schedule.anneal == "sqrt" else share)


def own_factor(name: str, step: int, steps: int) -> float:
    """Return what a function of the user's answers. Raises `ValueError` if it is no factor."""
    answer = import_function(name)(step, steps)
    try:
        factor = float(answer)
    except (TypeError, ValueError):
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise ValueError(
            f"{name}({step}, {steps}) must return a number from 0 on, the factor of `lr`, but "
            f"returned {as_written(answer)}"
        )
    return factor
