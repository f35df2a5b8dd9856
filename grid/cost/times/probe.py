"""Measurement of a plan's trials for at most a minute: a few steps of each, the smallest first.

The steps are those of a trial, on images of noise (`cnncore/training/speed/steps.py`). What they
tell is kept with what finished trials tell (`grid/cost/times/measured.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from cnncore.config import TrialConfig
from cnncore.error_text import error_line
from grid.code.stored import code_used
from grid.cost.times.measured import Measurement, record
from grid.cost.times.trial_cost import TrialCost, TrialCosts
from grid.phrases import counted, format_s

# Seconds of all measurements, and the fewest steps of one.
LONGEST_S, STEPS = 60.0, 5
# Share of the free memory that a measurement may take by its forecast, and MiB that the libraries
# take beside the network.
MEMORY_SHARE, LIBRARIES_MIB = 0.7, 300.0


def probe(costs: TrialCosts, configs: Iterable[TrialConfig]) -> list[str]:
    """Measure a few steps of each kind of trial that was not measured before.

    Returns a note on each that was left out: its memory does not fit, it would take too long, or
    it fails.
    """
    from cnncore.measure.memory import free_memory_mib

    import torch  # isort: skip

    kinds = {costs.key(config): config for config in configs if not costs.measured(config)}
    smallest_first = sorted(
        ((costs.of(config), key, config) for key, config in kinds.items()),
        key=lambda item: item[0].train_s * item[2].batch_size,
    )
    notes: list[str] = []
    until = time.monotonic() + LONGEST_S
    late: list[TrialConfig] = []
    for cost, key, config in smallest_first:
        left_s = until - time.monotonic()
        free_mib = free_memory_mib(torch.device(costs.device))
        needed_mib = cost.memory_mib + LIBRARIES_MIB
        if needed_mib > MEMORY_SHARE * free_mib:
            notes.append(
                f"--probe: {_name(config)} is not measured: it may need {needed_mib:,.0f} MiB and "
                f"{free_mib:,.0f} are free"
            )
        elif _forecast_s(cost, config) > left_s:
            late.append(config)
        else:
            try:
                with code_used(costs.plan.resolver.code.earlier_folder(config)):
                    record(key, _measured(costs, config))
            except (Exception, SystemExit) as error:
                notes.append(f"--probe: {_name(config)} is not measured: {error_line(error)}")
    if late:
        notes.append(
            f"--probe: {counted(len(late), 'kind')} of trials, such as {_name(late[0])}, would "
            f"take longer than was left of {format_s(LONGEST_S)}"
        )
    return notes


def _name(config: TrialConfig) -> str:
    return f"{config.arch} at {config.image_size} pixels in batches of {config.batch_size}"


def _forecast_s(cost: TrialCost, config: TrialConfig) -> float:
    """Return the seconds that a measurement may take, with room for a step twice as slow."""
    return 2 * STEPS * cost.train_s * config.batch_size + cost.fixed_s


def _measured(costs: TrialCosts, config: TrialConfig) -> Measurement:
    """Measure a config alone on the machine."""
    from cnncore.process_settings import random_states_kept, unchanged
    from cnncore.training.openmp import use_threads
    from cnncore.training.speed.steps import measure_steps

    import torch  # isort: skip

    data = costs.data(config)
    with unchanged(), random_states_kept():
        use_threads(costs.threads)
        train_s, eval_s = measure_steps(
            config, len(data.class_names), data.train_images.shape[1], torch.device(costs.device)
        )
    return Measurement(train_s, eval_s, None, beside=1)
