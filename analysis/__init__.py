"""Views, tables, figures and a report of results folders; this package knows only files and SQL.

Each folder builds on the ones before it: `results/` opens folders as a database, `sql/` has its
views and queries, `tables/` and `charts/` the ready tables and figures, `report/` the page. A new
view: `results/sql_files.py` says how; a new table: `tables/catalog.py`; a new figure:
`charts/catalog.py`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.charts.catalog import save_plot
    from analysis.report.report import write_report
    from analysis.results.database import connect, open_results
    from analysis.results.errors import AnalysisError, ResultsWarning
    from analysis.results.query import Answer, ask
    from analysis.tables.catalog import make_table

__all__ = [
    "AnalysisError",
    "Answer",
    "ResultsWarning",
    "ask",
    "connect",
    "make_table",
    "open_results",
    "save_plot",
    "write_report",
]

# Loaded on first use, so that `import analysis` loads neither duckdb nor altair.
_MODULES = {
    "Answer": "analysis.results.query",
    "AnalysisError": "analysis.results.errors",
    "ResultsWarning": "analysis.results.errors",
    "ask": "analysis.results.query",
    "connect": "analysis.results.database",
    "make_table": "analysis.tables.catalog",
    "open_results": "analysis.results.database",
    "save_plot": "analysis.charts.catalog",
    "write_report": "analysis.report.report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
