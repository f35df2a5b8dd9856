"""The files that a Ray job takes along: the sweep file, our packages, the user's modules."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster
from cluster.ray_jobs import STARTER
from grid.errors import GridError
from grid.launch.command import SWEEP_FILE
from grid.sweep.spec import SweepSpec

PACKAGES = ("analysis", "cluster", "cnncore", "grid")
# The folder in which these packages lie: a checkout, or site-packages.
PACKAGES_DIR = Path(cluster.__file__).resolve().parent.parent
# `package.module:function`, the form in which a sweep file names the user's networks and data sets.
FUNCTION_NAME = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_]\w*")


def pack(spec: SweepSpec, source: Path, folder: Path) -> None:
    """Copy into a folder all files of a job; the user's modules come from `source`.

    Raises `GridError` if a module of the user's has the name of one of our packages.
    """
    (folder / SWEEP_FILE).write_text(spec.text, "utf-8")
    shutil.copy(PACKAGES_DIR / "cluster" / STARTER, folder)
    for package in PACKAGES:
        _copy(PACKAGES_DIR / package, folder)
    for module in user_modules(spec, source):
        _copy(module, folder)


def user_modules(spec: SweepSpec, source: Path) -> list[Path]:
    """Return the modules in a folder that a sweep needs: files and packages, sorted by name.

    Needed are those that its networks and data sets are named after, and all that these import
    from the same folder. Raises `GridError` as `pack` does.
    """
    to_visit = {
        match.group(1) for text in _texts(spec.model_dump()) if (match := FUNCTION_NAME.match(text))
    }
    modules: dict[str, Path] = {}
    while to_visit:
        name = to_visit.pop()
        candidates = (source / name, source / f"{name}.py")
        path = next((path for path in candidates if _is_module(path)), None)
        if path is None or name in modules or path == PACKAGES_DIR / name:
            continue
        if name in PACKAGES:
            raise GridError(
                f"{path}: has the name of a package of cnngrid's, so it cannot travel with the "
                "sweep; give it another"
            )
        modules[name] = path
        to_visit |= set(_imported_names(path))
    return [modules[name] for name in sorted(modules)]


def _is_module(path: Path) -> bool:
    """Check if a path is a Python file or a folder that contains some."""
    return path.is_file() if path.suffix == ".py" else any(path.glob("*.py"))


def _imported_names(module: Path) -> Iterator[str]:
    """Yield the top-level names that the files of a module import."""
    for file in module.rglob("*.py") if module.is_dir() else [module]:
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # reported when the job imports the file
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def _texts(value: Any) -> Iterator[str]:
    """Yield every string inside nested dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _copy(module: Path, folder: Path) -> None:
    """Copy a file or a package into a folder, without caches and hidden files."""
    if module.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(module, folder / module.name, ignore=ignored)
    else:
        shutil.copy(module, folder)
