"""A sweep file read and checked, with all its problems at once; `--set` options."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from analysis.results.regular_file import read_small_text
from cnncore.spelling import closest_hint
from grid.errors import SweepError
from grid.sweep.checks import Problems, cross_problems, value_problems
from grid.sweep.config_keys import UNION_TAGS, check_value, config_keys, describe_error, unknown_key
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
    source = Source(name, text, lines)
    if not isinstance(data, dict):
        keys = ", ".join(SweepSpec.model_fields)
        raise SweepError([f"{name}: a sweep file holds keys and values; its keys: {keys}"])
    values = [*value_problems(data, SweepSpec.model_fields)]
    try:
        spec = SweepSpec.model_validate(data)
    except ValidationError as error:
        problems = _in_file_order(source, (*_pydantic_problems(error), *values))
        raise SweepError(problems) from None
    if problems := _in_file_order(source, (*values, *cross_problems(spec))):
        raise SweepError(problems)
    spec._source = source
    return spec


def parse_changes(changes: Iterable[str], spec: SweepSpec) -> dict[str, Any]:
    """Read `--set key=value` options (values are YAML). Raises `SweepError`."""
    values: dict[str, Any] = {}
    problems = []
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f"--set {change}: write key=value")
            continue
        value, _ = read_yaml(text, f"--set {change}")
        if key == "seeds":
            seeds = value if isinstance(value, list) else [value]
            try:
                values[key] = TypeAdapter(tuple[NonNegativeInt, ...]).validate_python(seeds)
            except ValidationError:
                problems.append(
                    f"--set {change}: seeds are whole numbers from 0, such as [0, 1, 2]"
                )
            continue
        if key in set(SweepSpec.model_fields) - set(config_keys()):
            problems.append(
                f"--set {change}: {key} is a key of the sweep file, not of a config; change it in "
                f"{spec.source.name}"
            )
            continue
        if key in spec.axis_keys():
            role = "compared" if key in spec.compare else "tuned"
            problems.append(
                f"--set {change}: {key} is {role} in {spec.source.name}; change it in the file"
            )
            continue
        values[key], value_errors = check_value(key, value)
        problems += [f"--set {change}: {problem}" for problem in value_errors]
    if problems:
        raise SweepError(problems)
    return values


def _in_file_order(source: Source, problems: Problems) -> list[str]:
    """Return problems as text, each once, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: source.line(problem[0]) or 0)
    return list(dict.fromkeys(f"{source.position(path)}: {text}" for path, text in ordered))


def _pydantic_problems(error: ValidationError) -> Problems:
    """Yield pydantic's errors about a sweep file as problems."""
    for details in error.errors():
        path = tuple(part for part in details["loc"] if part not in UNION_TAGS)
        if details["type"] == "extra_forbidden":
            yield path, unknown_key(str(path[-1]), _section_at(path[:-1]).model_fields)
        else:
            yield path, describe_error(details)


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
