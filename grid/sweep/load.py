"""A sweep file read and checked, with all its problems at once; `--set` options."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from analysis.results.regular_file import read_small_text
from cnncore.config import Seed
from cnncore.spelling import as_written, closest_hint, shortened
from grid.errors import SweepError
from grid.sweep.checks import (
    Problems,
    cross_problems,
    seed_problems,
    unset_problems,
    value_problems,
)
from grid.sweep.config_keys import check_value, config_keys, described
from grid.sweep.plain_values import form_problems, plain_value
from grid.sweep.sound_part import sound_part
from grid.sweep.spec import Section, SweepSpec
from grid.sweep.yaml_source import KeyPath, Source, read_yaml


def read_presets() -> dict[str, str]:
    """Return the names and texts of the presets: sweep files that ship with the package."""
    folder = resources.files("grid") / "presets"
    return {
        item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".yaml")
    }


def load_sweep(sweep: str | Path) -> SweepSpec:
    """Read a sweep file, or a preset by its name.

    Raises `SweepError` with every problem of the file, each with its line.
    """
    path = Path(sweep)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        presets = read_presets()
        if str(sweep) in presets:
            return parse_sweep(presets[str(sweep)], name=f"preset {sweep}")
        hint = closest_hint(sweep, presets)
        text = f"no such file, and no preset of that name{hint}; presets: {', '.join(presets)}"
        raise SweepError([f"{sweep}: {text}"])
    try:
        text = read_small_text(path)
    except FileNotFoundError:
        raise SweepError(
            [f"{sweep}: no such file; `cnngrid init {sweep}` writes one to start from"]
        ) from None
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.EINVAL):
            raise SweepError([f"{sweep}: {error.strerror}, so not a sweep file"]) from None
        raise SweepError([f"{sweep}: cannot be read: {error}"]) from None
    except UnicodeDecodeError as error:
        raise SweepError([f"{sweep}: cannot be read: {error}"]) from None
    return parse_sweep(text, name=str(sweep))


def parse_sweep(text: str, name: str = "sweep") -> SweepSpec:
    """Check the text of a sweep file; `name` opens every message. Raises `SweepError`."""
    data, lines = read_yaml(text, name)
    if not isinstance(data, dict):
        keys = ", ".join(SweepSpec.model_fields)
        raise SweepError([f"{name}: a sweep file holds keys and values; its keys: {keys}"])
    return _checked(data, Source(name, text, lines))


def check_sweep(spec: SweepSpec) -> SweepSpec:
    """Check a sweep made in Python as its file would be. Raises `SweepError`."""
    if not isinstance(spec, SweepSpec):
        raise TypeError(
            f"a sweep must be a SweepSpec, such as load_sweep(path) returns, got {as_written(spec)}"
        )
    return _checked(plain_value(spec.model_dump()), spec.source)


def _checked(data: dict[Any, Any], source: Source) -> SweepSpec:
    """Return the sweep of plain values. Raises `SweepError` with all its problems."""
    form = [*form_problems(data)]
    said = {path for path, _ in form}
    values = [*value_problems(data, SweepSpec.model_fields)]
    try:
        spec = SweepSpec.model_validate(data)
        others = [*values, *(() if form else cross_problems(spec))]
    except ValidationError as error:
        others = [*described(error.errors(), known=_known_keys), *values]
    if form or others:
        others = [problem for problem in others if problem[0] not in said]
        unset = [f"{source.name}: {text}" for text in unset_problems(data)]
        faults = [path for path, _ in (*form, *others)]
        texts = [*_in_file_order(source, [*form, *others]), *unset]
        raise SweepError(texts, sound_part(data, faults, source))
    spec._source = source
    return spec


def parse_changes(changes: Iterable[str], spec: SweepSpec) -> dict[str, Any]:
    """Read `--set key=value` options (values are YAML). Raises `SweepError`."""
    values: dict[str, Any] = {}
    problems = []
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        option = f"--set {shortened(change)}"
        if not equals:
            problems.append(f"{option}: write key=value")
            continue
        value, _ = read_yaml(text, option)
        values[key], value_problems = _check_change(key, value, spec)
        problems += [f"{option}: {problem}" for problem in value_problems]
    if problems:
        raise SweepError(problems)
    return values


def check_changes(changes: Mapping[str, Any], spec: SweepSpec) -> dict[str, Any]:
    """Check the changes of a sweep that Python gives, as `--set` is. Raises `SweepError`."""
    values: dict[str, Any] = {}
    problems = []
    for key, value in changes.items():
        values[key], value_problems = _check_change(key, plain_value(value), spec)
        problems += [f"changes[{as_written(key)}]: {problem}" for problem in value_problems]
    if problems:
        raise SweepError(problems)
    return values


def _check_change(key: str, value: Any, spec: SweepSpec) -> tuple[Any, list[str]]:
    """Return the value of a changed key converted to its type, and its problems."""
    if form := [text for _, text in form_problems(value)]:
        return value, form
    if key == "seeds":
        seeds = value if isinstance(value, list) else [value]
        try:
            checked = TypeAdapter(tuple[Seed, ...]).validate_python(seeds)
        except ValidationError:
            limit = "seeds are whole numbers from 0, below 2^63, such as [0, 1, 2]"
            return value, [f"{limit}, but got {as_written(value)}"]
        return checked, [text for _, text in seed_problems(spec, checked)]
    if key in set(SweepSpec.model_fields) - set(config_keys()):
        return value, [
            f"{key} is a key of the sweep file, not of a config; change it in {spec.source.name}"
        ]
    for axis in spec.axis_keys():
        # One of them holds all options, the other is one of these.
        if axis == key or f"{axis}.".startswith(f"{key}.") or f"{key}.".startswith(f"{axis}."):
            role = "compared" if axis in spec.compare else "tuned"
            return value, [f"{axis} is {role} in {spec.source.name}; change it in the file"]
    return check_value(key, value)


def _in_file_order(source: Source, problems: Problems) -> list[str]:
    """Return problems as text, each once, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: source.line(problem[0]) or 0)
    return list(dict.fromkeys(f"{source.position(path)}: {text}" for path, text in ordered))


def _known_keys(path: KeyPath) -> Iterable[str]:
    """Return the keys that the section of the sweep file at `path` may have."""
    return _section_at(path).model_fields


def _section_at(path: KeyPath) -> type[Section]:
    """Return the model of the section of the sweep file that holds `path`."""
    section: type[Section] = SweepSpec
    for key in path:
        if key in section.model_fields:
            section = _section_in(section.model_fields[str(key)].annotation) or section
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section among the types that a field may have, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
