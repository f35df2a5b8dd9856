"""The files that a Ray job takes along: the sweep file, our packages, the user's modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import cluster
from cluster.ray_jobs import STARTER
from grid.code.sources import Sources
from grid.errors import GridError
from grid.launch.command import SWEEP_FILE
from grid.plan.plan import Plan

PACKAGES = ("analysis", "cluster", "cnncore", "grid")
# The folder in which these packages lie: a checkout, or site-packages.
PACKAGES_DIR = Path(cluster.__file__).resolve().parent.parent


def pack(plan: Plan, folder: Path) -> None:
    """Copy into a folder all files of a job; the user's modules are those that the plan read.

    A package's other files, such as data, come along. Raises `GridError` if a module of the user's
    has the name of one of our packages.
    """
    (folder / SWEEP_FILE).write_text(plan.spec.text, "utf-8")
    shutil.copy(PACKAGES_DIR / "cluster" / STARTER, folder)
    for package in PACKAGES:
        _copy(PACKAGES_DIR / package, folder)
    if plan.sources is None:
        return
    _check_names(plan.sources)
    for module in plan.sources.modules:
        if "." not in module.name and module.is_package and module.file:
            _copy(module.file.parent, folder)
    for path, content in plan.sources.files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def user_files(sources: Sources | None) -> list[str]:
    """Return the names of the user's outermost files and packages that travel, sorted."""
    if sources is None:
        return []
    _check_names(sources)
    return sorted({path.partition("/")[0] for path, _ in sources.files()})


def _check_names(sources: Sources) -> None:
    for module in sources.modules:
        if module.name in PACKAGES:
            raise GridError(
                f"{module.file}: has the name of a package of cnngrid's, so it cannot travel with "
                "the sweep; give it another"
            )


def _copy(module: Path, folder: Path) -> None:
    """Copy a package into a folder, without caches and hidden files."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(module, folder / module.name, ignore=ignored)
