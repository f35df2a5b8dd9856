"""Planning and running a sweep from Python, with the data folder of this machine."""

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
    load_planned,
    prepare_dataset,
    smallest_class,
)
from grid.plan.plan import Plan, expand_sweep
from grid.plan.resolve import DataFacts
from grid.run.driver import RunOptions
from grid.run.reading import reading_shown
from grid.run.session import Summary, run_plan
from grid.screen import open_console
from grid.sweep.load import check_changes, check_sweep
from grid.sweep.spec import SweepSpec


def default_data_dir() -> Path:
    """Return the folder `$CNNGRID_DATA`, or else `~/.cache/cnngrid/data`."""
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

    `download` downloads absent data sets if possible; `skip_unreadable` leaves out image files that
    cannot be decoded. Raises `SweepError` with all problems.
    """
    spec = check_sweep(spec)
    changes = check_changes(changes or {}, spec)
    folder = Path(data_dir) if data_dir else default_data_dir()
    use_own_modules()
    facts = partial(
        _data_facts, data_dir=folder, download=download, skip_unreadable=skip_unreadable
    )
    smallest = partial(_smallest_class, data_dir=folder, skip_unreadable=skip_unreadable)
    return replace(expand_sweep(spec, facts, changes, smallest), skip_unreadable=skip_unreadable)


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

    `local` runs in this process, one trial at a time, without Ray. `slots` is the number of trials
    at a time on this machine, `address` that of a running Ray cluster. Trials that ended in a state
    of `retry` (failed, diverged) are run again; `on_error="stop"` ends the sweep with the first
    failed trial. With `share`, several such calls on any machines work on one results folder.

    Raises subclasses of `GridError` before anything starts, and `StoreError` if results can no
    longer be written.
    """
    folder = Path(data_dir) if data_dir else default_data_dir()
    if isinstance(retry, str):
        raise ValueError(f"retry takes a list of states, such as [{retry!r}]")
    options = RunOptions(
        results, folder.absolute(), local, slots, address, frozenset(retry), share, on_error
    )
    console = open_console(stderr=True, quiet=quiet)
    with reading_shown(console):
        plan = make_plan(
            spec, changes, data_dir=folder, download=True, skip_unreadable=skip_unreadable
        )
    return run_plan(plan, options, console)


def use_own_modules() -> None:
    """Make modules of the working directory importable, after everything installed.

    A sweep file names their functions as `package.module:function`.
    """
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _smallest_class(
    config: TrialConfig, *, data_dir: Path, skip_unreadable: bool
) -> tuple[str, int]:
    """Return the smallest class of a config's training images and its number of images."""
    return smallest_class(load_planned(config, data_dir, skip_unreadable=skip_unreadable))


def _data_facts(
    name: str, image_size: int | None, *, data_dir: Path, download: bool, skip_unreadable: bool
) -> DataFacts:
    """Return facts about a data set; with `download`, download it if it is absent."""
    check = partial(check_dataset, name, data_dir, image_size, skip_unreadable=skip_unreadable)
    try:
        return check()
    except DataMissing:
        if not download:
            raise
        prepare_dataset(name, data_dir, image_size)
        return check()
