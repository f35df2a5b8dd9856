"""All of the user's code that a sweep names: its fingerprints, and its files to be stored.

One answer serves the ids of trials, the copy in the results folder (`code/<folder>/`), from which
every process imports, and the files that a Ray job takes along.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cnncore.own_modules import ABOUT
from grid.code.modules import Modules, OwnModule
from grid.code.reach import Reach

# An identifier, in any script.
WORD = r"[^\W\d]\w*"
# `package.module:name`, the form in which a sweep file names what is the user's own; after `@` the
# first digits of an earlier version's fingerprint.
NAME = re.compile(rf"({WORD}(?:\.{WORD})*):({WORD})(?:@([0-9a-f]{{4,16}}))?")
# Calls within each other; a level of a syntax tree takes some.
DEEPEST = 100_000
# Keys whose function counts by what it returns (`data_fingerprint`), not by its text.
BY_CONTENT = ("dataset",)


class OwnCodeError(ValueError):
    """Error for code that cannot be what its author means, such as a module that another hides."""


@dataclass(frozen=True)
class Sources:
    """The files that the user's names reach."""

    modules: tuple[OwnModule, ...]
    # Name -> fingerprint, of every name that is the user's own.
    fingerprints: Mapping[str, str]
    # Name -> every module that it reaches, with the digests of the parts that count.
    reached: Mapping[str, list[list[str]]]
    # Outermost names of imported modules that are not the user's.
    packages: tuple[str, ...]

    @cached_property
    def folder(self) -> str:
        """Name of the folder of this copy: 16 hexadecimal digits that follow from its files."""
        return folder_name(self.files())

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and the bytes of every file."""
        for module in self.modules:
            if module.file is not None:
                yield module.path, module.content

    def about(self) -> dict[str, Any]:
        """Return what a process needs to import the files, as JSON data."""
        return {
            "modules": {
                module.name: {
                    "file": module.path if module.file else None,
                    "origin": str(module.file or module.inside[0]),
                    "inside": list(module.inside),
                }
                for module in self.modules
            },
            "names": dict(self.fingerprints),
            "reached": dict(self.reached),
            "packages": list(self.packages),
        }

    def save(self, folder: Path) -> Path:
        """Write the copy into a folder; return the folder."""
        for path, data in [*self.files(), (ABOUT, self.about_bytes())]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder

    def about_bytes(self) -> bytes:
        """Return `about` as the bytes of a file."""
        return json.dumps(self.about(), indent=1, sort_keys=True).encode()


class OwnCode:
    """The user's code of one plan, each name looked at once."""

    def __init__(self) -> None:
        self._modules = Modules()
        self._reaches: dict[str, Reach] = {}

    def fingerprint(self, name: str) -> str | None:
        """Return 16 hex digits that change with the code of a name; None if it is not one's own.

        Raises `OwnCodeError`.
        """
        reach = self._reach(name)
        if reach.hidden:
            raise OwnCodeError(f"{name}: {reach.hidden[0]}")
        with deep_recursion():
            return _short(reach.content()) if reach.modules() else None

    def unwatched(self, name: str) -> list[str]:
        """Return the places of a name's code that read a file that the fingerprint cannot know."""
        return self._reach(name).unwatched()

    def sources(self, names: Collection[str]) -> Sources | None:
        """Return the files of all these names; None if none of them is the user's own."""
        reaches = {name: reach for name in sorted(names) if (reach := self._reach(name)).modules()}
        if not reaches:
            return None
        modules = {m.name: m for reach in reaches.values() for m in reach.modules()}
        with deep_recursion():
            reached = {name: reach.content() for name, reach in reaches.items()}
        return Sources(
            modules=tuple(modules[name] for name in sorted(modules)),
            fingerprints={name: _short(content) for name, content in reached.items()},
            reached=reached,
            packages=tuple(sorted(set().union(*(reach.others for reach in reaches.values())))),
        )

    def _reach(self, name: str) -> Reach:
        if name not in self._reaches:
            module, _, attribute = name.partition(":")
            reach = Reach(self._modules)
            with deep_recursion():
                reach.add(module, attribute)
            self._reaches[name] = reach
        return self._reaches[name]


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Allow trees as deep as Python's parser makes them, such as a sum of a thousand terms."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def folder_name(files: Iterable[tuple[str, bytes]]) -> str:
    """Return the name of the folder of a copy: it follows from the paths and bytes of its files."""
    return _short([[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files)])


def combined(fingerprints: Collection[str]) -> str | None:
    """Return one fingerprint for the code of several names; None without any."""
    distinct = sorted(set(fingerprints))
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    return _short(distinct)


def own_names(config: Mapping[str, Any]) -> list[str]:
    """Return every `package.module:name` in a config but those that count by their content."""
    return names_in({key: value for key, value in config.items() if key not in BY_CONTENT})


def names_in(value: Any) -> list[str]:
    """Return every `package.module:name` in nested dicts and lists, sorted."""
    return sorted({text for text in _texts(value) if NAME.fullmatch(text)})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _short(content: Any) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
