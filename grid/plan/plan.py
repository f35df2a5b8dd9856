"""`SweepSpec` -> `Plan`: the cells of a comparison and their trials."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnncore.config import Objective, TrialConfig
from cnncore.data import SPLIT_KEYS
from cnncore.spelling import shortened
from grid.code.sources import Sources
from grid.code.sweep_code import SweepCode
from grid.errors import SweepError
from grid.phrases import counted
from grid.plan.config_problem import ConfigProblem
from grid.plan.ids import Trial, config_json, digest, identity, make_trial, plain
from grid.plan.own_transforms import OwnTransforms
from grid.plan.resolve import Inspect, Resolver, Values
from grid.sweep.axes import Choice, finite_points, holds
from grid.sweep.checks import FIRST_CONFIRM_SEED, gap_problems
from grid.sweep.spec import STARTUP_TRIALS, Resources, SweepSpec
from grid.sweep.yaml_source import KeyPath

# Points of a cell are counted only up to this many combinations of its axes' values.
MOST_COUNTED = 1_000

# The class with the fewest training images, by name and number, of a config's data set.
SmallestClass = Callable[[TrialConfig], tuple[str, int]]

# The classes without an image to train on, in any of so many folds (None without folds).
UntrainedClasses = Callable[[TrialConfig, int | None], list[str]]
# The problems of the code of configs, which the sweep's own problems do not touch.
TryCode = Callable[[Resolver, Sequence[TrialConfig]], Iterable[tuple[KeyPath, str]]]
# Keys that give every class the same weight, so each needs an image.
BALANCED_KEYS = ("class_weights", "sampling")


@dataclass(frozen=True)
class Cell:
    """One combination of the compared axes' values, in the order of the sweep file."""

    cell_id: str
    values: Values
    # The most epochs that a trial of it may use.
    epochs: int
    # Configs that a search asks for; fewer than `tune.trials` if the axes have fewer points.
    budget: int = 0

    def label(self) -> str:
        """Return its values as text: `cnn3 sgd 0.01`."""
        return " ".join(str(plain(value)) for value in self.values.values())


@dataclass(frozen=True)
class Plan:
    """Validated sweep: every cell, and every trial known before anything runs.

    Cells with tuned axes have no trials yet: a search asks for them
    (`grid/search/sweep_search.py`).
    """

    plan_id: str
    spec: SweepSpec
    changes: Values
    cells: tuple[Cell, ...]
    trials: tuple[Trial, ...]
    resolver: Resolver = field(repr=False)
    # Image files that cannot be read do not count, here and in every trial.
    skip_unreadable: bool = False
    # The files of the user's own code.
    sources: Sources | None = None
    # Remarks on the networks, once they were tried.
    remarks: tuple[str, ...] = ()
    # Data sets of the catalog that are not on this machine, each with the reason; such a plan shows
    # what a sweep would be, and is not run.
    absent_data: Mapping[str, str] = field(default_factory=dict)

    @property
    def planned(self) -> int:
        """Count of all trials, suggested already or not."""
        if self.spec.tune is None:
            return len(self.trials)
        searched = sum(cell.budget for cell in self.cells) * len(self.replicates)
        if (confirm := self.spec.tune.confirm) is None:
            return searched
        return searched + len(self.cells) * confirm.top * len(self.confirm_replicates)

    @property
    def objective(self) -> Objective:
        """Return the objective, which all its configs share."""
        return self.resolver.objective

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that trials compute beside the usual ones: also the objective's."""
        return self.resolver.metrics

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that every config is trained with."""
        return tuple(self.changes.get("seeds", self.spec.seeds))

    @property
    def replicates(self) -> tuple[tuple[int, int | None], ...]:
        """Trials of one config, as seed and fold (None without folds)."""
        return replicates(self.seeds, self.spec.folds)

    @property
    def confirm_replicates(self) -> tuple[tuple[int, int | None], ...]:
        """Trials that confirm one config, as seed and fold: seeds that no search uses."""
        if self.spec.tune is None or self.spec.tune.confirm is None:
            return ()
        seeds = range(FIRST_CONFIRM_SEED, FIRST_CONFIRM_SEED + self.spec.tune.confirm.seeds)
        return replicates(seeds, self.spec.folds)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about settings that are allowed but most often a mistake."""
        texts = [*self.remarks, *self.resolver.remarks(), *share_notes(self.spec.resources)]
        if places := self.resolver.code.unwatched():
            texts.append(
                f"{shortened(', '.join(places))}: reads a file whose path is no text in the code, "
                "so an edit of that file trains nothing again; write the path as a text, such as "
                'Path(__file__).parent / "classes.json"'
            )
        if (tune := self.spec.tune) is None:
            return tuple(texts)
        if tune.sampler in STARTUP_TRIALS and tune.trials <= STARTUP_TRIALS[tune.sampler]:
            texts.append(
                f"tune.trials: {tune.sampler} starts with {STARTUP_TRIALS[tune.sampler]} random "
                f"suggestions, so with {tune.trials} it is a random search"
            )
        short = [cell for cell in self.cells if cell.budget < tune.trials]
        if short:
            texts.append(
                f"tune.axes: {short[0].label()} has only {short[0].budget} different points, "
                f"fewer than the {tune.trials} of tune.trials: each is run once"
                + (f" (so in {len(short)} cells)" if len(short) > 1 else "")
            )
        return tuple(texts)

    @property
    def folder(self) -> str:
        """Name of the results folder; with changes it carries four hex digits of them."""
        return folder_name(self.spec, self.changes)


