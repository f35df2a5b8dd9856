"""Speeds of trials that were measured on this machine: by earlier runs, and by `plan --probe`.

One line of JSON a measurement, appended whole, in the file `trials.jsonl` beside the speed of the
machine (`grid/cost/times/machine.py`). A line counts for trials that differ in nothing that changes
speed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cnncore.config import TrialConfig
from grid.cost.times.machine import speed_folder
from grid.errors import StoreError
from grid.plan.planned_data import SplitSizes
from grid.store.atomic import write_whole

# Keys of a config that change no speed. A key that is not among them, such as one that is added
# later, counts as one that does.
SPEED_FREE = frozenset(
    (
        *("lr", "betas", "weight_decay", "l2", "schedule", "warmup_epochs", "label_smoothing"),
        *("nesterov", "momentum_form", "decay_norm_bias", "class_weights", "normalize"),
        *("epochs", "early_stop", "objective", "sampling", "split_seed", "val_fraction"),
        *("limit_train", "limit_test", "data_fingerprint", "resize", "background"),
        *("pretrained", "pretrained_fingerprint", "momentum", "dropout", "aux_weight"),
    )
)
# Measurements of one key that count, the newest.
NEWEST = 12
# Largest size of the file, in bytes; beyond, its newer half stays.
LARGEST = 4 * 2**20


@dataclass(frozen=True)
class Measurement:
    """Seconds of a trial, beside so many trials at a time (itself included).

    `train_s` and `eval_s` are for one image; `fixed_s` is all else of a trial's wall time, None if
    only steps were measured.
    """

    train_s: float
    eval_s: float
    fixed_s: float | None
    beside: int


def speed_key(config: TrialConfig, device: str, threads: int) -> str:
    """Return a key that is equal for trials of equal speed on a device (its model)."""
    content = config.model_dump(mode="json", exclude=set(SPEED_FREE))
    # Whether there is a velocity, dropout or a second head, not how large it is.
    present = [bool(getattr(config, key)) for key in ("momentum", "dropout", "aux_weight")]
    text = json.dumps([content, present, device, threads, version("torch")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_trial(
    row: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]], sizes: SplitSizes, beside: int
) -> Measurement | None:
    """Return the speed of a complete trial from its rows; None if they do not tell it.

    A trial that was resumed or continues another does not tell its wall time, one without
    validation images not how long evaluation takes.
    """
    if row.get("state") != "complete" or not epochs or row.get("continued_from"):
        return None
    if row.get("attempts") != 1 or len(epochs) != row.get("epochs_run"):
        return None
    if not sizes.val:
        return None
    warm = epochs[1:] or epochs  # the first epoch warms caches up
    train_s = fmean(epoch["train_time_s"] for epoch in warm)
    eval_s = median(epoch["eval_time_s"] for epoch in warm)
    one = eval_s / sizes.val
    fixed_s = row["wall_time_s"] - len(epochs) * (train_s + eval_s) - one * sizes.test
    return Measurement(train_s / sizes.train, one, max(fixed_s, 0.0), beside)


def record(key: str, measurement: Measurement, folder: Path | None = None) -> None:
    """Append a measurement; do nothing where the cache cannot be written."""
    path = (folder or speed_folder()) / "trials.jsonl"
    line = json.dumps({"key": key, **asdict(measurement)}) + "\n"
    with contextlib.suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: lines of several runs do not mix.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
        if path.stat().st_size > LARGEST:
            lines = path.read_bytes().splitlines(keepends=True)
            write_whole(path, b"".join(lines[len(lines) // 2 :]), flush=False)


def read_measurements(
    keys: Collection[str], folder: Path | None = None
) -> dict[str, list[Measurement]]:
    """Return the newest measurements of each of these keys; damaged lines do not count."""
    try:
        text = ((folder or speed_folder()) / "trials.jsonl").read_bytes()
    except OSError:
        return {}
    found: dict[str, list[Measurement]] = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            content = json.loads(line)
            if content["key"] not in keys:
                continue
            fixed = content["fixed_s"]
            measurement = Measurement(
                float(content["train_s"]),
                float(content["eval_s"]),
                None if fixed is None else float(fixed),
                int(content["beside"]),
            )
            if _is_usable(measurement):
                found.setdefault(content["key"], []).append(measurement)
    return {key: several[-NEWEST:] for key, several in found.items()}


def _is_usable(measurement: Measurement) -> bool:
    numbers = (measurement.train_s, measurement.eval_s, measurement.fixed_s or 0.0)
    return (
        all(math.isfinite(number) and number >= 0 for number in numbers)
        and measurement.train_s > 0
        and measurement.beside > 0
    )
