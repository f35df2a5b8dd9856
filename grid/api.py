"""Planning and running a sweep from Python, with the data folder of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from analysis.results.location import inside
from cnncore.catalog import DATASETS
from cnncore.config import TrialConfig
from cnncore.data import (
    DataAbsent,
    DataMissing,
    ImageData,
    absent_classes,
    check_dataset,
    download_dataset,
    outline_planned,
    published_info,
    smallest_class,
)
from cnncore.data.cache import cache_roots
from grid.code.modules import forget_listings
from grid.code.stored import StoredCode
from grid.code.sweep_code import SweepCode
from grid.errors import SweepError
from grid.plan.plan import Plan, expand_sweep, folder_name
from grid.plan.resolve import DataFacts
from grid.run.driver import RunOptions
from grid.run.reading import reading_shown
from grid.run.session import Summary, run_plan
from grid.screen import open_console
from grid.store.open import open_store
from grid.sweep.load import check_changes, check_sweep, parse_changes
from grid.sweep.spec import SweepSpec
from grid.trial.network_check import code_problems, unfinished_configs


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
    results: str | Path | None = None,
    same_code: bool = False,
    without_data: bool = False,
) -> Plan:
    """Expand and check a sweep against the data in `data_dir`.

    `download` downloads absent data sets if possible; `skip_unreadable` leaves out image files that
    cannot be decoded. `results` is the parent of results folders, where earlier versions of the
    user's own code are looked up; with `same_code` the newest of them counts as equal to today's.
    With `without_data`, data sets of the catalog that are not on this machine count with their
    published numbers (`Plan.absent_data`); such a plan is to be looked at, not to be run.
    Raises `SweepError` with all problems.
    """
    spec = check_sweep(spec)
    changes = check_changes(changes or {}, spec)
    folder = Path(data_dir) if data_dir else default_data_dir()
    use_own_modules(spec)
    code = SweepCode(partial(_stored_code, spec, changes, results), same_code, cache_roots(folder))
    # Data sets that are not here, each with the reason.
    absent: dict[str, str] = {}
    facts = partial(
        _data_facts,
        data_dir=folder,
        download=download,
        skip_unreadable=skip_unreadable,
        absent=absent if without_data else None,
    )
    data = partial(outline_planned, data_dir=folder, skip_unreadable=skip_unreadable, absent=absent)
    plan = expand_sweep(
        spec,
        facts,
        changes,
        lambda config: smallest_class(data(config)),
        lambda config, folds: _untrained_classes(config, folds, data(config)),
        code,
        code_problems,
    )
    return replace(plan, skip_unreadable=skip_unreadable, absent_data=absent)


def with_further_problems(
    error: SweepError,
    changes: Collection[str] = (),
    *,
    data_dir: str | Path | None = None,
    skip_unreadable: bool = False,
    download: bool = False,
) -> SweepError:
    """Return the error of a sweep file with the problems of the rest of the file, if it has any.

    `changes` are written as `key=value`. Nothing is downloaded; with `download` the rest is left
    for later if a data set is absent, because that is no problem of the file.
    """
    if (spec := error.sound) is None:
        return error
    folder = Path(data_dir) if data_dir else default_data_dir()
    use_own_modules(spec)
    if download and any(_is_missing(name, folder) for name in _datasets(spec)):
        return error
    try:
        options = parse_changes(changes, spec)
        plan = make_plan(spec, options, data_dir=folder, skip_unreadable=skip_unreadable)
        found = code_problems(plan.resolver, unfinished_configs(plan, ()))
        more = [f"{spec.source.position(path)}: {text}" for path, text in found]
    except SweepError as other:
        more = [*other.problems]
    return SweepError(list(dict.fromkeys([*error.problems, *more])))


def _datasets(spec: SweepSpec) -> list[str]:
    named = [*spec.compare.get("dataset", ()), spec.fixed.get("dataset")]
    return [name for name in named if isinstance(name, str)]


def _is_missing(dataset: str, data_dir: Path) -> bool:
    """Check whether a data set has to be downloaded first."""
    try:
        check_dataset(dataset, data_dir, None)
    except DataMissing:
        return True
    except Exception:  # the plan says it
        return False
    return False


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
    same_code: bool = False,
    quiet: bool = False,
) -> Summary:
    """Plan a sweep and run what its results folder lacks.

    `local` runs in this process, one trial at a time, without Ray. `slots` is the number of trials
    at a time on this machine, `address` that of a running Ray cluster. Trials that ended in a state
    of `retry` (failed, diverged) are run again; `on_error="stop"` ends the sweep with the first
    failed trial. With `share`, several such calls on any machines work on one results folder.
    `same_code` vouches that edits of the user's own code since the folder's newest trials change no
    result, so that these count.

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
            spec,
            changes,
            data_dir=folder,
            download=True,
            skip_unreadable=skip_unreadable,
            results=results,
            same_code=same_code,
        )
    return run_plan(plan, options, console)


def use_own_modules(spec: SweepSpec | None = None) -> None:
    """Make modules of the working directory importable, after everything installed.

    A sweep file names their functions as `package.module:function`; modules in its own folder come
    last.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    if spec is not None and Path(spec.source.name).is_file():
        beside = str(Path(spec.source.name).absolute().parent)
        if beside not in (here, *sys.path):
            sys.path.append(beside)
    forget_listings()


def _stored_code(
    spec: SweepSpec, changes: Mapping[str, Any], results: str | Path | None
) -> StoredCode | None:
    """Return the code that the results folder knows; None without a folder."""
    if results is None:
        return None
    store = open_store(inside(results, folder_name(spec, changes)))
    store.files.fetch_tables()
    return StoredCode(store)


def _untrained_classes(config: TrialConfig, folds: int | None, data: ImageData) -> list[str]:
    """Return the classes of which some fold has no image to train on."""
    parts = [(fold, folds) for fold in range(folds)] if folds else [None]
    absent = [absent_classes(config, data, part).get("train", []) for part in parts]
    return list(dict.fromkeys(name for names in absent for name in names))


def _data_facts(
    name: str,
    image_size: int | None,
    *,
    data_dir: Path,
    download: bool,
    skip_unreadable: bool,
    absent: dict[str, str] | None,
) -> DataFacts:
    """Return facts about a data set; with `download`, download it if it is absent.

    With `absent`, note there a data set of the catalog that is not here, and return what is
    published about it.
    """
    check = partial(check_dataset, name, data_dir, image_size, skip_unreadable=skip_unreadable)
    try:
        return check()
    except DataMissing:
        if download:
            download_dataset(name, data_dir)
            return check()
        if absent is None or name not in DATASETS:
            raise
        absent[name] = f"{name} is not here: `cnngrid run` downloads it"
    except DataAbsent as problem:
        if absent is None:
            raise
        absent[name] = str(problem)
    return published_info(name, image_size)