def share_notes(resources: Resources) -> list[str]:
    """Return a remark on a share of a GPU that leaves a part of each GPU unused."""
    if resources.gpus in ("auto", 0):
        return []
    share, trials = float(resources.gpus), resources.trials_per_gpu
    unused = 1 - trials * share
    if unused < 0.015:  # 0.33 is meant as a third
        return []
    return [
        f"resources.gpus {share:g}: {counted(trials, 'trial')} at a time on a GPU, and "
        f"{unused:.0%} of it stays unused; {1 / trials:.4g} uses all of it"
    ]


def replicates(seeds: Iterable[int], folds: int | None) -> tuple[tuple[int, int | None], ...]:
    """Pair every seed with every fold (from 0), or with None if there are no folds."""
    return tuple(itertools.product(seeds, range(folds) if folds else (None,)))


def folder_name(spec: SweepSpec, changes: Values) -> str:
    """Return `<sweep>`, or `<sweep>-<4 hex>` if it has changes: a small test run stays separate."""
    if not changes:
        return spec.sweep
    return f"{spec.sweep}-{digest(changes)[:4]}"


def expand_sweep(
    spec: SweepSpec,
    inspect: Inspect,
    changes: Values | None = None,
    smallest_class: SmallestClass | None = None,
    untrained_classes: UntrainedClasses | None = None,
    code: SweepCode | None = None,
    try_code: TryCode | None = None,
) -> Plan:
    """Expand and check a sweep.

    `smallest_class` is needed if the sweep has folds, `untrained_classes` if it balances classes.

    `code` knows the user's own code, and what the results folder has of it. If there is a problem,
    `try_code` tells those of the code too.

    Raises `SweepError` with every problem found.
    """
    changes = dict(changes or {})
    settings = {key: value for key, value in changes.items() if key != "seeds"}
    code = code or SweepCode()
    # Read before anything else, so that all of the plan sees the same files.
    sources = code.sources(spec.model_dump(), settings)
    resolver = Resolver(spec, settings, inspect, code)
    problems: list[tuple[KeyPath, str]] = []
    # Problem of a config -> the cells that have it.
    unfit: dict[tuple[KeyPath, str], list[Values]] = {}
    same: list[tuple[Values, Values]] = []
    transforms = OwnTransforms()
    cells, configs, balanced = [], [], []
    half_resolved: list[TrialConfig] = []
    seen: dict[str, Cell] = {}
    combinations = spec.combinations()
    problems += _idle_exclusions(spec, combinations)
    for values in combinations:
        if any(holds(excluded, values) for excluded in spec.exclude):
            continue
        resolved = []
        for tuned in corners(spec, values):
            try:
                resolved.append(resolver.resolve({**values, **tuned}))
                transforms.note(resolver, resolved[-1], values)
            except ConfigProblem as problem:
                if problem.config:
                    half_resolved.append(problem.config)
                    transforms.note(resolver, problem.config, values)
                for reason in problem.reasons:
                    unfit.setdefault(reason, []).append(values)
        if not resolved:
            continue
        epochs = max(config.epochs for config in resolved)
        cell = Cell(resolver.cell_id(values, resolved), values, epochs, _budget(spec, values))
        key = digest([identity(config) for config in resolved])
        if key in seen:
            same.append((seen[key].values, values))
        seen.setdefault(key, cell)
        cells.append(cell)
        configs.append(resolved[0])
        balanced += [c for c in resolved if "balanced" in (getattr(c, k) for k in BALANCED_KEYS)]
    for text, where in transforms.problems(code):
        unfit[resolver.key_path("augment"), text] = where
    if same:
        more = f" ({counted(len(same) - 1, 'more pair')})" if same[1:] else ""
        problems.append(
            (
                ("compare",),
                f"cells {_values_text(same[0][0])} and {_values_text(same[0][1])} are the same "
                f"once keys that do not apply are left out; `exclude` one of them{more}",
            )
        )
    problems += [(path, f"{text} ({_cells_text(where)})") for (path, text), where in unfit.items()]
    if not cells and not problems:
        problems.append((("exclude",), "leaves no cell to run"))
    problems += _late_comparisons(spec, cells)
    problems += gap_problems(spec, resolver.objective)
    if spec.folds and smallest_class and not problems:
        problems += _fold_problems(spec.folds, configs, smallest_class)
    if untrained_classes and not problems:
        problems += _balance_problems(resolver, balanced, untrained_classes)
    if problems:
        if try_code:
            problems += try_code(resolver, [*configs, *half_resolved])
        texts = [problem_text(spec, path, text) for path, text in problems]
        raise SweepError(list(dict.fromkeys(texts)))  # each once
    seeds = tuple(changes.get("seeds", spec.seeds))
    trials: tuple[Trial, ...] = ()
    if spec.tune is None:
        # Replicates outermost: every cell has its first result before any has its second.
        trials = tuple(
            make_trial(config, seed, cell.cell_id, fold=fold, folds=spec.folds)
            for seed, fold in replicates(seeds, spec.folds)
            for cell, config in zip(cells, configs, strict=True)
        )
    tune = spec.tune.model_dump(mode="json") if spec.tune else None
    content = [[c.cell_id for c in cells], [t.trial_id for t in trials], tune, seeds]
    plan_id = digest([*content, spec.folds] if spec.folds else content)
    return Plan(plan_id, spec, changes, tuple(cells), trials, resolver, sources=sources)


