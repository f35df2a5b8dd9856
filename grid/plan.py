"""`SweepSpec` -> `Plan`: the cells of a comparison, their trials and ids.

Pure, but for the weights' files that `pretrained` names, which are read.

`resolve` is the one place where defaults, `fixed`, `rules`, axes and `--set` meet.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from cnncore.catalog import DATASETS, NETWORKS, check_labels, check_network
from cnncore.config import NETWORK_KEYS, TrialConfig, check_quirk
from cnncore.weights import IMAGENET, WeightsError, check_imagenet, fingerprint
from grid.axes import Choice, holds
from grid.errors import SweepError
from grid.spec import SweepSpec
from grid.yaml_source import Path_

Role = Literal["searched", "confirmed"]
Values = Mapping[str, Any]


class DataFacts(Protocol):
    """What the plan must know of a data set; `cnncore.data.DatasetInfo` is one."""

    @property
    def image_size(self) -> int: ...
    @property
    def fingerprint(self) -> str | None: ...
    @property
    def skipped(self) -> int: ...


# Looks up a data set by name; raises an exception with a message for the user.
Inspect = Callable[[str, int | None], DataFacts]
# The class with the fewest training images, by name and number, of a config's data set.
SmallestClass = Callable[[TrialConfig], tuple[str, int]]


@dataclass(frozen=True)
class Trial:
    """One config with one seed, and one of `folds` folds where there are any, trained once."""

    trial_id: str
    config_id: str
    lineage_id: str | None
    cell_id: str
    config: TrialConfig
    seed: int
    fold: int | None = None
    folds: int | None = None
    role: Role = "searched"
    suggestion: int | None = None


@dataclass(frozen=True)
class Cell:
    """One combination of the compared axes' values, in the order of the sweep file."""

    cell_id: str
    values: Values

    def label(self) -> str:
        """Its values in a few words: `cnn3 sgd 0.01`."""
        return " ".join(str(_plain(value)) for value in self.values.values())


