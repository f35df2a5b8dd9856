"""A sweep file's text: read with line numbers, checked, all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
)

from grid.errors import SweepError
from grid.sweep.checks import Problems, cross_problems, value_problems
from grid.sweep.config_keys import UNION_TAGS, check_value, config_keys, describe_error, unknown_key
from grid.sweep.spec import (
    Asha,
    Confirm,
    Drop,
    FirstEpochs,
    Halving,
    Hyperband,
    Median,
    Resources,
    Rule,
    Stop,
    SweepSpec,
    Top,
    Tune,
)
from grid.sweep.yaml_source import KeyPath, Source, read_yaml

# A sweep file is written by hand; anything larger is something else.
LARGEST_FILE_BYTES = 1_000_000


def read_presets() -> dict[str, str]:
    """Names and texts of the sweep files that ship."""
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
        close = difflib.get_close_matches(str(sweep), presets, n=1)
        hint = f" (closest: {close[0]})" if close else ""
        raise SweepError(
            [
                f"{sweep}: no such file, and no preset of that name{hint}; "
                f"presets: {', '.join(presets)}"
            ]
        )
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise SweepError([f"{sweep}: larger than 1 MB, so not a sweep file"])
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SweepError(
            [f"{sweep}: no such file; `cnngrid init {sweep}` writes one to start from"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
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
        found = (*_pydantic_problems(error, SweepSpec), *values)
        raise SweepError(_in_file_order(source, found)) from None
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
            where = "compared" if key in spec.compare else "tuned"
            problems.append(
                f"--set {change}: {key} is {where} in {spec.source.name}; change it in the file"
            )
            continue
        values[key], wrong = check_value(key, value)
        problems += [f"--set {change}: {problem}" for problem in wrong]
    if problems:
        raise SweepError(problems)
    return values


def _in_file_order(source: Source, problems: Problems) -> list[str]:
    """Problems as text, each once."""

    def line(path: KeyPath) -> int:
        return next(
            (source.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in source.lines), 0
        )

    ordered = sorted(problems, key=lambda problem: line(problem[0]))
    return list(dict.fromkeys(f"{source.position(path)}: {text}" for path, text in ordered))


def _pydantic_problems(error: ValidationError, model: type[BaseModel]) -> Problems:
    for details in error.errors():
        path = tuple(part for part in details["loc"] if part not in UNION_TAGS)
        if details["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            yield path, unknown_key(str(path[-1]), known)
        else:
            yield path, describe_error(details)


def _fields_at(model: type[BaseModel], path: KeyPath) -> tuple[str, ...]:
    """The keys of the section at `path` of the sweep file."""
    sections: dict[str, type[BaseModel]] = {
        "tune": Tune, "confirm": Confirm, "drop": Drop,
        "stop": Stop, "asha": Asha, "halving": Halving, "hyperband": Hyperband, "median": Median,
        "first_epochs": FirstEpochs, "rules": Rule, "resources": Resources, "keep": Top,
    }  # fmt: skip
    for part in path:
        model = sections.get(str(part), model)
    return tuple(model.model_fields)
