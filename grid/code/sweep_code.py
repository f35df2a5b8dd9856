"""The code of a sweep's configs: their fingerprints, today's or an earlier version's."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cnncore.config import TrialConfig
from grid.code.asked import ask
from grid.code.sources import OwnCode, OwnCodeError, Sources, combined, names_in, own_names
from grid.code.stored import StoredCode, base_name, version_digits


class SweepCode:
    """The user's code as one plan sees it, and as the results folder remembers it.

    With `same_code` the newest earlier code of the same names gives the same results as today's:
    ids keep its fingerprint. Answers of the code are kept in the first of `roots` that can be
    written.
    """

    def __init__(
        self,
        open_stored: Callable[[], StoredCode | None] | None = None,
        same_code: bool = False,
        roots: Sequence[Path] = (),
    ) -> None:
        self._own = OwnCode()
        self._open_stored = open_stored
        self._same_code = same_code
        self._roots = roots
        # Fingerprint of today's code -> the earlier one that ids keep.
        self.vouched: dict[str, str | None] = {}
        # Names of configs whose code of today has results already, so that it stays a version.
        self.too_late: set[tuple[str, ...]] = set()
        # Names of a config -> fingerprints in the ids of the plan, and those of today's code.
        self.planned: dict[tuple[str, ...], set[str | None]] = {}
        self.present: dict[tuple[str, ...], str] = {}

    @cached_property
    def stored(self) -> StoredCode | None:
        """The code that the results folder knows, None before there is a folder."""
        return self._open_stored() if self._open_stored else None

    def fingerprint(self, config: TrialConfig) -> str | None:
        """Return the fingerprint that a config's ids have; None without code of the user's own.

        Raises `OwnCodeError`.
        """
        versions = self.versions(config)
        if not versions:
            return None
        names = tuple(base_name(name) for name in own_names(config.model_dump()))
        today = combined([*versions.values()])
        assert today is not None
        kept = today if self._folder(versions) else self._kept(names, today)
        self.planned.setdefault(names, set()).add(kept)
        if not self._folder(versions):
            self.present[names] = today
        return kept

    def versions(self, config: TrialConfig) -> dict[str, str]:
        """Return the fingerprint of every name of the user's own in a config."""
        return self._versions(own_names(config.model_dump()))

    def _versions(self, names: Iterable[str]) -> dict[str, str]:
        found = {}
        for name in names:
            if digits := version_digits(name):
                found[name] = self._earlier(name, digits)[0]
            elif fingerprint := self._own.fingerprint(name):
                found[name] = fingerprint
        if len({self._folder([name]) for name in found}) > 1:
            raise OwnCodeError(
                f"{', '.join(found)}: one trial runs one version of the code; name all of them "
                "with an @ and of one version, or none"
            )
        return found

    def earlier_folder(self, config: TrialConfig) -> Path | None:
        """Return the stored copy of the earlier version that a config names; None for today's."""
        return self._stored_copy(own_names(config.model_dump()))

    def answers(self, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answer to each question about code of the user's own (`ask`).

        A request names the code that it is about, today's or an earlier version's.
        """
        answers: list[dict[str, Any]] = []
        open_: dict[int, dict[str, Any]] = {}
        for request in requests:
            try:
                # A check of a whole config has it in itself; its data set has no version.
                named = {**request, **request.get("config", {}), "config": None}
                versions = self._versions(own_names(named))
            except OwnCodeError as error:
                answers.append({"problem": str(error), "notes": []})
                continue
            stored = self._stored_copy(versions)
            code = {"code": versions, "code_folder": str(stored) if stored else None}
            open_[len(answers)] = {**request, **code}
            answers.append({})
        if open_:
            for index, answer in zip(open_, ask([*open_.values()], self._roots), strict=True):
                answers[index] = answer
        return answers

    def unwatched(self) -> list[str]:
        """Return the places of the planned configs' code that read files that nobody watches."""
        names = sorted({name for names in self.present for name in names})
        return sorted({place for name in names for place in self._own.unwatched(name)})

    def sources(self, *named: Any) -> Sources | None:
        """Return the files of everything of the user's own that is named, at any depth."""
        return self._own.sources([name for name in names_in(list(named)) if "@" not in name])

    def row(
        self, config: TrialConfig, sources: Sources | None, metrics: Iterable[str] = ()
    ) -> tuple[str | None, str | None]:
        """Return the columns `code_folder` and `code` of a config's trials.

        `metrics` of the user's own are in no config, but their code gives numbers too.
        """
        versions = self.versions(config)
        today = sources.fingerprints if sources else {}
        folder = self._folder(versions)
        if folder is None and sources and (versions or {config.dataset, *metrics} & set(today)):
            folder = sources.folder
        plain = {base_name(name): fingerprint for name, fingerprint in versions.items()}
        plain = {**{name: today[name] for name in metrics if name in today}, **plain}
        return folder, json.dumps(plain, sort_keys=True) if plain else None

    def _stored_copy(self, names: Collection[str]) -> Path | None:
        folder = self._folder(names)
        return self.stored.open(folder).absolute() if folder and self.stored else None

    def _folder(self, versions: Collection[str]) -> str | None:
        """Return the folder of the earlier version that these names are of, None for today's."""
        for name in versions:
            if digits := version_digits(name):
                return self._earlier(name, digits)[1]
        return None

    def _earlier(self, name: str, digits: str) -> tuple[str, str]:
        """Return the fingerprint and the folder of an earlier version."""
        known: Mapping[str, str] = self.stored.versions(base_name(name)) if self.stored else {}
        matches = {f: folder for f, folder in known.items() if f.startswith(digits)}
        if len(matches) == 1:
            return next(iter(matches.items()))
        problem = "several versions start with it" if matches else "no such version"
        have = ", ".join(f"{base_name(name)}@{f[:4]}" for f in known) or "none"
        raise OwnCodeError(f"{name}: {problem}; the results folder has {have}")

    def _kept(self, names: tuple[str, ...], today: str) -> str | None:
        """Return the fingerprint for ids: today's, or the one that was vouched to be as good."""
        if self.stored is None:
            return today
        if today in self.stored.aliases:
            return self.stored.aliases[today]
        newest = self.stored.newest(names, but=today) if self._same_code else None
        if newest is None:
            return today
        if self.stored.has_run(names, today):  # its results stand beside those of the earlier code
            self.too_late.add(names)
            return today
        self.vouched[today] = newest.fingerprint
        return newest.fingerprint
