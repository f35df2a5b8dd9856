"""Modules of the user's own, imported from a stored copy: edits change nothing that runs.

A stored copy is a folder with the files and `about.json`, which says for each module its file there
and the place where it came from (`grid/code/sources.py` writes it). A module keeps its place as
`__file__`, because data may lie beside it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from cnncore.error_text import is_own_file

ABOUT = "about.json"


class UnseenModule(ImportError):
    """Error for a module of the user's that the plan did not see."""


@dataclass(frozen=True)
class StoredModule:
    """One module of a stored copy: its file there, and its original file or folder."""

    file: Path | None
    origin: str
    # Folders of its submodules; empty for a module that is no package.
    inside: tuple[str, ...] = ()


class StoredLoader(importlib.abc.SourceLoader):
    """Loader of one module's text from a stored copy; it writes no bytecode."""

    def __init__(self, module: StoredModule) -> None:
        assert module.file is not None
        self._file, self._origin = module.file, module.origin

    def get_filename(self, fullname: str) -> str:
        """Return the original file."""
        return self._origin

    def get_data(self, path: str | bytes) -> bytes:
        """Return the stored text for the module's own file, the bytes of any other file."""
        if path == self._origin:
            return self._file.read_bytes()
        return Path(path if isinstance(path, str) else path.decode()).read_bytes()

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; tracebacks and `inspect` show the stored text, whatever the file has."""
        with contextlib.suppress(OSError, SyntaxError, UnicodeDecodeError):
            text = importlib.util.decode_source(self.get_data(self._origin))
            linecache.cache[self._origin] = (
                len(text),
                None,
                text.splitlines(keepends=True),
                self._origin,
            )
        super().exec_module(module)


class StoredFinder(importlib.abc.MetaPathFinder):
    """Finder of a stored copy's modules, asked before all others.

    It refuses other modules of the user's own, which nobody stored.
    """

    def __init__(self, folder: Path) -> None:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
        self.folder = folder
        self.modules = {
            name: StoredModule(
                folder / entry["file"] if entry["file"] else None,
                entry["origin"],
                tuple(entry["inside"]),
            )
            for name, entry in about["modules"].items()
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a stored module, None for modules that are not the user's."""
        module = self.modules.get(fullname)
        if module is None:
            self._refuse_unseen(fullname, path)
            return None
        inside = list(module.inside) or None
        if module.file is None:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = inside
            return spec
        if module.file.name.endswith(tuple(EXTENSION_SUFFIXES)):
            return importlib.util.spec_from_file_location(fullname, module.file)
        return importlib.util.spec_from_file_location(
            fullname,
            module.origin,
            loader=StoredLoader(module),
            submodule_search_locations=inside,
        )

    def _refuse_unseen(self, name: str, path: Sequence[str] | None) -> None:
        if name in sys.stdlib_module_names or (path and not is_own_file(f"{path[0]}/x.py")):
            return
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or not spec.has_location or not spec.origin:
            return
        if is_own_file(spec.origin):
            raise UnseenModule(
                f"{name} ({spec.origin}) is imported, but the plan did not find it, so it is not "
                f"stored with the results: write `import {name}` into the file that needs it, and "
                "have its folder on PYTHONPATH",
                name=name,
            )


# The finder in use, and modules of this process that it displaced.
_finder: StoredFinder | None = None
_displaced: dict[str, ModuleType] = {}


def in_use() -> Path | None:
    """Return the stored copy from which this process imports, None if from the originals."""
    return _finder.folder if _finder else None


def use(folder: str | Path | None, *, anew: bool = False) -> None:
    """Import the user's modules from a stored copy from now on; with None, from the originals.

    Modules that were imported from another copy are dropped, so the next import runs them anew;
    with `anew` those of the same copy too: nothing that they keep goes from trial to trial.
    """
    global _finder
    if (Path(folder) if folder else None) == in_use():
        if anew and _finder is not None:
            for name in _finder.modules:
                sys.modules.pop(name, None)
        return
    new = StoredFinder(Path(folder)) if folder else None
    if _finder is not None:
        sys.meta_path.remove(_finder)
        for name in [*_finder.modules, *_displaced]:
            sys.modules.pop(name, None)
        sys.modules.update(_displaced)
        _displaced.clear()
    _finder = new
    if new is not None:
        for name in new.modules:
            if name in sys.modules:
                _displaced[name] = sys.modules.pop(name)
        sys.meta_path.insert(0, new)
