"""The ready figures, by name: one definition each gives SVG, PNG, PDF and HTML."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from analysis.charts import confusion, curves, scatter
from analysis.charts.style import Chart, styled
from analysis.database import AnalysisError, Connection
from analysis.drawings import FILE_FORMATS, Spec


def make_plot(connection: Connection, name: str) -> Spec:
    """A ready figure as a Vega-Lite specification with its data.

    Raises `AnalysisError` for an unknown name, with the known ones, and where there is nothing
    to show yet.
    """
    if name not in PLOTS:
        close = difflib.get_close_matches(name, PLOTS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise AnalysisError(f"there is no figure {name}{hint}; there are: {', '.join(PLOTS)}")
    chart = PLOTS[name][0](connection)
    if chart is None:
        raise AnalysisError(f"nothing to show in {name} yet: no trial has the numbers it needs")
    spec: Spec = styled(chart).to_dict()
    return spec


def save_plot(connection: Connection, name: str, path: str | Path) -> Path:
    """Save a ready figure; the suffix chooses between `FILE_FORMATS`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FILE_FORMATS:
        raise AnalysisError(
            f"{path}: cannot write {suffix or 'a file without a suffix'}; "
            f"there are: {', '.join(FILE_FORMATS)}"
        )
    content = FILE_FORMATS[suffix](make_plot(connection, name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written ({error.strerror})") from None
    return path


# Name -> (what makes it, what it shows).
PLOTS: dict[str, tuple[Callable[[Connection], Chart | None], str]] = {
    "accuracy-vs-params": (scatter.accuracy_vs_params, "test top-1 over trainable parameters"),
    "epoch-time-vs-params": (
        scatter.epoch_time_vs_params,
        "training time per epoch over parameters",
    ),
    "latency-vs-params": (scatter.latency_vs_params, "latency at batch 1 over parameters"),
    "curves": (curves.val_top1, "val top-1 by epoch"),
    "confusion": (
        confusion.best_of_each_data_set,
        "confusion matrix of the best config of each data set",
    ),
}
