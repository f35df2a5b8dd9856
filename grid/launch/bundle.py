"""What travels with a job to a cluster: the sweep file, our packages, the user's own modules."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grid.errors import GridError
from grid.sweep.spec import SweepSpec

OURS = Path(__file__).resolve().parents[2]
PACKAGES = ("analysis", "cluster", "cnncore", "grid")
SWEEP = "sweep.yaml"
# `package.module:function`, as the sweep file names networks and data sets.
NAMED = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_]\w*")


def pack(spec: SweepSpec, here: Path, folder: Path) -> None:
    """Fill a folder. Raises `GridError` where a module of the user's has one of our names."""
    (folder / SWEEP).write_text(spec.source.text or spec.model_dump_json(indent=2), "utf-8")
    shutil.copy(OURS / "cluster" / "ray_job.sh", folder)
    for package in PACKAGES:
        _copy(OURS / package, folder)
    for module in own_modules(spec, here):
        _copy(module, folder)


def own_modules(spec: SweepSpec, here: Path) -> list[Path]:
    """Files and packages beside the sweep that its networks and data sets come from, with what
    they import from there. Raises `GridError` as `pack`.
    """
    names = {found.group(1) for text in _texts(spec.model_dump()) if (found := NAMED.match(text))}
    modules: dict[str, Path] = {}
    while names:
        name = names.pop()
        path = next((p for p in (here / name, here / f"{name}.py") if _is_module(p)), None)
        if path is None or name in modules or path == OURS / name:
            continue
        if name in PACKAGES:
            raise GridError(
                f"{path}: has the name of a package of cnngrid's, so it cannot travel with the "
                "sweep; give it another"
            )
        modules[name] = path
        names |= set(_imported(path))
    return [modules[name] for name in sorted(modules)]


def _is_module(path: Path) -> bool:
    return path.is_file() if path.suffix == ".py" else any(path.glob("*.py"))


def _imported(path: Path) -> Iterator[str]:
    """First parts of what the files of a module import."""
    for file in path.rglob("*.py") if path.is_dir() else [path]:
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # its own import will say so
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a sweep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _copy(path: Path, folder: Path) -> None:
    if path.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(path, folder / path.name, ignore=ignored)
    else:
        shutil.copy(path, folder)
