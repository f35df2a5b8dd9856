"""Metrics that a sweep asks for by name: those of `metrics.py`, and functions of the user's own.

A function of the user's gets logits `(n, classes)` float32 and labels `(n,)` int64, on the CPU,
and returns a number. It can change nothing: it gets copies, and what it changes in its process and
in the global random generators is put back. So a training is the same with and without it.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from cnncore.config.objective import METRICS, VAL_LOSS, Objective
from cnncore.error_text import error_line, is_own_file, own_line
from cnncore.functions import import_function
from cnncore.measure.metrics import classification_metrics
from cnncore.process_settings import random_states_kept, unchanged

Function = Callable[[Tensor, Tensor], Any]

# The number of images of the trial call.
TRIED_IMAGES = 64


@dataclass(frozen=True)
class Measured:
    """Value of a metric; NaN if there is none, with the reason."""

    value: float
    reason: str | None = None


class Measures:
    """The metrics of these names, ready to be computed of predictions."""

    def __init__(self, names: Iterable[str], needed: str | None = None) -> None:
        """Import the user's functions. Raises `ValueError` if that of `needed` cannot be imported.

        Any other function that cannot be imported has no values.
        """
        self._names = tuple(names)
        self._functions: dict[str, Function | str] = {}
        for name in self._names:
            if name in METRICS:
                continue
            try:
                with _nothing_changes():
                    self._functions[name] = import_function(name)
            except ValueError as error:
                if name == needed:
                    raise
                self._functions[name] = str(error)

    def __call__(self, logits: Tensor, labels: Tensor) -> dict[str, Measured]:
        """Compute every metric; one that fails has no value, but a reason."""
        known = None
        if any(name in METRICS for name in self._names):
            known = classification_metrics(logits, labels)
        values = {}
        for name in self._names:
            if name in METRICS:
                value = getattr(known, name)
                values[name] = (
                    Measured(math.nan, "not defined for these predictions")
                    if value is None or not math.isfinite(value)
                    else Measured(value)
                )
            else:
                values[name] = _measure(name, self._functions[name], logits, labels)
        return values


def open_measures(names: Iterable[str], objective: str | None) -> Measures:
    """Return the metrics of these names and that of the objective.

    Raises `ValueError` if the objective is a function that cannot be imported.
    """
    metric = Objective.of(objective).metric
    all_names = dict.fromkeys((*names, *([metric] if metric else ())))
    return Measures(all_names, needed=metric)


def objective_value(
    objective: str | None, val_loss: float | None, measured: Mapping[str, Measured]
) -> float | None:
    """Return the objective's value on validation, NaN if it has none; None if it is `val_top1`."""
    if objective is None:
        return None
    if objective == VAL_LOSS:
        return val_loss
    return measured[str(Objective.of(objective).metric)].value


def call_metric(function: Function, logits: Tensor, labels: Tensor) -> float:
    """Call a user's metric on copies; return its value.

    Raises `ValueError` if it returns no finite number, and whatever the function raises.
    """
    with _nothing_changes(), torch.no_grad():
        value = function(logits.clone(), labels.clone())
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # torch's and NumPy's numbers
        value = value.item()
    if not isinstance(value, Real) or isinstance(value, bool):
        shape = f" of the shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise ValueError(f"must return one number, got {type(value).__name__}{shape}")
    if not math.isfinite(value):
        raise ValueError(f"must return a finite number, got {float(value)}")
    return float(value)


def check_metric_function(metric: str, classes: int) -> dict[str, Any]:
    """Call a user's metric twice on fixed predictions; return its `problem` or None.

    An answer to `grid/trial/metric_check.py`, in the form of `two_images.check`.
    """
    problem = function = None
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(max(TRIED_IMAGES, 2 * classes)) % classes
    logits = torch.randn(len(labels), classes, generator=generator)
    logits[torch.arange(len(labels)), labels] += 1.0
    try:
        with unchanged():
            function = import_function(metric)
        first, second = (call_metric(function, logits, labels) for _ in range(2))
        if first != second:
            problem = (
                f"returns {first!r} and then {second!r} for the same predictions: it must not "
                "draw at random or remember"
            )
            problem += f" ({place})" if (place := _defined_at(function)) else ""
    except BaseException as error:  # `sys.exit` too: it is the function's own
        problem = _described(error, function).removeprefix(f"{metric}: ")
    return {"problem": problem, "notes": [], "tried": True}


def _measure(name: str, function: Function | str, logits: Tensor, labels: Tensor) -> Measured:
    if isinstance(function, str):
        return Measured(math.nan, function)
    try:
        return Measured(call_metric(function, logits, labels))
    except (Exception, SystemExit) as error:
        if hasattr(error, "ray_terminate_msg"):
            raise  # Ray ends the process
        return Measured(math.nan, _described(error, function))


def _described(error: BaseException, function: Function | None) -> str:
    """Return an error in a line, with the line of the user's code that it comes from."""
    place = own_line(error)
    # Without such a line a `ValueError` is of our own checks: its text says all.
    text = str(error) if place is None and isinstance(error, ValueError) else error_line(error)
    if place is None and isinstance(error, TypeError):
        text += "; it is called as function(logits, labels)"
    place = place or _defined_at(function)
    return f"{text} ({place})" if place else text


def _defined_at(function: Function | None) -> str | None:
    """Return the place of the user's function or class, None if there is none."""
    try:
        defined = inspect.unwrap(function)  # type: ignore[arg-type]  # None raises
        file, line = inspect.getsourcefile(defined), inspect.getsourcelines(defined)[1]
    except BaseException:  # the message matters more
        return None
    return f"{os.path.basename(file)}:{line}" if file and is_own_file(file) else None


@contextlib.contextmanager
def _nothing_changes() -> Iterator[None]:
    """Put settings of the process and the global random generators back at the end."""
    with unchanged(), random_states_kept():
        yield