@dataclass(frozen=True)
class Plan:
    """The validated sweep: every cell, and every trial known before anything runs.

    Cells with tuned axes have no trials yet: a search asks for them (`grid/search.py`).
    """

    plan_id: str
    spec: SweepSpec
    changes: Values
    cells: tuple[Cell, ...]
    trials: tuple[Trial, ...]
    resolver: Resolver = field(repr=False)
    # Image files that cannot be read do not count, here and in every trial.
    skip_unreadable: bool = False

    @property
    def planned(self) -> int:
        """How many trials there will be, asked or not."""
        if self.spec.tune is None:
            return len(self.trials)
        return len(self.cells) * self.spec.tune.trials * len(self.replicates)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every config is trained with."""
        return tuple(self.changes.get("seeds", self.spec.seeds))

    @property
    def replicates(self) -> tuple[tuple[int, int | None], ...]:
        """The trials of one config, as seed and fold (None without folds)."""
        return replicates(self.seeds, self.spec.folds)

    @property
    def folder(self) -> str:
        """Name of the results folder; with changes it carries four hex digits of them."""
        return folder_name(self.spec, self.changes)


def replicates(seeds: Iterable[int], folds: int | None) -> tuple[tuple[int, int | None], ...]:
    """Every seed with every fold (from 0), or with None where there are no folds."""
    return tuple(itertools.product(seeds, range(folds) if folds else (None,)))


def folder_name(spec: SweepSpec, changes: Values) -> str:
    """`<sweep>`, or `<sweep>-<4 hex>` so that a small try never mixes with the full run."""
    if not changes:
        return spec.sweep
    return f"{spec.sweep}-{digest(changes)[:4]}"


def make_plan(
    spec: SweepSpec,
    inspect: Inspect,
    changes: Values | None = None,
    smallest_class: SmallestClass | None = None,
) -> Plan:
    """Expand and check a sweep; `smallest_class` is needed where the sweep has folds.

    Raises `SweepError` with every problem found.
    """
    changes = dict(changes or {})
    settings = {key: value for key, value in changes.items() if key != "seeds"}
    resolver = Resolver(spec, settings, inspect)
    problems: list[tuple[Path_, str]] = []
    cells, configs = [], []
    seen: dict[str, Cell] = {}
    for values in _combinations(spec):
        resolved = []
        for tuned in _corners(spec, values):
            try:
                resolved.append(resolver.resolve({**values, **tuned}))
            except ConfigProblem as problem:
                problems.append((problem.path, f"{problem} ({_words(values)})"))
        if not resolved:
            continue
        cell = Cell(resolver.cell_id(values), values)
        key = digest([identity(config) for config in resolved])
        if key in seen:
            problems.append(
                (
                    ("compare",),
                    f"cells {_words(seen[key].values)} and {_words(values)} are the "
                    "same once keys that do not apply are left out; `exclude` one of them",
                )
            )
        seen.setdefault(key, cell)
        cells.append(cell)
        configs.append(resolved[0])
    if not cells and not problems:
        problems.append((("exclude",), "leaves no cell to run"))
    if spec.folds and smallest_class and not problems:
        problems += _fold_problems(spec.folds, configs, smallest_class)
    if problems:
        raise SweepError(_once(f"{spec.source.place(path)}: {text}" for path, text in problems))
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
    return Plan(plan_id, spec, changes, tuple(cells), trials, resolver)


def _fold_problems(
    folds: int, configs: Iterable[TrialConfig], smallest_class: SmallestClass
) -> Iterator[tuple[Path_, str]]:
    """Data sets with a class that has fewer training images than there are folds."""
    for config in configs:
        name, images = smallest_class(config)
        if images < folds:
            yield (
                ("folds",),
                f"at most {images} for {config.dataset}, whose class {name} has {images} training "
                f"images, but got {folds}",
            )


class ConfigProblem(Exception):
    """Why a combination cannot be trained, and the place in the sweep file to look at."""

    def __init__(self, path: Path_, text: str) -> None:
        self.path = path
        super().__init__(text)


@dataclass
class Resolver:
    """Turns axis values into configs; remembers what it asked of the data sets."""

    spec: SweepSpec
    settings: Values
    inspect: Inspect
    _facts: dict[tuple[str, int | None], DataFacts] = field(default_factory=dict)
    _fitting: dict[str, str] = field(default_factory=dict)

    def resolve(self, values: Values) -> TrialConfig:
        """The config of these axis values. Raises `ConfigProblem`."""
        merged: dict[str, Any] = dict(self.spec.fixed)
        for rule in self.spec.rules:
            if holds(rule.when, {**self.spec.fixed, **values}):
                merged.update(rule.set)
        merged.update(values)
        merged.update(self.settings)
        if self.spec.folds:
            merged["val_fraction"] = None
        arch = str(merged.get("arch", ""))
        if arch in NETWORKS:
            for option in ("activation", "dropout"):
                if option not in NETWORKS[arch].options:
                    merged[option] = None
        try:
            config = TrialConfig.model_validate(merged)
        except ValidationError as error:
            raise ConfigProblem(*self._explain(error)) from None
        if problem := check_labels(config.dataset, config.labels):
            raise ConfigProblem(self._place("labels"), problem)
        if config.val_fraction is None and not self.spec.folds:
            raise ConfigProblem(
                self._place("val_fraction"), "val_fraction is null only under `folds`"
            )
        facts = self._inspect(config.dataset, config.image_size)
        update: dict[str, Any] = {}
        if config.image_size is None:
            update["image_size"] = facts.image_size
        if config.labels is None and config.dataset in DATASETS:
            update["labels"] = next(iter(DATASETS[config.dataset].labels), None)
        if facts.fingerprint is not None:
            update["data_fingerprint"] = facts.fingerprint
        config = config.model_copy(update=update)
        assert config.image_size is not None
        if problem := check_quirk(config):
            raise ConfigProblem(self._place("quirk"), problem)
        options = {key: getattr(config, key) for key in NETWORK_KEYS}
        options.update(config.arch_options or {})
        if problem := check_network(config.arch, config.image_size, options):
            takes = NETWORKS[config.arch].options if config.arch in NETWORKS else ()
            refused = [key for key in NETWORK_KEYS if options[key] is not None and key not in takes]
            raise ConfigProblem(self._place(*refused, "image_size", "arch"), problem)
        if config.pretrained == IMAGENET:
            if problem := check_imagenet(config.arch, options):
                raise ConfigProblem(self._place("pretrained", "arch"), problem)
        elif config.pretrained is not None:
            config = config.model_copy(update=self._weights(config, options))
        return config

    def _weights(self, config: TrialConfig, options: dict[str, Any]) -> dict[str, str]:
        """The absolute path and the fingerprint of the weights' file; it must fit the network."""
        path = str(Path(str(config.pretrained)).expanduser().absolute())
        key = json.dumps([path, config.arch, config.image_size, options])
        try:
            if key not in self._fitting:
                value = fingerprint(path)
                # Shapes want torch, which planning does not load for anything else.
                from cnncore.models.pretrained import check_fit

                assert config.image_size is not None
                check_fit(config.arch, config.image_size, options, path)
                self._fitting[key] = value
        except (WeightsError, ValueError) as error:
            raise ConfigProblem(self._place("pretrained", "arch"), str(error)) from None
        return {"pretrained": path, "pretrained_fingerprint": self._fitting[key]}

    def datasets(self) -> list[tuple[str, int | None]]:
        """Data sets and image sides looked up so far: after `make_plan` all of the plan's."""
        return list(self._facts)

    def skipped(self) -> dict[str, int]:
        """How many unreadable image files were left out, by data set."""
        return {name: facts.skipped for (name, _), facts in self._facts.items() if facts.skipped}

    def cell_id(self, values: Values) -> str:
        """Hash of the compared axes' names and values, image folders by their content."""
        shown = {key: _plain(value) for key, value in values.items()}
        dataset = str(shown.get("dataset", ""))
        if dataset.startswith("imagefolder:"):
            size = next(side for name, side in self._facts if name == dataset)
            shown["dataset"] = f"imagefolder:{self._facts[dataset, size].fingerprint}"
        if shown.get("pretrained") not in (None, IMAGENET):
            shown["pretrained"] = fingerprint(Path(str(shown["pretrained"])).expanduser())
        return digest(shown)

    def _inspect(self, dataset: str, image_size: int | None) -> DataFacts:
        key = (dataset, image_size)
        if key not in self._facts:
            try:
                self._facts[key] = self.inspect(dataset, image_size)
            except Exception as error:  # a user's own data set may raise anything
                raise ConfigProblem(self._place("dataset"), str(error)) from None
        return self._facts[key]

    def _explain(self, error: ValidationError) -> tuple[Path_, str]:
        details = error.errors()[0]
        key = str(details["loc"][0]) if details["loc"] else ""
        if details["type"] == "missing":
            return (), f"{key} is required: give it under fixed, compare or tune.axes"
        message = details["msg"].removeprefix("Value error, ")
        return self._place(key), f"{message}, but got {details['input']!r}"

    def _place(self, *keys: str) -> Path_:
        """Where the sweep file sets the first of these keys that it sets at all."""
        for key in keys:
            if key in self.spec.compare:
                return ("compare", key)
            if self.spec.tune and key in self.spec.tune.axes:
                return ("tune", "axes", key)
            if key in self.spec.fixed:
                return ("fixed", key)
        return ()


