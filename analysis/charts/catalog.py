"""The ready figures, by name: each has one definition, for SVG, PNG, PDF and HTML.

A new figure is a function from connection to `Chart` in the file of its family, or in a new file,
and a line in `PLOTS`. It asks a query in `sql/questions/` and is listed in `docs/results.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.charts import bars, confusion, curves, enhancement, ranks, scatter, tuning
from analysis.charts.figure_formats import FILE_FORMATS, Spec
from analysis.charts.parts.style import CONFIG, Chart
from analysis.results.database import Connection
from analysis.results.errors import AnalysisError, closest_hint, first_line
from analysis.tables.measures import find_measure


def make_plot(connection: Connection, name: str, metric: str | None = None) -> Spec:
    """Return a ready figure as a Vega-Lite specification with its data.

    `metric` is the number that cells are compared by (`find_measure`).

    Raises `AnalysisError` for an unknown name, with the known ones, and if there is nothing to
    show yet.
    """
    if name not in PLOTS:
        hint = closest_hint(name, PLOTS)
        raise AnalysisError(f"there is no figure {name}{hint}; there are: {', '.join(PLOTS)}")
    if name in BY_METRIC:
        chart = PLOTS[name][0](connection, find_measure(connection, metric))
    elif metric is not None:
        raise AnalysisError(f"a metric goes with {', '.join(BY_METRIC)}, not with {name}")
    else:
        chart = PLOTS[name][0](connection)
    if chart is None:
        raise AnalysisError(f"nothing to show in {name} yet: no trial has the numbers it needs")
    spec: Spec = chart.to_dict(validate=False)  # Altair checked every part when it was made
    return {**spec, "config": CONFIG}


def save_plot(
    connection: Connection, name: str, path: str | Path, metric: str | None = None
) -> Path:
    """Save a ready figure in the one of `FILE_FORMATS` that the suffix names."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILE_FORMATS:
        raise AnalysisError(
            f"{path}: cannot write {suffix or 'a file without a suffix'}; "
            f"there are: {', '.join(FILE_FORMATS)}"
        )
    spec = make_plot(connection, name, metric)
    try:
        content = FILE_FORMATS[suffix](spec)
    except ValueError as error:  # what the drawing engine raises
        raise AnalysisError(f"{name} cannot be drawn: {first_line(error)}") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror})") from None
    return path


# Figures that compare cells by one number, which `metric` can name.
BY_METRIC = (
    *("accuracy-vs-params", "accuracy-vs-macs", "accuracy-vs-epoch-time"),
    *("accuracy-vs-training-time", "accuracy-vs-latency", "final-bars", "ablation", "ranks"),
)
# Name -> (its function, a line about its content).
PLOTS: dict[str, tuple[Callable[..., Chart | None], str]] = {
    "accuracy-vs-params": (scatter.accuracy_vs_params, "test top-1 over trainable parameters"),
    "accuracy-vs-macs": (scatter.accuracy_vs_macs, "test top-1 over multiply-accumulates"),
    "accuracy-vs-epoch-time": (
        scatter.accuracy_vs_epoch_time,
        "test top-1 over training time per epoch",
    ),
    "accuracy-vs-training-time": (
        scatter.accuracy_vs_training_time,
        "test top-1 over training time of a trial",
    ),
    "accuracy-vs-latency": (scatter.accuracy_vs_latency, "test top-1 over latency at batch 1"),
    "epoch-time-vs-params": (
        scatter.epoch_time_vs_params,
        "training time per epoch over parameters",
    ),
    "latency-vs-params": (scatter.latency_vs_params, "latency at batch 1 over parameters"),
    "batch16-latency-vs-params": (
        scatter.batch16_latency_vs_params,
        "latency at batch 16 over parameters",
    ),
    "curves": (curves.val_top1, "val top-1 by epoch"),
    "metric-curves": (curves.metrics, "metrics that the sweep asked for, by epoch, on validation"),
    "training-curves": (curves.both_splits, "top-1 and loss by epoch, on train and val"),
    "lr-schedule": (curves.lr_schedule, "learning rate by epoch, with val top-1"),
    "final-bars": (bars.final, "test top-1 and test loss of every cell"),
    "ablation": (bars.ablation, "test top-1 over each compared setting, the others held"),
    "ranks": (
        ranks.critical_difference,
        "mean ranks of the networks over data sets, and which are not told apart",
    ),
    "lr-sensitivity": (
        tuning.lr_sensitivity,
        "the objective over the learning rate, a point per config",
    ),
    "parallel-coordinates": (
        tuning.parallel_coordinates,
        "the tuned axes of every cell beside the objective, a line per config",
    ),
    "confusion": (
        confusion.shares,
        "confusion matrix of the best config of each data set, in shares of the true class",
    ),
    "confusion-counts": (confusion.counts, "the same in images"),
    "confusion-networks": (confusion.networks, "a small confusion matrix of every network"),
    "confusion-reported": (
        confusion.beside_papers,
        "confusion matrices that a paper prints, beside the best cell that repeats its run",
    ),
    "enhancement": (enhancement.enhancement, "test images that enhancing repairs and breaks"),
}
