"""Checks of a sweep file beyond the form of its sections: values and combinations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cnncore.spelling import closest_hint
from grid.sweep.axes import Choice, contains, holds
from grid.sweep.config_keys import check_value, config_keys, unknown_key
from grid.sweep.yaml_source import KeyPath

if TYPE_CHECKING:
    from grid.sweep.spec import SweepSpec, Tune

# Seeds of confirming trials start here.
FIRST_CONFIRM_SEED = 1_000_000

Problems = Iterable[tuple[KeyPath, str]]


def value_problems(data: Any, sweep_keys: Collection[str]) -> Problems:
    """Yield the problems of config keys and values, even if the file has other problems.

    `sweep_keys` are the keys of the file's top level.
    """
    if not isinstance(data, dict):
        return
    compare = data.get("compare")
    for key, values in compare.items() if isinstance(compare, dict) else ():
        if key not in config_keys():
            yield ("compare", key), unknown_key(str(key), config_keys())
        elif isinstance(values, list):
            for index, value in enumerate(values):
                for problem in check_value(key, value)[1]:
                    yield ("compare", key, index), problem
            if len({repr(value) for value in values}) < len(values):
                yield ("compare", key), "has a value twice, so cells would be duplicates"
    fixed = data.get("fixed")
    for key, value in fixed.items() if isinstance(fixed, dict) else ():
        if key in sweep_keys and key not in config_keys():
            yield ("fixed", key), "is a key of the sweep file, not of a config: no indent before it"
            continue
        for problem in check_value(key, value)[1]:
            yield ("fixed", key), problem
    rules = data.get("rules")
    for index, rule in enumerate(rules) if isinstance(rules, list) else ():
        settings = rule.get("set") if isinstance(rule, dict) else None
        for key, value in settings.items() if isinstance(settings, dict) else ():
            for problem in check_value(key, value)[1]:
                yield ("rules", index, "set", key), problem
    tune = data.get("tune")
    axes = tune.get("axes") if isinstance(tune, dict) else None
    for key in axes if isinstance(axes, dict) else ():
        if key not in config_keys():
            yield ("tune", "axes", key), unknown_key(str(key), config_keys())


def cross_problems(spec: SweepSpec) -> Problems:
    """Yield problems of combinations: keys in two sections, conditions on unknown keys."""
    tuned = spec.tune.axes if spec.tune else {}
    for key, axis in tuned.items():
        if key in spec.compare:
            yield ("tune", "axes", key), "is also compared; an axis is compared or tuned, not both"
        if key in ("arch", "dataset"):
            yield ("tune", "axes", key), f"{key} can be compared, not tuned"
        ends = axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
        for value in ends if key in config_keys() else ():
            for problem in check_value(key, value)[1]:
                yield ("tune", "axes", key), problem
        yield from _when_problems(("tune", "axes", key, "when"), axis.when or {}, spec, own=key)
    if spec.tune:
        yield from _sampler_problems(spec.tune)
    if circle := _circle({key: set(axis.when or {}) for key, axis in tuned.items()}):
        yield ("tune", "axes", circle[0], "when"), f"goes in a circle: {' -> '.join(circle)}"
    for key in spec.fixed:
        if key in spec.compare or key in tuned:
            other = "compared" if key in spec.compare else "tuned"
            yield ("fixed", key), f"is also {other}; give it in one place"
    for index, rule in enumerate(spec.rules):
        yield from _when_problems(("rules", index, "when"), rule.when, spec)
        for key in rule.set:
            if key in spec.axis_keys():
                yield ("rules", index, "set", key), "is compared or tuned, so a rule cannot set it"
    for index, excluded in enumerate(spec.exclude):
        for key in excluded:
            if key not in spec.compare:
                names = ", ".join(spec.compare)
                yield (
                    ("exclude", index, key),
                    f"there is no compared axis {key!r}; compared: {names}",
                )
    if len(set(spec.seeds)) < len(spec.seeds):
        yield ("seeds",), "has a seed twice"
    if spec.tune and spec.tune.confirm and max(spec.seeds) >= FIRST_CONFIRM_SEED:
        yield ("seeds",), f"seeds of {FIRST_CONFIRM_SEED:,} and up are those of tune.confirm"
    if spec.tune and spec.tune.drop and spec.tune.drop.after >= len(spec.seeds) * (spec.folds or 1):
        yield (
            ("tune", "drop", "after"),
            f"must be below the number of seeds times folds ({len(spec.seeds) * (spec.folds or 1)})"
            f", but got {spec.tune.drop.after}: nothing would be dropped",
        )
    if spec.stop and not spec.tune:
        yield (
            ("stop",),
            "needs `tune`: without it a cell holds one config, and stopping some of its seeds "
            "would bias its mean",
        )


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
            names = ", ".join(sorted(known))
            yield (*path, key), f"there is no axis {key!r}{hint}; compared, tuned or fixed: {names}"
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
    return ", ".join(map(str, values))
