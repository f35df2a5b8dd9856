"""The sub-command `code`: the user's own code that a trial ran."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.options import Results
from grid.cli.terminal import analysis_errors
from grid.errors import GridError
from grid.screen import print

if TYPE_CHECKING:
    from grid.store.folder import Store

# The other side of a difference: the files of today.
TODAY = "today"


def code(
    results: Results,
    trial: Annotated[str, typer.Argument(help="A trial's id, or the start of it.")],
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", metavar="OTHER", help="Difference to another trial, or to the files of today."
        ),
    ] = None,
) -> None:
    """Print the code of one's own that a trial ran, or its difference to another's."""
    from grid.store.open import open_store

    store = open_store(results)
    first, versions = _ran(store, results, trial)
    if diff is None:
        for name, fingerprint in versions.items():
            print(f"# {name}  {fingerprint}")
        for path, text in first.items():
            print(f"# ---- {path}\n{text}")
        return
    second = _today(store, results, trial) if diff == TODAY else _ran(store, results, diff)[0]
    lines = list(_difference(first, second, trial, diff))
    print("\n".join(lines) if lines else f"{trial} and {diff}: the same code")


def _difference(
    first: dict[str, str], second: dict[str, str], name: str, other: str
) -> Iterator[str]:
    for path in sorted({*first, *second}):
        yield from difflib.unified_diff(
            first.get(path, "").splitlines(),
            second.get(path, "").splitlines(),
            f"{path}  ({name})",
            f"{path}  ({other})",
            lineterm="",
        )


def _ran(store: Store, results: str, trial: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the files that a trial ran, by path, and its names with their fingerprints."""
    from cnncore.own_modules import ABOUT
    from grid.code.stored import open_code

    row = _row(results, trial)
    if row["code_folder"] is None:
        raise GridError(f"{results}: trial {row['trial_id']} ran no code of one's own")
    folder = open_code(store, row["code_folder"])
    modules = json.loads((folder / ABOUT).read_text("utf-8"))["modules"].values()
    files = {module["file"]: folder / module["file"] for module in modules if module["file"]}
    return _texts(files), json.loads(row["code"] or "{}")


def _today(store: Store, results: str, trial: str) -> dict[str, str]:
    """Return the files of today in the places of those that a trial ran."""
    from cnncore.own_modules import ABOUT
    from grid.code.stored import open_code

    folder = open_code(store, _row(results, trial)["code_folder"])
    modules = json.loads((folder / ABOUT).read_text("utf-8"))["modules"].values()
    return _texts({m["file"]: Path(m["origin"]) for m in modules if m["file"]})


def _texts(files: dict[str, Path]) -> dict[str, str]:
    """Return the texts of files; those that are not there any more are left out."""
    return {
        path: file.read_text("utf-8", errors="replace")
        for path, file in sorted(files.items())
        if file.is_file() and file.suffix == ".py"
    }


def _row(results: str, trial: str) -> dict[str, str]:
    """Return the row of the one ended trial whose id starts so. Raises `GridError`."""
    with analysis_errors():
        from analysis.results.database import connect, rows
        from analysis.results.sql_files import sql

        found = rows(connect(results, all=True), sql("questions/code_of_trial"), start=trial)
    if len(found) != 1:
        problem = "several ended trials start with it" if found else "no such ended trial"
        raise GridError(f"{results}: trial {trial}: {problem}")
    return found[0]
