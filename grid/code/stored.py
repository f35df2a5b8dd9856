"""Code in the results folder: copies, what its trials ran, edits that were vouched for."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cnncore.own_modules import ABOUT, in_use, use
from grid.code.read_files import file_of
from grid.code.sources import NAME, Sources, folder_name, own_names
from grid.errors import StoreError
from grid.store.folder import Store

FOLDER = "code"
ALIASES = "aliases.json"


def base_name(name: str) -> str:
    """Return a name without the version behind its `@`."""
    return name.partition("@")[0]


@dataclass(frozen=True)
class RanCode:
    """The code of one trial or suggestion of a results folder.

    `names` are those of its config; `fingerprint` is the config's, None of earlier versions of
    cnngrid. `versions` and `folder` tell what an ended trial ran.
    """

    names: tuple[str, ...]
    fingerprint: str | None
    at: int
    trial_id: str | None = None
    versions: Mapping[str, str] | None = None
    folder: str | None = None


class StoredCode:
    """The code that a results folder knows; read once, when it is first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def aliases(self) -> dict[str, str | None]:
        """Fingerprint -> the one that ids keep, because the edit between them changed no result.

        None is the code of trials that tell no fingerprint.
        """
        return self._store.files.read_json(self._store.folder / FOLDER / ALIASES)

    @cached_property
    def trials(self) -> list[RanCode]:
        """The code of every ended trial."""
        return self._read("trials", "ended_at")

    @cached_property
    def all(self) -> list[RanCode]:
        """The code of every ended or planned trial and of every suggestion."""
        return [
            *self.trials,
            *self._read("asked", "asked_at"),
            *self._read("plan", "written_at"),
        ]

    def versions(self, name: str) -> dict[str, str]:
        """Return the folder of every stored version of a name, by fingerprint."""
        found: dict[str, str] = {}
        for path in sorted((self._store.folder / FOLDER).glob(f"*/{ABOUT}")):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                names = json.loads(path.read_text("utf-8"))["names"]
                if fingerprint := names.get(name):
                    found[fingerprint] = path.parent.name
        for ran in self.trials:  # of an object store, whose copies need not be here
            if ran.versions and ran.folder and name in ran.versions:
                found.setdefault(ran.versions[name], ran.folder)
        return found

    def open(self, folder: str) -> Path:
        """Return a stored copy's folder on this machine. Raises `StoreError`."""
        return open_code(self._store, folder)

    def about(self, folder: str) -> dict[str, Any]:
        """Return what a stored copy says of itself. Raises `StoreError`."""
        content: dict[str, Any] = json.loads((self.open(folder) / ABOUT).read_text("utf-8"))
        return content

    def newest(self, names: tuple[str, ...], but: str) -> RanCode | None:
        """Return the newest code of these names with another fingerprint, None if there is none.

        That of an ended trial counts before that of one which was only planned.
        """
        for known in (self.trials, self.all):
            found = [ran for ran in known if ran.names == names and ran.fingerprint != but]
            if found:
                return max(found, key=lambda ran: ran.at)
        return None

    def has_run(self, names: tuple[str, ...], fingerprint: str) -> bool:
        """Return whether an ended trial of the folder has this code."""
        return any(ran.names == names and ran.fingerprint == fingerprint for ran in self.trials)

    def _read(self, table: str, time: str) -> list[RanCode]:
        found = []
        for row in self._store.code_rows(table, time):
            try:
                config = json.loads(row["config"] or "null")
                versions = json.loads(row.get("code") or "null")
            except ValueError:
                continue
            if not isinstance(config, dict):
                continue
            names = tuple(base_name(name) for name in own_names(config))
            if names:
                found.append(
                    RanCode(
                        names,
                        config.get("code_fingerprint"),
                        int(row[time] or 0),
                        row["trial_id"] if table == "trials" else None,
                        versions,
                        row.get("code_folder"),
                    )
                )
        return found


