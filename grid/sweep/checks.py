"""Checks of a sweep file beyond the form of its sections: values and combinations."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from cnncore.config import Objective
from cnncore.spelling import as_written, closest_hint, shortened
from grid.sweep.axes import Choice, contains, holds
from grid.sweep.config_keys import (
    check_value,
    config_keys,
    is_config_key,
    missing_keys,
    option_of,
    required_keys,
    sets_option,
    unknown_key,
)
from grid.sweep.yaml_source import KeyPath

if TYPE_CHECKING:
    from grid.sweep.spec import SweepSpec, Tune

# Seeds of confirming trials start here.
FIRST_CONFIRM_SEED = 1_000_000
# The plan checks every combination of a sweep, and lists its trials.
MOST_COMBINATIONS = 100_000
MOST_TRIALS = 1_000_000

Problems = Iterable[tuple[KeyPath, str]]


def value_problems(data: Any, sweep_keys: Collection[str]) -> Problems:
    """Yield the problems of config keys and values, even if the file has other problems.

    `sweep_keys` are the keys of the file's top level.
    """
    if not isinstance(data, dict):
        return
    compare = data.get("compare")
    for key, values in _items(compare):
        if not is_config_key(key):
            yield ("compare", key), unknown_key(key, config_keys())
        elif isinstance(values, list):
            yield from _list_problems(("compare", key), values, "so cells would be duplicates")
    for key, value in _items(data.get("fixed")):
        if key in sweep_keys and key not in config_keys():
            yield ("fixed", key), "is a key of the sweep file, not of a config: no indent before it"
            continue
        for problem in check_value(key, value)[1]:
            yield ("fixed", key), problem
    rules = data.get("rules")
    for index, rule in enumerate(rules) if isinstance(rules, list) else ():
        for key, value in _items(rule.get("set") if isinstance(rule, dict) else None):
            for problem in check_value(key, value)[1]:
                yield ("rules", index, "set", key), problem
    tune = data.get("tune")
    for key, _ in _items(tune.get("axes") if isinstance(tune, dict) else None):
        if not is_config_key(key):
            yield ("tune", "axes", key), unknown_key(key, config_keys())


def unset_problems(data: Any) -> Iterable[str]:
    """Yield the required config keys that no section sets, of a file with other problems.

    Of a good file the plan says so, as `--set` may give them.
    """
    tune, rules = data.get("tune"), data.get("rules")
    sections = [data.get("compare"), data.get("fixed")]
    sections.append(tune.get("axes") if isinstance(tune, dict) else None)
    sections += [
        rule.get("set")
        for rule in (rules if isinstance(rules, list) else ())
        if isinstance(rule, dict)
    ]
    # A key that stands anywhere, misspelt or at the wrong indent, is a problem of its own.
    given = {key for section in (data, *sections) for key, _ in _items(section)}
    unset = [
        key
        for key in required_keys()
        if key not in given
        and not any(key == closest_key(other) for other in given - set(config_keys()))
    ]
    if unset and all(section is None or isinstance(section, dict) for section in sections):
        yield missing_keys(unset)


def closest_key(key: str) -> str | None:
    """Return the key of a config that another key is most like, None if it is like none."""
    return next(iter(get_close_matches(key, config_keys(), n=1, cutoff=0.5)), None)


def _items(section: Any) -> list[tuple[str, Any]]:
    """Return the keys and values of a section; keys that are no text are said elsewhere."""
    if not isinstance(section, dict):
        return []
    return [(key, value) for key, value in section.items() if isinstance(key, str)]


def _list_problems(path: KeyPath, values: Sequence[Any], why: str) -> Problems:
    """Yield the problems of a list of values of a config key, which must differ."""
    seen = set()
    for index, value in enumerate(values):
        converted, problems = check_value(str(path[-1]), value)
        for problem in problems:
            yield (*path, index), problem
        seen.add(repr(converted))
    if len(seen) < len(values):
        yield path, f"has a value twice, {why}"


def cross_problems(spec: SweepSpec) -> Problems:
    """Yield problems of combinations: keys in two sections, conditions on unknown keys."""
    if too_many := [*_size_problems(spec)]:
        yield from too_many  # and do not go through them
        return
    tuned = spec.tune.axes if spec.tune else {}
    for key, axis in tuned.items():
        if key in spec.compare:
            yield ("tune", "axes", key), "is also compared; an axis is compared or tuned, not both"
        if key in ("arch", "dataset"):
            yield ("tune", "axes", key), f"{key} can be compared, not tuned"
        if is_config_key(key):
            yield from _axis_problems(key, axis)
        yield from _when_problems(("tune", "axes", key, "when"), axis.when or {}, spec, own=key)
    if spec.tune:
        yield from _sampler_problems(spec.tune)
    if circle := _circle({key: set(axis.when or {}) for key, axis in tuned.items()}):
        yield ("tune", "axes", circle[0], "when"), f"goes in a circle: {' -> '.join(circle)}"
    for key, value in spec.fixed.items():
        for axis_key in spec.axis_keys():
            other = "compared" if axis_key in spec.compare else "tuned"
            if key == axis_key:
                yield ("fixed", key), f"is also {other}; give it in one place"
            elif sets_option(key, [value], axis_key):
                name = axis_key.partition(".")[2]
                yield ("fixed", key, name), f"is also {other}; give it in one place"
            elif axis_key == (option_of(key) or ("",))[0]:
                yield ("fixed", key), f"{axis_key} is {other} as a whole; give it in one place"
    for key in spec.axis_keys():
        if option_of(key) and sets_option(key.partition(".")[0], _whole_options(spec, key), key):
            section: KeyPath = ("compare",) if key in spec.compare else ("tune", "axes")
            yield (*section, key), f"is also set by {key.partition('.')[0]}; give it in one place"
    for index, rule in enumerate(spec.rules):
        yield from _when_problems(("rules", index, "when"), rule.when, spec)
        for key, value in rule.set.items():
            whole = (option_of(key) or ("",))[0]
            if any(
                axis in (key, whole) or sets_option(key, [value], axis) for axis in spec.axis_keys()
            ):
                yield ("rules", index, "set", key), "is compared or tuned, so a rule cannot set it"
    for index, excluded in enumerate(spec.exclude):
        for key in excluded:
            if key not in spec.compare:
                yield (
                    ("exclude", index, key),
                    f"there is no compared axis {as_written(key)}; compared: "
                    f"{_listed(spec.compare)}",
                )
    yield from _objective_problems(spec)
    yield from gap_problems(spec, Objective.of(spec.fixed.get("objective")))
    yield from seed_problems(spec, spec.seeds)
    if spec.stop and not spec.tune:
        yield (
            ("stop",),
            "needs `tune`: without it a cell holds one config, and stopping some of its seeds "
            "would bias its mean",
        )


def _objective_problems(spec: SweepSpec) -> Problems:
    """Yield places where an objective is none of the whole sweep, and metrics given twice."""
    why = "everything that ranks goes by it, so a sweep has one: give it under fixed"
    places: list[KeyPath] = [("compare", "objective")] if "objective" in spec.compare else []
    if spec.tune and "objective" in spec.tune.axes:
        places.append(("tune", "axes", "objective"))
    places += [
        ("rules", index, "set", "objective")
        for index, rule in enumerate(spec.rules)
        if "objective" in rule.set
    ]
    for path in places:
        yield path, why
    for index, name in enumerate(spec.metrics):
        if name in spec.metrics[:index]:
            yield ("metrics", index), f"has {name} twice"


def gap_problems(spec: SweepSpec, objective: Objective) -> Problems:
    """Yield a gap that an objective's values, fractions, can never reach; `--set` may change it."""
    halving = spec.stop.halving if spec.stop else None
    if halving and halving.gap is not None and halving.gap >= 1 and objective.is_fraction:
        yield (
            ("stop", "halving", "gap"),
            f"below 1, because it is in the unit of {objective.name}, a fraction, but got "
            f"{halving.gap:g}",
        )


