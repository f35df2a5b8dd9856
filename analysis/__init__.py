"""Questions to results folders: views, tables, figures and a report; knows only files and SQL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.charts.plots import save_plot
    from analysis.report.report import write_report
    from analysis.results.database import AnalysisError, ResultsWarning, connect, open_results
    from analysis.results.query import Answer, ask
    from analysis.tables.tables import make_table

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
    "AnalysisError": "analysis.results.database",
    "ResultsWarning": "analysis.results.database",
    "ask": "analysis.results.query",
    "connect": "analysis.results.database",
    "make_table": "analysis.tables.tables",
    "open_results": "analysis.results.database",
    "save_plot": "analysis.charts.plots",
    "write_report": "analysis.report.report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