def problem_text(spec: SweepSpec, path: KeyPath, text: str) -> str:
    """Return a problem with its position; a key that opens the text is not said twice."""
    key = f"{path[-1]}: " if path else ""
    return f"{spec.source.position(path)}: {text.removeprefix(key)}"


def _fold_problems(
    folds: int, configs: Iterable[TrialConfig], smallest_class: SmallestClass
) -> Iterator[tuple[KeyPath, str]]:
    """Yield data sets with a class that has fewer training images than there are folds."""
    for config in configs:
        name, images = smallest_class(config)
        if images < folds:
            yield (
                ("folds",),
                f"at most {images} for {config.dataset}, whose class {name} has {images} training "
                f"images, but got {folds}",
            )


def _balance_problems(
    resolver: Resolver, configs: Iterable[TrialConfig], untrained_classes: UntrainedClasses
) -> Iterator[tuple[KeyPath, str]]:
    """Yield balanced keys of configs that have a class without an image to train on."""
    different = {c.model_dump_json(include={*SPLIT_KEYS, *BALANCED_KEYS}): c for c in configs}
    for config in different.values():
        if names := untrained_classes(config, resolver.spec.folds):
            key = next(k for k in BALANCED_KEYS if getattr(config, k) == "balanced")
            yield (
                resolver.key_path(key),
                f"balanced needs an image of each class to train on, but {config.dataset} "
                f"has none of {shortened(', '.join(names))} with these settings",
            )


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """Return the rows of the table `plan`; trials of tuned cells have no id before the search."""
    cells = {cell.cell_id: cell for cell in plan.cells}
    rows: list[dict[str, Any]] = [
        {
            "trial_id": trial.trial_id,
            "config_id": trial.config_id,
            "lineage_id": trial.lineage_id,
            "cell_id": trial.cell_id,
            "role": trial.role,
            "seed": trial.seed,
            "fold": trial.fold,
            "epochs": trial.config.epochs,
            "config": config_json(trial.config),
        }
        for trial in plan.trials
    ]
    if plan.spec.tune:
        rows = [
            {
                "cell_id": cell.cell_id,
                "role": "searched",
                "suggestion": n,
                "seed": seed,
                "fold": fold,
            }
            for n in range(plan.spec.tune.trials)
            for cell in plan.cells
            if n < cell.budget
            for seed, fold in plan.replicates
        ]
        rows += [
            {
                "cell_id": cell.cell_id,
                "role": "confirmed",
                "suggestion": rank,
                "seed": seed,
                "fold": fold,
            }
            for rank in range(plan.spec.tune.confirm.top if plan.spec.tune.confirm else 0)
            for cell in plan.cells
            for seed, fold in plan.confirm_replicates
        ]
    for position, row in enumerate(rows):
        row["plan_id"] = plan.plan_id
        row["sweep"] = plan.spec.sweep
        row["position"] = position
        values = cells[row["cell_id"]].values
        row["cell"] = json.dumps({key: plain(value) for key, value in values.items()})
    return rows


