"""The way in from Python: a sweep, planned and run, with the machine's data folder at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cnncore.config import TrialConfig
from cnncore.data import (
    DataMissing,
    check_dataset,
    load_dataset,
    prepare_dataset,
    smallest_class,
)
from grid.plan.plan import Plan
from grid.plan.plan import make_plan as expand
from grid.plan.resolve import DataFacts
from grid.run.driver import RunOptions
from grid.run.session import Summary, run_plan
from grid.sweep.spec import SweepSpec


def default_data_dir() -> Path:
    """`$CNNGRID_DATA`, else `~/.cache/cnngrid/data`."""
    return Path(os.environ.get("CNNGRID_DATA") or "~/.cache/cnngrid/data").expanduser()


def make_plan(
    spec: SweepSpec,
    changes: Mapping[str, Any] | None = None,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    skip_unreadable: bool = False,
) -> Plan:
    """Expand and check a sweep against the data in `data_dir`.

    `download` fetches absent data sets where that is possible; `skip_unreadable` leaves out image
    files that cannot be decoded. Raises `SweepError` with every
    problem found.
    """
    folder = Path(data_dir) if data_dir else default_data_dir()
    use_own_modules()
    inspect = partial(_inspect, data_dir=folder, download=download, skip_unreadable=skip_unreadable)
    count = partial(_smallest_class, data_dir=folder, skip_unreadable=skip_unreadable)
    return replace(expand(spec, inspect, changes, count), skip_unreadable=skip_unreadable)


def run_sweep(
    spec: SweepSpec,
    changes: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    local: bool = False,
    slots: int | None = None,
    address: str | None = None,
    retry: Collection[str] = (),
    on_error: Literal["continue", "stop"] = "continue",
    share: bool = False,
    skip_unreadable: bool = False,
    quiet: bool = False,
) -> Summary:
    """Plan a sweep and run what its results folder lacks.

    `local` runs in this process, one trial at a time, without Ray; `slots` is the number of trials
    at a time on this machine; `address` is a running Ray cluster's; trials that ended in a state of
    `retry` (failed, diverged) are run again, and `on_error="stop"` ends the sweep with the first
    trial that fails; with `share` several such calls, on any machines, work on one results folder.
    Raises `GridError` children
    before anything starts, and `StoreError` where the results can no longer be written.
    """
    from rich.console import Console

    folder = Path(data_dir) if data_dir else default_data_dir()
    plan = make_plan(spec, changes, data_dir=folder, download=True, skip_unreadable=skip_unreadable)
    options = RunOptions(
        results, folder.absolute(), local, slots, address, frozenset(retry), share, on_error
    )
    return run_plan(plan, options, Console(stderr=True, quiet=quiet))


def use_own_modules() -> None:
    """Let `package.module:function` name a module beside the sweep, after all that is installed."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _smallest_class(
    config: TrialConfig, *, data_dir: Path, skip_unreadable: bool
) -> tuple[str, int]:
    data = load_dataset(
        config.dataset,
        data_dir,
        config.image_size,
        config.labels,
        skip_unreadable=skip_unreadable,
    )
    return smallest_class(data)


def _inspect(
    name: str, image_size: int | None, *, data_dir: Path, download: bool, skip_unreadable: bool
) -> DataFacts:
    check = partial(check_dataset, name, data_dir, image_size, skip_unreadable=skip_unreadable)
    try:
        return check()
    except DataMissing:
        if not download:
            raise
        prepare_dataset(name, data_dir, image_size)
        return check()