def make_trial(
    config: TrialConfig,
    seed: int,
    cell_id: str,
    *,
    role: Role = "searched",
    suggestion: int | None = None,
    fold: int | None = None,
    folds: int | None = None,
) -> Trial:
    """A trial with its ids."""
    content = identity(config)
    part = {} if fold is None else {"fold": fold, "folds": folds}
    return Trial(
        trial_id=digest({"config": content, "seed": seed, **part}),
        config_id=digest(content),
        lineage_id=_lineage_id(config, content),
        cell_id=cell_id,
        config=config,
        seed=seed,
        fold=fold,
        folds=folds,
        role=role,
        suggestion=suggestion,
    )


def identity(config: TrialConfig) -> dict[str, Any]:
    """What ids are made of: every key whose value is not null, folders and files by content."""
    content: dict[str, Any] = _without_nulls(config.model_dump(mode="json"))
    if config.dataset.startswith("imagefolder:"):
        content["dataset"] = f"imagefolder:{content.pop('data_fingerprint')}"
    if config.pretrained_fingerprint is not None:
        content["pretrained"] = content.pop("pretrained_fingerprint")
    return content


def digest(content: Any) -> str:
    """First 12 hex digits of SHA-256 over canonical JSON (keys sorted, no spaces, ASCII)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# Schedules whose learning rate at an epoch does not depend on how many epochs there will be.
BUDGET_FREE_SCHEDULES = ("constant", "step", "restarts", "plateau")


def _lineage_id(config: TrialConfig, content: dict[str, Any]) -> str | None:
    if config.schedule.kind not in BUDGET_FREE_SCHEDULES:
        return None
    return digest({key: value for key, value in content.items() if key != "epochs"})


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """Rows of the table `plan`; suggestions of tuned cells have no trial id until asked."""
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
            for seed, fold in plan.replicates
        ]
    for position, row in enumerate(rows):
        row["plan_id"] = plan.plan_id
        row["sweep"] = plan.spec.sweep
        row["position"] = position
        values = cells[row["cell_id"]].values
        row["cell"] = json.dumps({key: _plain(value) for key, value in values.items()})
    return rows


def config_json(config: TrialConfig) -> str:
    """The resolved config as stored: JSON of every key that is not null."""
    return json.dumps(_without_nulls(config.model_dump(mode="json")))


def _combinations(spec: SweepSpec) -> Iterator[dict[str, Any]]:
    keys = list(spec.compare)
    for values in itertools.product(*spec.compare.values()):
        combination = dict(zip(keys, values, strict=True))
        if not any(holds(excluded, combination) for excluded in spec.exclude):
            yield combination


def _corners(spec: SweepSpec, values: Values) -> Iterator[dict[str, Any]]:
    """Tuned values to check a cell with: each axis at its first value, then at its other ends."""
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
    """Tuned axes that can exist in a cell: their conditions on compared and fixed keys hold."""
    if spec.tune is None:
        return {}
    known = {**spec.fixed, **values}
    return {
        key: axis
        for key, axis in spec.tune.axes.items()
        if holds({k: v for k, v in (axis.when or {}).items() if k not in spec.tune.axes}, known)
    }


def _words(values: Values) -> str:
    return " ".join(f"{key}={_plain(value)}" for key, value in values.items())


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