def _whole_options(spec: SweepSpec, option: str) -> Sequence[Any]:
    """Return the values of the axis of all options that an option belongs to, if there is one."""
    whole = option.partition(".")[0]
    axis = spec.tune.axes.get(whole) if spec.tune else None
    tuned = axis.values if isinstance(axis, Choice) else ()
    return [*spec.compare.get(whole, ()), *tuned]


def seed_problems(spec: SweepSpec, seeds: Sequence[int]) -> Problems:
    """Yield problems of the seeds of a sweep, which `--set` may have changed."""
    if not seeds:
        yield ("seeds",), "is empty; give at least one value"
        return
    if len(set(seeds)) < len(seeds):
        yield ("seeds",), "has a seed twice"
    yield from _size_problems(spec, len(seeds))
    if spec.tune is None:
        return
    if spec.tune.confirm and max(seeds) >= FIRST_CONFIRM_SEED:
        yield ("seeds",), f"seeds of {FIRST_CONFIRM_SEED:,} and up are those of tune.confirm"
    replicates = len(seeds) * (spec.folds or 1)
    if spec.tune.drop and spec.tune.drop.after >= replicates:
        yield (
            ("tune", "drop", "after"),
            f"must be below the number of seeds times folds ({replicates}), "
            f"but got {spec.tune.drop.after}: nothing would be dropped",
        )


