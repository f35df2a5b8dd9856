"""The results folder, the only state: its paths, its tables, finished trials, compaction.

Every file has one writer and is written atomically (`grid/store/atomic.py`), so a reader never
meets half a file and any process may be killed at any moment.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from analysis.results.parquet_file import looks_whole
from analysis.results.regular_file import read_small_text
from grid.errors import ResultsError
from grid.store.atomic import FULL, STALE_S, remove_temporary
from grid.store.claims import Claims
from grid.store.compaction import FEW_FILES, MERGED, age, is_merged, merge, small_files
from grid.store.files import DiskFiles, Files
from grid.store.parquet import Table, encode, is_intact, read_each, read_files, to_rows
from grid.store.records import columns_to_table, schema, to_table

# Tables with a file per trial.
PER_TRIAL = ("trials", "epochs", "metrics", "classes", "predictions", "enhancement")
# Tables of which each run reads every value once, to compare checksums.
VERIFIED = ("trials", "epochs", "metrics", "classes")
# Attempts to read a table whose files are being merged.
READ_ATTEMPTS = 10
# Names of files: ids and numbers.
FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
# The key `sweep` at the start of a line, or in a file that is one line of JSON.
SWEEP_LINE = re.compile(r"""(?:^|[{,])[ \t]*["']?sweep["']?\s*:\s*["']?([\w.-]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Finished:
    """An ended trial, as the table `trials` has it."""

    trial_id: str
    config_id: str
    state: str
    reason: str | None
    val_top1: float | None
    epochs_run: int | None
    # Microseconds since 1970, UTC: only the order matters, and pyarrow needs pandas for times.
    ended_at: int
    wall_time_s: float | None = None
    dataset: str | None = None
    data_fingerprint: str | None = None
    objective: float | None = None


class Store:
    """The tables of one results folder, on a disk if a path is given.

    Making the object touches no results.
    """

    def __init__(self, files: Files | str | Path) -> None:
        self.files = files if isinstance(files, Files) else DiskFiles(files)
        self.claims = Claims(self.files)

    # -- paths -----------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder whose files this process opens."""
        return self.files.folder

    @property
    def origin(self) -> Path | str:
        """The folder or the address, as it was given."""
        return self.files.origin

    @property
    def location(self) -> str:
        """The argument of `open_store` in another process."""
        return self.files.location

    @property
    def display_name(self) -> str:
        """The folder or the address, as shown in messages."""
        return str(self.files.origin)

    @property
    def run(self) -> Path:
        """Folder of drivers and claims; safe to delete if nothing runs."""
        return self.folder / "run"

    def table_path(self, table: str, name: str) -> Path:
        """Return a table's file of a trial, plan or suggestion."""
        return self.folder / table / f"{self.inside(name)}.parquet"

    def checkpoints(self, trial_id: str) -> Path:
        """Return the folder of a trial's checkpoints."""
        return self.folder / "checkpoints" / self.inside(trial_id)

    def last_checkpoint(self, trial_id: str) -> Path:
        """Return the checkpoint from which a trial resumes."""
        return self.checkpoints(trial_id) / "last.pt"

    def log(self, trial_id: str) -> Path:
        """Return the log of a trial, written if it fails."""
        return self.folder / "logs" / f"{self.inside(trial_id)}.log"

    def inside(self, name: str) -> str:
        """Return a name that is to become a path; raise `ResultsError` if it leads elsewhere.

        Ids come from the tables too, and a stranger may have written these.
        """
        if not FILE_NAME.fullmatch(name):
            raise ResultsError(
                f"{self.display_name}: {name!r} is not an id (letters, digits, ._-): the folder "
                "was damaged, or made to reach files outside it"
            )
        return name

    # -- opening and closing ---------------------------------------------------------------

    def sweep_name(self) -> str | None:
        """Return the name of the sweep that the folder holds; None for a new folder."""
        try:
            text = read_small_text(self.folder / "sweep.yaml", errors="replace")
        except OSError:
            return None
        match = SWEEP_LINE.search(text)
        return match.group(1) if match else ""

    def check_usable(self, sweep: str) -> None:
        """Fetch the tables; raise `ResultsError` if the folder is another sweep's or read-only."""
        self.files.fetch_tables()
        names = self.files.names()  # first, because another driver may write the sweep file now
        other = self.sweep_name()
        if other is not None and other != sweep:
            raise ResultsError(
                f"{self.display_name}: holds the sweep {other!r}, not {sweep!r}; "
                "give --results another folder, or rename the sweep"
            )
        if other is None:
            known = {*PER_TRIAL, "paused", "plan", "asked", "checkpoints", "logs", "report", "run"}
            known.add("code")
            unfinished = {name for name in names if re.fullmatch(r"sweep\.yaml\.\w+\.tmp", name)}
            if strange := [name for name in names if name not in known | unfinished]:
                raise ResultsError(
                    f"{self.display_name}: is not a results folder (it holds {strange[0]}); "
                    "give --results another folder"
                )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            remedy = "make room" if error.errno in FULL else "give --results a folder that can"
            raise ResultsError(
                f"{self.folder}: cannot be written ({error.strerror}); {remedy}"
            ) from None

    def write_sweep(self, text: str) -> None:
        """Store the sweep file as it was given last."""
        self.files.write(self.folder / "sweep.yaml", text.encode())

    def read_run(self, name: str) -> dict[str, Any]:
        """Return the content of a state file below `run/`; empty if absent or unreadable."""
        return self.files.read_json(self.run / name)

    def close(self) -> None:
        """Free what the files hold, such as a mirror."""
        self.files.close()

    # -- tables ----------------------------------------------------------------------------

    def write(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table's file from rows. Raises `StoreError` if the disk refuses."""
        content = encode(table, to_table(table, [dict(row) for row in rows]))
        self.files.write(self.table_path(table, name), content)

    def write_columns(self, table: str, name: str, columns: Mapping[str, Any]) -> None:
        """Write a table's file from columns, arrays of equal length."""
        content = encode(table, columns_to_table(table, columns))
        self.files.write(self.table_path(table, name), content)

    def finished(self, trial_id: str | None = None) -> dict[str, Finished]:
        """Return ended trials, all or one: the newest row of each, loose or compacted."""
        names = [field.name for field in fields(Finished)]
        rows = self._read_trials(trial_id, names)
        ended = [Finished(**row) for row in rows if row["trial_id"] and row["ended_at"]]
        return {row.trial_id: row for row in sorted(ended, key=lambda row: row.ended_at)}

    def row(self, trial_id: str) -> dict[str, Any] | None:
        """Return the row of an ended trial, None for others. `ended_at` as in `Finished`."""
        rows = self._read_trials(trial_id)
        return max(rows, key=lambda row: int(row["ended_at"])) if rows else None

    def paused(self, trial_id: str | None = None) -> dict[str, dict[str, Any]]:
        """Return rows of trials that wait with a checkpoint, or did when last heard of, by id."""
        return {row["trial_id"]: row for row in self._read("paused", of=trial_id)}

    def drop_paused(self, trial_id: str) -> None:
        """Remove the row of a trial that no longer waits."""
        self.files.remove(self.table_path("paused", trial_id))

    def newest_plan(self) -> str | None:
        """Return the `plan_id` of the plan that was written last, None before there is one."""
        rows = self._read("plan", ["plan_id", "written_at"])
        return max(rows, key=lambda row: int(row["written_at"]))["plan_id"] if rows else None

    def epochs(self, trial_id: str | None = None) -> list[dict[str, Any]]:
        """Return epochs of all trials or one, in order. `ended_at` as in `Finished`."""
        rows = sorted(self._read("epochs", of=trial_id), key=lambda row: int(row["ended_at"]))
        newest = {(row["trial_id"], row["epoch"]): row for row in rows}
        return [newest[key] for key in sorted(newest)]

    def code_rows(self, table: str, time: str) -> list[dict[str, Any]]:
        """Return what a table says of the code of its trials, and the column `time`."""
        of_trials = ["trial_id", "code", "code_folder"] if table == "trials" else []
        return self._read(table, ["config", time, *of_trials])

    def metrics(self, trial_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the table `metrics` by trial, of all trials or one.

        They come from the newest file of the trial, as a file has all its rows.
        """
        rows: dict[str, list[dict[str, Any]]] = {}
        for table in self._tables("metrics", of=trial_id):
            part: dict[str, list[dict[str, Any]]] = {}
            for row in to_rows(table):
                part.setdefault(row["trial_id"], []).append(row)
            rows |= part
        return rows

    def budgets(self) -> list[int]:
        """Return the different budgets of ended trials, in epochs, largest first."""
        epochs = {row["epochs"] for row in self._read("trials", ["epochs"]) if row["epochs"]}
        return sorted(epochs, reverse=True)

    def asked(self) -> list[dict[str, Any]]:
        """Return every suggestion of every tuned cell, in the order in which it was made."""
        rows = sorted(self._read("asked"), key=lambda row: int(row["asked_at"] or 0))
        newest = {(row["cell_id"], row["suggestion"], row["role"]): row for row in rows}
        asked = [
            row
            for row in newest.values()
            if any(row[key] is not None for key in ("trial_ids", "params"))
        ]
        return sorted(asked, key=lambda row: (row["cell_id"], row["suggestion"]))

    def drop_asked(self, name: str, row: Mapping[str, Any]) -> None:
        """Remove a suggestion; beside merged files a row without `trial_ids` says that it went."""
        if any(map(is_merged, self._files("asked"))):
            key = {column: row[column] for column in ("cell_id", "suggestion", "role")}
            self.write("asked", name, [{**key, "asked_at": now()}])
        else:
            self.files.remove(self.table_path("asked", name))

    def _read_trials(
        self, trial_id: str | None, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return rows of ended trials; of one trial those of its own file, the newest, if any."""
        if trial_id is not None:
            own = str(self.table_path("trials", trial_id))
            with suppress(FileNotFoundError):
                if rows := to_rows(read_files([own], schema("trials"), columns)):
                    return rows
        return self._read("trials", columns, of=trial_id)

    def _read(
        self, table: str, columns: list[str] | None = None, of: str | None = None
    ) -> list[dict[str, Any]]:
        """Return rows of a table, of all trials or of one, with times in microseconds."""
        return [row for part in self._tables(table, columns, of) for row in to_rows(part)]

    def _tables(
        self, table: str, columns: list[str] | None = None, of: str | None = None
    ) -> list[Table]:
        """Return the rows of each file of a table, the merged files first, by their number."""
        for attempt in range(READ_ATTEMPTS):
            files = sorted(self._files(table), key=age)
            if of is not None:
                own = str(self.table_path(table, of))
                files = [file for file in files if file == own or is_merged(file)]
            if attempt == READ_ATTEMPTS - 1:
                files = [file for file in files if os.path.exists(file)]
            with suppress(FileNotFoundError):  # merged a moment ago
                return list(read_each(files, schema(table), columns, of))
        return []

    def _files(self, table: str) -> list[str]:
        return self.files.list_paths(table, ".parquet")

    # -- repair ----------------------------------------------------------------------------

    def set_damaged_aside(self) -> list[Path]:
        """Rename files that were cut short or changed to `*.damaged`; return their old names."""
        damaged = []
        for table in (*PER_TRIAL, "paused", "plan", "asked"):
            for path in map(Path, self._files(table)):
                whole = looks_whole(path) or not path.exists()  # merged a moment ago
                if not whole or (table in VERIFIED and not is_intact(path)):
                    self.files.set_aside(path)
                    damaged.append(path)
        return damaged

    def remove_temporary(self, older_than_s: float = STALE_S) -> list[Path]:
        """Remove the unfinished files of killed processes; return their paths."""
        return remove_temporary(self.folder, older_than_s)

    # -- compaction ------------------------------------------------------------------------

    def compact(self) -> dict[str, int]:
        """Merge the files of ended trials and of suggestions; return how many of each table.

        Files of trials that run again stay as they are. No other process may merge meanwhile.
        """
        self.files.fetch_folders(MERGED)
        ended = self.finished().keys() - self.claims.all().keys()
        merged = {}
        for table in MERGED:
            parts = [
                path
                for path in small_files(self.files, table)
                if table == "asked" or path.stem in ended
            ]
            if count := merge(self.files, table, parts):
                merged[table] = count
        return merged

    def tidy(self) -> None:
        """Merge files if there are many, unless their transfer would have to be waited for."""
        if self.files.all_on_disk and any(
            len(small_files(self.files, table)) >= FEW_FILES for table in MERGED
        ):
            self.compact()


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def moment(microseconds: int) -> datetime:
    """Return a time that was read from a table as a datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
