"""Objective by which winners were chosen, and the metrics that a sweep asked for, in tables."""

from __future__ import annotations

from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables.table_formats import Column, Kind, Spread

VAL_TOP1 = "val_top1"
# Known metrics that are fractions, as objectives and as metrics; they are shown in percent.
FRACTIONS = {
    *("val_top1", "val_macro_f1", "val_macro_auc", "val_balanced_top1"),
    *(
        "top1",
        "top5",
        "balanced_top1",
        "ece",
        "macro_auc",
        "macro_f1",
        "macro_precision",
        "macro_recall",
    ),
}


def title_of(name: str) -> str:
    """Return an objective or metric as a title: `val macro-F1 (%)`, or a function's own name."""
    if ":" in name:
        return name
    words = {"f1": "F1", "auc": "AUC", "ece": "ECE", "top1": "top-1", "top5": "top-5"}
    text = " ".join(words.get(word, word) for word in name.split("_"))
    text = text.replace("macro ", "macro-")
    return f"{text} (%)" if name in FRACTIONS else text


def kind_of(name: str) -> Kind:
    """Return the kind of a column of such values."""
    return "percent" if name in FRACTIONS else "number"


def objectives(connection: Connection) -> list[str]:
    """Return the objectives by which the folders' winners were chosen, each once."""
    return list(
        dict.fromkeys(row["objective"] for row in rows(connection, sql("questions/objectives")))
    )


def objective_in_words(connection: Connection) -> str:
    """Return the objective for a sentence, such as `val top-1` or `val loss`."""
    names = [title_of(name).removesuffix(" (%)") for name in objectives(connection)]
    return " or ".join(names) or "val top-1"


def objective_note(connection: Connection) -> str:
    """Return sentences on how winners were chosen; empty if all were by val top-1."""
    records = rows(connection, sql("questions/objectives"))
    texts = dict.fromkeys(
        f"{row['objective']} ({'lower' if row['lower_is_better'] else 'higher'} is better)"
        for row in records
        if row["objective"] != VAL_TOP1
    )
    chosen = f"Winners were chosen by {' and '.join(texts)}." if texts else ""
    unchosen, cells = (sum(row[name] for row in records) for name in ("unchosen", "cells"))
    if not unchosen:
        return chosen
    where = "There are" if unchosen == cells else f"{unchosen} of {cells} cells have"
    none = f"{where} no validation images (val_fraction: 0), so nothing was chosen by them."
    return " ".join(filter(None, (chosen, none)))


def objective_column(connection: Connection) -> Column | None:
    """Return the column `objective` of the winners; None if it is val top-1, which has its own."""
    names = [name for name in objectives(connection) if name != VAL_TOP1]
    if not names:
        return None
    if len(names) > 1:
        return Column("objective", "objective", "number")
    own = "val " if ":" in names[0] else ""
    return Column("objective", own + title_of(names[0]), kind_of(names[0]))


class WinnerMetrics:
    """The metrics that sweeps asked for, of the winners on the test split, as columns."""

    def __init__(self, connection: Connection) -> None:
        self._values: dict[tuple[str, str, str], Spread] = {}
        self.columns: list[Column] = []
        for row in rows(connection, sql("questions/winner_metrics")):
            name = row["name"]
            key = (row["results"], row["cell_id"], f"metric:{name}")
            self._values[key] = Spread(row["value_mean"], row["value_sd"])
            column = Column(f"metric:{name}", f"test {title_of(name)}", kind_of(name))
            if column not in self.columns:
                self.columns.append(column)

    def value(self, row: dict[str, Any], column: Column) -> Spread | None:
        """Return the value of a winner's row in one of the columns."""
        return self._values.get((row["results"], row["cell_id"], column.name))
