"""The ready tables, by name.

A new table is a function from connection to `Table` in the file of its family, or in a new file,
and a line in `TABLES`. It asks a query in `sql/questions/` and is listed in `docs/results.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.results.database import Connection, held
from analysis.results.errors import AnalysisError, closest_hint
from analysis.tables import convergence, reported, significance, study_tables, sweep_tables
from analysis.tables.code_note import code_note
from analysis.tables.measures import find_measure
from analysis.tables.objectives import objective_note
from analysis.tables.shared_gpus import shared_gpu_note
from analysis.tables.table_formats import Table

# Name -> (its function, a line about its content).
TABLES: dict[str, tuple[Callable[..., Table], str]] = {
    "comparison": (
        sweep_tables.comparison,
        "every cell's winner: accuracy, parameters, MACs, time",
    ),
    "per-class": (
        sweep_tables.per_class,
        "precision, recall and F1 of every class on the test split",
    ),
    "coverage": (sweep_tables.coverage, "planned trials of every cell by state"),
    "failures": (sweep_tables.failures, "trials that failed, diverged or were pruned, and why"),
    "settings": (sweep_tables.settings, "what was compared, tuned and fixed"),
    "provenance": (sweep_tables.provenance, "machines, versions, commits and data"),
    "paired": (
        significance.paired,
        "every two networks over shared seeds and data: difference, interval, p",
    ),
    "ranking": (
        significance.ranking,
        "mean rank of every network over data sets, and what tells them apart",
    ),
    "convergence": (
        convergence.convergence,
        "how soon and how smoothly every cell's winner came up",
    ),
    "reported": (
        reported.reported,
        "the papers' numbers beside the measured ones, and what differs",
    ),
    "training-time": (
        study_tables.training_time,
        "accuracy, over all and by class, and training time",
    ),
    "parameters": (
        study_tables.parameters,
        "parameters, MACs and size of every network, and its optimizers",
    ),
    "classification-report": (
        study_tables.classification_report,
        "precision, recall, F1 by class with averages, from the confusion matrix",
    ),
    "gap": (study_tables.gap, "training accuracy less val and test accuracy"),
    "label-sets": (study_tables.label_sets, "accuracy, time and loss by label set"),
    "scaling": (
        study_tables.scaling,
        "MACs by width, depth and image size, beside depth x width^2 x side^2",
    ),
    "enhancement": (
        study_tables.enhancement,
        "what brightness, contrast and sharpness repair and break",
    ),
    "coarse-from-fine": (
        study_tables.coarse_from_fine,
        "coarse accuracy of a model of CIFAR-100's fine labels",
    ),
}
# Tables of numbers of the cells' winners that have no column for the winners' role.
OF_WINNERS = {
    "convergence",
    *("per-class", "reported", "training-time", "classification-report"),
    *("gap", "label-sets", "scaling", "coarse-from-fine"),
}

# Tables with times of trials, which those on a shared GPU do not have.
OF_TIMES = {"comparison", "reported", "training-time"}


# Tables that compare cells by one number, which `metric` can name.
BY_METRIC = ("comparison", "paired", "ranking")


def make_table(
    connection: Connection,
    name: str,
    metric: str | None = None,
    *,
    threshold: float | None = None,
) -> Table:
    """Make a ready table; `metric` is the number that cells are compared by (`find_measure`).

    `threshold` is for the table `convergence`. Raises `AnalysisError` for an unknown name, with the
    known ones, and for a metric or a threshold of a table that has none.
    """
    if name not in TABLES:
        hint = closest_hint(name, TABLES)
        raise AnalysisError(f"there is no table {name}{hint}; there are: {', '.join(TABLES)}")
    if threshold is not None and name != "convergence":
        raise AnalysisError(f"--threshold is for the table convergence; {name} has none")
    if metric is not None and name not in BY_METRIC:
        raise AnalysisError(f"a metric goes with {', '.join(BY_METRIC)}, not with {name}")
    with held(connection):
        if name in BY_METRIC:
            table = TABLES[name][0](connection, find_measure(connection, metric))
        elif threshold is not None:
            table = convergence.convergence(connection, threshold)
        else:
            table = TABLES[name][0](connection)
        if not table.rows:
            return table
        role = significance.role_note(connection) if name in OF_WINNERS else ""
        ranks = name in OF_WINNERS | {"paired", "ranking"}
        objective = objective_note(connection) if ranks else ""
        shared = shared_gpu_note(connection) if name in OF_TIMES else ""
        captions = (table.caption, shared, role, objective, code_note(connection))
    return replace(table, caption=" ".join(filter(None, captions)))
