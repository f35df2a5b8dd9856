"""Modules of the user's own: found as an import would find them, read, and never run.

Own is every module whose file lies in no folder of installed packages, of Python or of cnngrid:
beside the sweep file, where the command was typed, on PYTHONPATH, or an editable installation.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path

from cnncore.error_text import is_own_file
from grid.code.normal_form import body
from grid.errors import GridError


@dataclass(eq=False)
class OwnModule:
    """One module: its file as it was read, and its syntax tree.

    A folder without `__init__.py` has no file. `tree` is None for what is no Python text: compiled
    modules, and files with an error of syntax, which count as a whole.
    """

    name: str
    file: Path | None
    content: bytes
    tree: ast.Module | None
    # Folders in which its submodules lie; empty for a module that is no package.
    inside: tuple[str, ...] = ()
    statements: list[ast.stmt] = field(default_factory=list)

    @property
    def is_package(self) -> bool:
        """Whether it can have submodules."""
        return bool(self.inside)

    @property
    def path(self) -> str:
        """Its file below the folder in which its outermost package lies, with slashes."""
        base = self.name.replace(".", "/")
        if self.file is None:
            return base
        if self.is_package:
            return f"{base}/{self.file.name}"
        return f"{base.rpartition('/')[0]}/{self.file.name}".lstrip("/")

    @property
    def root(self) -> Path:
        """The folder in which its outermost package or file lies."""
        place = self.file or Path(self.inside[0])
        depth = self.name.count(".") + (self.is_package and self.file is not None)
        return place.parents[depth]


class Modules:
    """All modules that were looked for so far, by their full names."""

    def __init__(self) -> None:
        self._found: dict[str, OwnModule | None] = {}

    def find(self, name: str) -> OwnModule | None:
        """Return a module of the user's own; None if it is installed, Python's, or not there."""
        if name not in self._found:
            self._found[name] = self._read(name)
        return self._found[name]

    def within(self, package: OwnModule) -> list[OwnModule]:
        """Return all modules of a package, at any depth."""
        names = {
            ".".join((package.name, *file.relative_to(folder).with_suffix("").parts))
            for folder in map(Path, package.inside)
            for file in folder.rglob("*.py")
            if all(part.isidentifier() for part in file.relative_to(folder).with_suffix("").parts)
        }
        found = [self.find(name.removesuffix(".__init__")) for name in sorted(names)]
        return [module for module in found if module is not None]

    def _read(self, name: str) -> OwnModule | None:
        parent_name, _, _ = name.rpartition(".")
        parent = self.find(parent_name) if parent_name else None
        if parent_name and (parent is None or not parent.is_package):
            return None
        spec = _spec(name, parent.inside if parent else None)
        if spec is None:
            return None
        inside = tuple(spec.submodule_search_locations or ())
        if spec.origin is None or not spec.has_location:
            own = bool(inside) and all(is_own_file(f"{folder}/x.py") for folder in inside)
            return OwnModule(name, None, b"", None, inside) if own else None
        if not is_own_file(spec.origin):
            return None
        file = Path(spec.origin)
        content = _content(spec, file)
        if file.name.endswith(tuple(EXTENSION_SUFFIXES)):
            return OwnModule(name, file, content, None, inside)
        try:
            tree = _parsed(content)
        except (SyntaxError, ValueError, RecursionError):  # the plan tries to import it, too
            return OwnModule(name, file, content, None, inside)
        return OwnModule(name, file, content, tree, inside, body(tree))


@functools.lru_cache(maxsize=1024)
def _parsed(content: bytes) -> ast.Module:
    return ast.parse(content)


def own_file(name: str, folder: Path) -> Path | None:
    """Return the file of a module `name` right in a folder, None if there is none."""
    found = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((file for file in found if file.is_file() and is_own_file(str(file))), None)


def hidden_text(name: str, file: Path) -> str:
    """Return the text on a file that is never imported, because another module has its name."""
    spec = _spec(name, None)
    if name in sys.stdlib_module_names:
        whose = "Python's module of that name"
    elif spec is not None and spec.origin and not is_own_file(spec.origin):
        whose = f"the installed {name} ({spec.origin})"
    else:
        whose = "another module of that name"
    return f"{whose} is imported, not {file}; rename your file"


def _spec(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    """Return what an import would find; run nothing."""
    if folders is not None:
        stored = _of_finders(name, list(folders))
        return stored or PathFinder.find_spec(name, list(folders))
    return _of_finders(name, None)


def _of_finders(name: str, folders: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is None:
            continue
        try:
            spec: ModuleSpec | None = find(name, folders)
        except ImportError:
            continue
        if spec is not None:
            return spec
    return None


def _content(spec: ModuleSpec, file: Path) -> bytes:
    """Return a file as its loader gives it: a stored copy's bytes, if one is used."""
    try:
        read = getattr(spec.loader, "get_data", None)
        if read is not None:
            return bytes(read(str(file)))
        return file.read_bytes()
    except OSError as error:
        raise GridError(f"{file}: cannot be read ({error.strerror})") from None


def forget_listings() -> None:
    """Make the next look for modules see files that are new."""
    importlib.machinery.PathFinder.invalidate_caches()