def _idle_exclusions(
    spec: SweepSpec, combinations: list[dict[str, Any]]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield exclusions that leave out nothing, such as one with a misspelt value."""
    for index, excluded in enumerate(spec.exclude):
        if not any(holds(excluded, combination) for combination in combinations):
            yield (
                ("exclude", index),
                f"leaves out nothing: no combination of `compare` has {_values_text(excluded)}"
                + (" (a list is any of its values: write [[]])" if [] in excluded.values() else ""),
            )


def _budget(spec: SweepSpec, values: Values) -> int:
    """Count the configs that a search asks for in a cell."""
    if spec.tune is None:
        return 0
    points = finite_points(active_axes(spec, values), max(MOST_COUNTED, spec.tune.trials))
    return spec.tune.trials if points is None else min(spec.tune.trials, len(points))


def _late_comparisons(spec: SweepSpec, cells: list[Cell]) -> Iterator[tuple[KeyPath, str]]:
    """Yield a rule of `stop` that would compare nothing in some cell: its trials end before."""
    if spec.stop is None or not cells:
        return
    shortest = min(cells, key=lambda cell: cell.epochs)
    rule = spec.stop.rule
    if rule.first_comparison >= shortest.epochs:
        yield (
            ("stop", spec.stop.name, rule.first_comparison_key),
            f"must be below a trial's epochs ({shortest.epochs}), but got "
            f"{rule.first_comparison}: nothing would be stopped ({_values_text(shortest.values)})",
        )


def corners(spec: SweepSpec, values: Values) -> Iterator[dict[str, Any]]:
    """Yield tuned values to check a cell with: the axes' first values, then each other end."""
    axes = active_axes(spec, values)
    ends = {
        key: axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
        for key, axis in axes.items()
    }
    first = {key: options[0] for key, options in ends.items()}
    yield first
    for key, options in ends.items():
        for value in options[1:]:
            yield {**first, key: value}


def active_axes(spec: SweepSpec, values: Values) -> dict[str, Any]:
    """Return tuned axes that can exist in a cell: conditions on compared and fixed keys hold."""
    if spec.tune is None:
        return {}
    known = {**spec.fixed, **values}
    return {
        key: axis
        for key, axis in spec.tune.axes.items()
        if holds({k: v for k, v in (axis.when or {}).items() if k not in spec.tune.axes}, known)
    }


def _cells_text(cells: Sequence[Values]) -> str:
    """Return the first of these cells and the count of the others."""
    others = len({id(values) for values in cells}) - 1
    return _values_text(cells[0]) + (f" and {counted(others, 'more cell')}" if others else "")


def _values_text(values: Values) -> str:
    """Return values as `key=value` text for a message."""
    return shortened(" ".join(f"{key}={plain(value)}" for key, value in values.items()))
