"""Orchestration: a sweep file in, a results folder out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grid.api import make_plan, run_sweep
    from grid.errors import GridError
    from grid.plan.plan import Plan
    from grid.run.session import Summary
    from grid.sweep.load import load_sweep
    from grid.sweep.spec import SweepSpec

__all__ = ["GridError", "Plan", "Summary", "SweepSpec", "load_sweep", "make_plan", "run_sweep"]

# Loaded on first use, so that `import grid` is quick and loads neither torch nor ray.
_MODULES = {
    "GridError": "grid.errors",
    "Plan": "grid.plan.plan",
    "Summary": "grid.run.session",
    "SweepSpec": "grid.sweep.spec",
    "load_sweep": "grid.sweep.load",
    "make_plan": "grid.api",
    "run_sweep": "grid.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'grid' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