def _size_problems(spec: SweepSpec, seeds: int | None = None) -> Problems:
    """Yield how a sweep is larger than a plan can be; `seeds` counts seeds of `--set`."""
    combinations = math.prod(map(len, spec.compare.values()))
    if combinations > MOST_COMBINATIONS:
        yield ("compare",), f"at most {MOST_COMBINATIONS:,} combinations, but got {combinations:,}"
        return
    replicates = (len(spec.seeds) if seeds is None else seeds) * (spec.folds or 1)
    trials = replicates
    if tune := spec.tune:
        corners = sum(len(axis.values) for axis in tune.axes.values() if isinstance(axis, Choice))
        if combinations * corners > MOST_COMBINATIONS:
            yield (
                ("tune", "axes"),
                f"at most {MOST_COMBINATIONS:,} choices over all combinations of `compare`, but "
                f"got {corners:,} for each of {combinations:,}",
            )
        trials *= tune.trials
        if tune.confirm:
            trials += tune.confirm.top * tune.confirm.seeds * (spec.folds or 1)
    if combinations * trials > MOST_TRIALS:
        yield (
            ("tune",) if spec.tune else ("compare",),
            f"at most {MOST_TRIALS:,} trials in a sweep, but got {combinations * trials:,}",
        )


def _axis_problems(key: str, axis: Any) -> Problems:
    """Yield the problems of the values of a tuned axis."""
    path = ("tune", "axes", key)
    if isinstance(axis, Choice):
        yield from _list_problems(path, axis.values, "so it would be chosen twice as often")
        return
    for value in (axis.low, axis.high):
        for problem in check_value(key, value)[1]:
            yield path, problem


def _sampler_problems(tune: Tune) -> Problems:
    """Yield the axes that a sampler cannot search together: it would draw them at random."""
    sampler, axes = tune.sampler, tune.axes
    if sampler not in ("gp", "cmaes"):
        return
    for key, axis in axes.items():
        if set(axis.when or {}) & set(axes):
            yield (
                ("tune", "axes", key, "when"),
                f"{sampler} cannot search an axis that exists only for some values of another "
                "tuned one; use tpe, random or qmc",
            )
        if sampler == "cmaes" and isinstance(axis, Choice):
            yield (
                ("tune", "axes", key),
                "cmaes cannot search a choice, only numbers; use tpe, gp, random or qmc",
            )
    if sampler == "cmaes" and len(axes) < 2:
        yield ("tune", "sampler"), "cmaes needs two axes or more; use tpe, gp, random or qmc"


def _circle(needs: Mapping[str, set[str]]) -> list[str]:
    """Return the axes whose conditions form a circle, sorted; empty if none do."""
    left = dict(needs)
    while free := [key for key, needed in left.items() if not needed & set(left)]:
        for key in free:
            del left[key]
    return sorted(left)


def _when_problems(
    path: KeyPath, when: Mapping[str, Any], spec: SweepSpec, own: str | None = None
) -> Problems:
    """Yield the keys of a condition that do not exist or whose values never occur."""
    known = {*spec.axis_keys(), *spec.fixed} - {own}
    possible = True
    for key, wanted in when.items():
        if key not in known:
            hint = closest_hint(key, sorted(known))
            yield (
                (*path, key),
                f"there is no axis {as_written(key)}{hint}; compared, tuned or fixed: "
                f"{', '.join(sorted(filter(is_config_key, known)))}",
            )
        elif not any(_occurs(key, value, spec) for value in _options(wanted)):
            text, values = _listed(_options(wanted)), _values_of(key, spec)
            yield (*path, key), f"never holds: {key} is never {text}; its values: {values}"
        else:
            continue
        possible = False
    left = [
        combination
        for combination in spec.combinations()
        if not any(holds(excluded, combination) for excluded in spec.exclude)
    ]
    compared = {key: wanted for key, wanted in when.items() if key in spec.compare}
    if possible and left and not any(holds(compared, combination) for combination in left):
        text = " ".join(f"{key}={_listed(_options(wanted))}" for key, wanted in when.items())
        yield path, f"never holds: no combination that is left has {text}"


def _options(wanted: Any) -> list[Any]:
    """Return the values that a condition accepts for a key."""
    return list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]


def _occurs(key: str, value: Any, spec: SweepSpec) -> bool:
    """Check whether an axis or a fixed setting can have a value."""
    if key in spec.compare:
        return value in spec.compare[key]
    if spec.tune and key in spec.tune.axes:
        return contains(spec.tune.axes[key], value)
    return bool(spec.fixed[key] == value)


def _values_of(key: str, spec: SweepSpec) -> str:
    """Return the values of a compared, tuned or fixed key as text."""
    if key in spec.compare:
        return _listed(spec.compare[key])
    if spec.tune and key in spec.tune.axes:
        axis = spec.tune.axes[key]
        return (
            _listed(axis.values) if isinstance(axis, Choice) else f"{axis.low:g} to {axis.high:g}"
        )
    return _listed([spec.fixed[key]])


def _listed(values: Iterable[Any]) -> str:
    """Return values as text, the first ten of many."""
    values = list(values)
    texts = [value if isinstance(value, str) else as_written(value) for value in values[:10]]
    more = f" and {len(values) - 10:,} more" if values[10:] else ""
    return shortened(", ".join(texts)) + more
