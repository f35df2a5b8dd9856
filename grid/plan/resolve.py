"""Axis values -> `TrialConfig`: `fixed`, `rules`, axes and `--set` are merged only here.

Pure, but for the weights' files that `pretrained` names, which are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from cnncore.catalog import DATASETS, NETWORKS, check_labels
from cnncore.config import (
    OPTIMIZERS,
    AugmentKind,
    Objective,
    TrialConfig,
    check_quirk,
    check_validation,
)
from cnncore.config.images import Background, Resize
from cnncore.config.optimizers import NoOption
from cnncore.data.sources.kinds import is_of_pictures
from cnncore.error_text import error_message
from cnncore.models.pretrained_source import IMAGENET, fingerprint
from grid.code.sources import OwnCodeError, combined, names_in
from grid.code.stored import code_used
from grid.code.sweep_code import SweepCode
from grid.plan.class_weights import class_names, weights_of_classes
from grid.plan.config_problem import ConfigProblem
from grid.plan.ids import content_prefix, digest, plain, without_versions
from grid.plan.network_of import NetworkChecks
from grid.plan.own_training import KeyProblem, OwnTraining, is_own, own_keys
from grid.sweep.axes import Choice, holds
from grid.sweep.config_keys import described, merge_keys, missing_keys, required_keys
from grid.sweep.spec import SweepSpec
from grid.sweep.yaml_source import KeyPath, dotted

Values = Mapping[str, Any]


class DataFacts(Protocol):
    """Facts that the plan needs of a data set; `cnncore.data.DatasetInfo` is one."""

    @property
    def image_size(self) -> int: ...
    @property
    def class_count(self) -> int: ...
    @property
    def classes(self) -> tuple[str, ...] | None: ...
    @property
    def fingerprint(self) -> str | None: ...
    @property
    def skipped(self) -> int: ...
    @property
    def validation(self) -> int: ...
    @property
    def contents(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


# A decoded copy: data set, image side, `resize`, `background`.
Copy = tuple[str, int | None, Resize | None, Background | None]

# Looks up a data set by name; raises an exception with a message for the user.
Inspect = Callable[[str, int | None], DataFacts]


@dataclass
class Resolver:
    """Converter of axis values to configs, with a cache of the data sets' facts."""

    spec: SweepSpec
    settings: Values
    inspect: Inspect
    code: SweepCode = field(default_factory=SweepCode)
    _facts: dict[tuple[str, int | None], DataFacts] = field(default_factory=dict)
    _copies: dict[Copy, DataFacts] = field(default_factory=dict)

    _own: OwnTraining = field(init=False)
    _network: NetworkChecks = field(init=False)

    def __post_init__(self) -> None:
        self._own = OwnTraining(self.spec, self.settings, self.code)
        self._network = NetworkChecks(self.key_path)

    @property
    def objective(self) -> Objective:
        """Return the objective, which no axis and no rule can change."""
        return Objective.of(self.settings.get("objective", self.spec.fixed.get("objective")))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that trials compute beside the usual ones: also the objective's."""
        own = self.objective.metric
        return tuple(dict.fromkeys((*self.spec.metrics, *([own] if own else ()))))

    def resolve(self, values: Values) -> TrialConfig:
        """Return the config of these axis values. Raises `ConfigProblem`."""
        try:
            config = TrialConfig.model_validate(self._merged(values))
        except ValidationError as error:
            first, *more = self._describe(error)
            raise ConfigProblem(*first, *more) from None
        return self._checked(self._with_code(config))

    def _checked(self, config: TrialConfig) -> TrialConfig:
        """Add what code and data tell to a config, and check it. Raises `ConfigProblem`."""
        problems: list[ConfigProblem] = []

        def passes(step: Callable[[TrialConfig], TrialConfig]) -> bool:
            nonlocal config
            try:
                config = step(config)
            except ConfigProblem as problem:
                problems.append(problem)
            return not problems

        code_passes = passes(self._with_own_training)
        known = len(problems)
        passes(self._with_data)
        if len(problems) == known:
            passes(self._with_validation)
            passes(self._with_amounts)
        # A network is checked for its image side, which the data may have to tell.
        if config.image_size is not None:
            known = len(problems)
            passes(self._with_network)
            code_passes = code_passes and len(problems) == known
        if problems:
            first, *more = [reason for problem in problems for reason in problem.reasons]
            can_be_tried = code_passes and _copy(config) in self._copies
            raise ConfigProblem(*first, *more, config=config if can_be_tried else None)
        return config

    def _with_network(self, config: TrialConfig) -> TrialConfig:
        """Check a config's network, today's or an earlier version's; add the file of its weights.

        Raises `ConfigProblem`.
        """
        with code_used(self.code.earlier_folder(config)):
            return self._network.checked(config)

    def _merged(self, values: Values) -> dict[str, Any]:
        """Merge the keys of a config: `fixed`, then rules, then axes, then `--set`."""
        merged: dict[str, Any] = {}
        merge_keys(merged, self.spec.fixed)
        for rule in self.spec.rules:
            if holds(rule.when, {**self.spec.fixed, **values}):
                merge_keys(merged, rule.set)
        merge_keys(merged, values)
        merge_keys(merged, self.settings)
        if self.spec.folds:
            merged["val_fraction"] = None
        arch = str(merged.get("arch", ""))
        if arch in NETWORKS:
            for option in ("activation", "dropout"):
                if option not in NETWORKS[arch].options:
                    merged[option] = None
        return merged

    def _with_code(self, config: TrialConfig) -> TrialConfig:
        """Add the fingerprint of the code of the user's own that a config names."""
        try:
            fingerprint = self.code.fingerprint(config)
        except OwnCodeError as problem:
            named = set(str(problem).partition(": ")[0].split(", "))
            values_of = config.model_dump().items()
            keys = [key for key, value in values_of if named.intersection(names_in(value))]
            raise ConfigProblem(self.key_path(*keys), str(problem)) from None
        if fingerprint is None:
            return config
        return config.model_copy(update={"code_fingerprint": fingerprint})

    def _with_own_training(self, config: TrialConfig) -> TrialConfig:
        """Fill in what the user's own optimizer has, and check the user's schedule."""
        if problem := self._own.problem(config):
            raise ConfigProblem(self.key_path(problem[0]), problem[1])
        if not is_own(config.optimizer):
            return config
        try:
            update = own_keys(config, self._own.signature(config.optimizer))
        except ValidationError as error:
            first, *more = self._describe(error, below=("optimizer_options",))
            raise ConfigProblem(*first, *more) from None
        except KeyProblem as conflict:
            raise ConfigProblem(self.key_path(conflict.key), str(conflict)) from None
        return config.model_copy(update=update)

    def _with_data(self, config: TrialConfig) -> TrialConfig:
        """Add the facts of its data set to a config: image side, labels, fingerprint."""
        if problem := check_labels(config.dataset, config.labels):
            raise ConfigProblem(self.key_path("labels"), problem)
        if config.val_fraction is None and not self.spec.folds:
            raise ConfigProblem(
                self.key_path("val_fraction"), "val_fraction is null only under `folds`"
            )
        facts = self._inspect(config.dataset, config.image_size)
        update: dict[str, Any] = {}
        if config.image_size is None:
            update["image_size"] = facts.image_size
        if config.labels is None and config.dataset in DATASETS:
            update["labels"] = next(iter(DATASETS[config.dataset].labels), None)
        if facts.validation:  # the data set's own validation split counts
            path = self.key_path("val_fraction")
            if config.val_fraction == 0:
                raise ConfigProblem(
                    path,
                    f"val_fraction: 0 wants no validation, but {config.dataset} has validation "
                    "images of its own; remove val_fraction or those images",
                )
            if path and path[0] != "fixed":
                raise ConfigProblem(
                    path,
                    f"val_fraction decides nothing: {config.dataset} has validation images of its "
                    "own; remove the axis or those images",
                )
            update["val_fraction"] = None
        if facts.fingerprint is not None:
            update["data_fingerprint"] = facts.fingerprint
        if not is_of_pictures(config.dataset):  # arrays have their size already
            update |= {"resize": None, "background": None}
        if isinstance(config.class_weights, dict | tuple):
            names = class_names(config, facts.classes, facts.class_count)
            try:
                weights = weights_of_classes(config.class_weights, names)
            except ValueError as unfit:
                path = self.key_path("class_weights", "dataset")
                raise ConfigProblem(path, str(unfit)) from None
            # The size of weights that are all equal cancels.
            update["class_weights"] = None if len(set(weights)) == 1 else weights
        config = config.model_copy(update=update)
        self._copies[_copy(config)] = facts
        if problem := check_quirk(config):
            raise ConfigProblem(self.key_path("quirk"), problem)
        return config

    def _with_validation(self, config: TrialConfig) -> TrialConfig:
        """Refuse what goes by validation images if there are none. Raises `ConfigProblem`."""
        problems = [
            (self.key_path(key, "val_fraction"), text) for key, text in check_validation(config)
        ]
        if config.val_fraction == 0 and self.spec.tune:
            problems.append(
                (
                    ("tune",),
                    "a search ranks configs by validation, but val_fraction: 0 leaves no "
                    "validation images; move the axes to compare",
                )
            )
        if config.val_fraction == 0 and self.spec.keep_top:
            problems.append(
                (
                    ("keep",),
                    "top ranks trials by validation, but val_fraction: 0 leaves no validation "
                    "images; use best, last or none",
                )
            )
        if problems:
            first, *more = problems
            raise ConfigProblem(*first, *more)
        return config

    def _with_amounts(self, config: TrialConfig) -> TrialConfig:
        """Refuse amounts with which the others make no sense. Raises `ConfigProblem`."""
        facts = self._copies[_copy(config)]
        problems: list[tuple[KeyPath, str]] = []
        warmup, limit = config.warmup_epochs or 0, config.limit_train
        if warmup > config.epochs:
            text = f"warmup_epochs: at most the epochs ({config.epochs}), but got {warmup}"
            problems.append((self.key_path("warmup_epochs", "epochs"), text))
        for part in config.augment:
            # They change the images as they are stored, before those get the side of `image_size`.
            if problem := self._unfit_change(part, facts.image_size):
                problems.append((self.key_path("augment"), problem))
        labels = DATASETS[config.dataset].labels if config.dataset in DATASETS else ()
        first_labels = config.labels in (None, *labels[:1])
        if limit is not None and first_labels and limit < facts.class_count:
            text = (
                f"limit_train: {config.dataset} has {facts.class_count} classes, so at least "
                f"{facts.class_count} images, but got {limit}"
            )
            problems.append((self.key_path("limit_train", "dataset"), text))
        if problems:
            first, *more = problems
            raise ConfigProblem(*first, *more)
        return config

    def _unfit_change(self, part: AugmentKind, side: int) -> str | None:
        """Return why a change of images makes no sense at their side, or None."""
        # Beyond the amounts of `crop` and `erase` an image can be padding or noise alone.
        if part.kind == "crop" and (part.padding or 0) > side:
            key, most, got = "crop: padding", side, part.padding
        elif part.kind == "erase" and part.size > 2 * side:
            key, most, got = "erase: size", 2 * side, part.size
        elif part.kind == "gaussian_blur" and part.kernel > side:
            key, most, got = "gaussian_blur: kernel", side, part.kernel
        else:
            return None
        return f"{key}: at most {most} for images of {side} pixels, but got {got}"

    def facts_of(self, config: TrialConfig) -> DataFacts:
        """Return the facts of a resolved config's data set; its images have the stored side."""
        return self._copies[_copy(config)]

    def datasets(self) -> dict[tuple[str, int | None], DataFacts]:
        """Return the data sets and image sides looked up so far: after `make_plan`, the plan's."""
        return self._facts

    def copies(self) -> dict[Copy, DataFacts]:
        """Return the decoded copies that the configs so far need."""
        return self._copies

    def skipped(self) -> dict[str, int]:
        """Count the unreadable image files that were left out, by data set."""
        return {name: facts.skipped for (name, _), facts in self._facts.items() if facts.skipped}

    def remarks(self) -> list[str]:
        """Return what is allowed in the configs so far and most often a mistake."""
        return list(self._network.remarks)

    def about_data(self) -> list[str]:
        """Describe what data sets of pictures hold, and what one may not expect of data."""
        texts = {
            f"{name}: {text}": None
            for (name, _), facts in self._facts.items()
            for text in (facts.contents, *facts.notes)
            if text
        }
        return list(texts)

    def cell_id(self, values: Values, configs: Iterable[TrialConfig]) -> str:
        """Hash the compared axes' names and values, data sets that are paths by their content.

        `configs` are some with which the cell's trials may be; their code counts too.
        """
        content = without_versions({key: plain(value) for key, value in values.items()})
        fingerprints = {config.code_fingerprint for config in configs}
        if code := combined([item for item in fingerprints if item is not None]):
            content["code_fingerprint"] = code
        dataset = str(content.get("dataset", ""))
        if prefix := content_prefix(dataset):
            size = next(side for name, side in self._facts if name == dataset)
            content["dataset"] = f"{prefix}{self._facts[dataset, size].fingerprint}"
        if content.get("pretrained") not in (None, IMAGENET):
            content["pretrained"] = fingerprint(Path(str(content["pretrained"])).expanduser())
        return digest(content)

    def _inspect(self, dataset: str, image_size: int | None) -> DataFacts:
        """Look up a data set's facts, once each."""
        key = (dataset, image_size)
        if key not in self._facts:
            try:
                self._facts[key] = self.inspect(dataset, image_size)
            except Exception as error:  # a user's own data set may raise anything
                raise ConfigProblem(self.key_path("dataset"), error_message(error)) from None
        return self._facts[key]

    def _describe(
        self, error: ValidationError, below: tuple[str, ...] = ()
    ) -> list[tuple[KeyPath, str]]:
        """Return the problems of a config, or of its key `below`, missing keys as one of them."""
        errors = error.errors()
        missing = [str(e["loc"][0]) for e in errors if e["type"] == "missing" and not e["loc"][1:]]
        # Without an optimizer there is no default of its weight decay.
        missing = [key for key in missing if key in required_keys()]
        problems: list[tuple[KeyPath, str]] = [((), missing_keys(missing))] if missing else []
        others = [
            {**e, "loc": (*below, *e["loc"])}
            for e in errors
            if e["type"] != "missing" or (*below, *e["loc"])[1:]
        ]
        for path, text in described(others):
            key, option = str(path[0]) if path else "", dotted(path[:2])
            where = self.key_path(option, key)
            inner = dotted(path[2 if where[-1:] == (option,) and path[1:] else 1 if where else 0 :])
            if any(e["loc"] == path and _is_no_option(e) for e in others):
                text += self._remedy(where, option)
            problems.append((where, f"{inner}: {text}" if inner else text))
        return problems

    def _remedy(self, where: KeyPath, option: str) -> str:
        """Return how to keep an option from the optimizers that do not have it."""
        name = option.partition(".")[2]
        have = [o for o in self._optimizers() if name in OPTIMIZERS[o].options.model_fields]
        if not have:
            return ""
        when = f"{{optimizer: {have[0] if len(have) == 1 else have}}}".replace("'", "")
        return {
            "tune": f"; give the axis `when: {when}`",
            "compare": "; `exclude` these cells, or tune it with `when: " + when + "`",
        }.get(str(where[0]) if where else "", f"; set it by a rule, `when: {when}`")

    def _optimizers(self) -> list[str]:
        """Return the known optimizers that the sweep names."""
        axis = self.spec.tune.axes.get("optimizer") if self.spec.tune else None
        tuned = axis.values if isinstance(axis, Choice) else ()
        named = [*self.spec.compare.get("optimizer", ()), *tuned, self.spec.fixed.get("optimizer")]
        return [name for name in named if isinstance(name, str) and name in OPTIMIZERS]

    def key_path(self, *keys: str) -> KeyPath:
        """Return the path of the first of these keys that the sweep file sets, or `()`."""
        for key in keys:
            if key in self.spec.compare:
                return ("compare", key)
            if self.spec.tune and key in self.spec.tune.axes:
                return ("tune", "axes", key)
            if key in self.spec.fixed:
                return ("fixed", key)
        for key in keys:
            rules = [i for i, rule in enumerate(self.spec.rules) if key in rule.set]
            if len(rules) == 1:
                return ("rules", rules[0], "set", key)
        return ()


def _copy(config: TrialConfig) -> Copy:
    """Return what tells the decoded copy of a config from others."""
    return config.dataset, config.image_size, config.resize, config.background


def _is_no_option(details: Any) -> bool:
    """Check whether one of pydantic's errors is an option that the optimizer does not have."""
    return isinstance(details.get("ctx", {}).get("error"), NoOption)