def changed_files(stored: StoredCode, ran: RanCode, today: Sources | None) -> str:
    """Return the files that differ, in what counts, between what a trial ran and today, as text."""
    about: dict[str, Any] = {}
    with contextlib.suppress(StoreError):
        about = stored.about(ran.folder) if ran.folder else {}
    changed: set[str] = set()
    for name in ran.names if today else ():
        before = {module: parts for module, *parts in about.get("reached", {}).get(name, ())}
        now = {module: parts for module, *parts in today.reached.get(name, ())} if today else {}
        for module in {*before, *now} if before else ():
            parts = {*before.get(module, ())} ^ {*now.get(module, ())}
            changed |= {file_of(part) or module for part in parts}
            if not parts and before.get(module) != now.get(module):  # in another order
                changed.add(module)
    if not changed or today is None:
        return "its code was"
    paths = {module.name: module.path for module in today.modules}
    earlier = {module for reached in about.get("reached", {}).values() for module, *_ in reached}
    files = [
        paths.get(name, f"{name} (gone)" if name in earlier else name) for name in sorted(changed)
    ]
    more = f" and {len(files) - 2} more files" if files[2:] else ""
    return f"{', '.join(files[:2])}{more} {'were' if files[1:] else 'was'}"


def store_code(store: Store, sources: Sources) -> Path:
    """Store a copy of the files in the results folder, once; return its folder on this machine."""
    folder = store.folder / FOLDER / sources.folder
    about = folder / ABOUT
    known = store.files.read_json(about) == sources.about()
    try:
        if known:
            return open_code(store, sources.folder)
    except StoreError:  # damaged: written again
        pass
    for path, data in [*sources.files(), (ABOUT, sources.about_bytes())]:
        store.files.remove(folder / path)
        store.files.write(folder / path, data)
    return open_code(store, sources.folder)


def store_aliases(store: Store, vouched: Mapping[str, str | None]) -> None:
    """Add fingerprints whose code gives the same results as an earlier one."""
    path = store.folder / FOLDER / ALIASES
    known = store.files.read_json(path)
    if any(known.get(new, "") != old for new, old in vouched.items()):
        store.files.write(path, json.dumps({**known, **vouched}, indent=1).encode())


def open_code(store: Store, folder: str) -> Path:
    """Return a stored copy's folder on this machine.

    Raises `StoreError` if it is not there, or if its files are not those that were stored.
    """
    path = store.folder / FOLDER / store.inside(folder)
    modules = store.files.read_json(path / ABOUT).get("modules", {}).values()
    names = [module["file"] for module in modules if module["file"]]
    if not names or not all([store.files.fetch(path / name) for name in (ABOUT, *names)]):
        problem = "is gone"
    elif folder_name((name, (path / name).read_bytes()) for name in names) != folder:
        problem = "was changed"
    else:
        return path
    raise StoreError(
        f"{store.display_name}: the code {FOLDER}/{folder} that its trials run {problem}; put it "
        "back, or run the same command again"
    )


@contextlib.contextmanager
def stored_code_used(store: Store, sources: Sources | None) -> Iterator[None]:
    """Import the user's modules from a copy in the results folder meanwhile."""
    with code_used(store_code(store, sources).absolute() if sources is not None else None):
        yield


@contextlib.contextmanager
def code_used(folder: Path | None) -> Iterator[None]:
    """Import the user's modules from a stored copy meanwhile; without one, as before."""
    before = in_use()
    if folder is not None:
        use(folder)
    try:
        yield
    finally:
        use(before)


@contextlib.contextmanager
def staged_code_used(sources: Sources | None) -> Iterator[None]:
    """Import the user's modules from a temporary copy meanwhile: a plan stores nothing."""
    if sources is None or in_use():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cnngrid-code-") as folder:
        use(sources.save(Path(folder)))
        try:
            yield
        finally:
            use(None)


def imported_packages(folder: Path) -> tuple[str, ...]:
    """Return the installed packages that a stored copy imports."""
    return tuple(json.loads((folder / ABOUT).read_text("utf-8"))["packages"])


def version_digits(name: str) -> str | None:
    """Return the digits behind the `@` of a name, None without any."""
    match = NAME.fullmatch(name)
    return match.group(3) if match else None
