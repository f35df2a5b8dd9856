"""Weights of classes for the loss, as a sweep file gives them, in the order of the classes."""

from __future__ import annotations

from cnncore.catalog import DATASETS
from cnncore.config import TrialConfig
from cnncore.data import label_set
from cnncore.spelling import as_written, closest_hint, shortened


def class_names(
    config: TrialConfig, classes: tuple[str, ...] | None, count: int
) -> tuple[str, ...]:
    """Return the names of the classes that the config's labels tell apart, in order.

    `classes` and `count` are the data set's, under its first labels.
    """
    labels = DATASETS[config.dataset].labels if config.dataset in DATASETS else ()
    if config.labels in (None, *labels[:1]):
        return classes or tuple(map(str, range(count)))
    return label_set(config.dataset, str(config.labels))[0]


def weights_of_classes(
    weights: dict[str, float] | tuple[float, ...], names: tuple[str, ...]
) -> tuple[float, ...]:
    """Return a weight for each class, in the order of the classes. Raises `ValueError`."""
    if not isinstance(weights, dict):
        if len(weights) == len(names):
            return weights
        raise ValueError(
            f"class_weights: one for each of the {len(names)} classes "
            f"({shortened(', '.join(names))}), but got {len(weights)}",
        )
    problems = [
        f"there is no class {as_written(name)}{closest_hint(name, names)}"
        for name in weights
        if name not in names
    ]
    if missing := [name for name in names if name not in weights]:
        problems.append(f"no weight of {shortened(', '.join(missing))}")
    if problems:
        raise ValueError(f"class_weights: {'; '.join(problems)}")
    return tuple(weights[name] for name in names)
