"""The results folder, the only state: paths, write then rename, finished trials, compaction.

Every file has one writer and is written whole under another suffix, flushed to disk and renamed,
so a reader never meets half a file and any process may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from grid.errors import ResultsError
from grid.store.atomic import FULL, read_json, remove, storing, write_whole
from grid.store.records import schema, to_table

log = logging.getLogger(__name__)

# Tables with a file per trial, merged by `compact`.
PER_TRIAL = ("trials", "epochs", "classes", "predictions", "enhancement")
# A file that is being written grows at least this often, in seconds.
STALE_S = 60.0
# The key `sweep` at the start of a line, or in a file that is one line of JSON.
SWEEP_LINE = re.compile(r"""(?:^|[{,])\s*["']?sweep["']?\s*:\s*["']?([\w.-]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Finished:
    """What the store says of an ended trial."""

    trial_id: str
    config_id: str
    state: str
    reason: str | None
    val_top1: float | None
    epochs_run: int | None
    # Microseconds since 1970, UTC: only the order matters, and pyarrow needs pandas for times.
    ended_at: int
    wall_time_s: float | None = None


class Store:
    """One results folder. Creating the object touches nothing."""

    # Whether files can be created exclusively.
    remote = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # -- where things are ------------------------------------------------------------------

    @property
    def location(self) -> str:
        """What another process opens the same results by (`grid/store/open.py`)."""
        return str(self.folder.resolve())

    @property
    def display_name(self) -> str:
        """The same, for people."""
        return str(self.folder)

    @property
    def run(self) -> Path:
        """What runs now; safe to delete when nothing runs."""
        return self.folder / "run"

    def table_path(self, table: str, name: str) -> Path:
        """File of a table: by trial, plan or suggestion."""
        return self.folder / table / f"{name}.parquet"

    def checkpoints(self, trial_id: str) -> Path:
        """Folder of a trial's checkpoints."""
        return self.folder / "checkpoints" / trial_id

    def last_checkpoint(self, trial_id: str) -> Path:
        """What a trial goes on from."""
        return self.checkpoints(trial_id) / "last.pt"

    def log(self, trial_id: str) -> Path:
        """Log of a trial: written when it fails."""
        return self.folder / "logs" / f"{trial_id}.log"

    # -- opening ---------------------------------------------------------------------------

    def sweep_name(self) -> str | None:
        """Name of the sweep whose folder this is; None for a new folder."""
        try:
            text = (self.folder / "sweep.yaml").read_text(encoding="utf-8")
        except OSError:
            return None
        found = SWEEP_LINE.search(text)
        return found.group(1) if found else ""

    def check_usable(self, sweep: str) -> None:
        """Raise `ResultsError` if the folder is another sweep's or cannot be written."""
        other = self.sweep_name()
        if other is not None and other != sweep:
            raise ResultsError(
                f"{self.display_name}: holds the sweep {other!r}, not {sweep!r}; "
                "give --results another folder, or rename the sweep"
            )
        if other is None:
            known = {*PER_TRIAL, "paused", "plan", "asked", "checkpoints", "logs", "report", "run"}
            if strange := [name for name in self.contents() if name not in known]:
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

    def contents(self) -> list[str]:
        """Names of what lies in the folder."""
        return os.listdir(self.folder) if self.folder.is_dir() else []

    def write_sweep(self, text: str) -> None:
        """Keep the sweep file as given last."""
        self.write_file(self.folder / "sweep.yaml", text.encode())

    # -- files -----------------------------------------------------------------------------
    # Every change goes through these, so that a store elsewhere replaces them alone.

    def write_file(self, path: Path, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Write a file whole or not at all. Raises `StoreError` where the disk refuses."""
        write_whole(path, data, flush=flush)

    def was_written(self, path: Path) -> None:
        """A checkpoint was written by somebody who can write only files."""

    def remove(self, *paths: Path) -> None:
        """Remove files, where they are there."""
        for path in paths:
            remove(path)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder of files, where it is there."""
        if folder.is_symlink():  # not ours: what it points to stays
            self.remove(folder)
        if folder.is_dir():
            self.remove(*folder.glob("*"))
            with storing(folder):
                folder.rmdir()

    def set_aside(self, path: Path) -> None:
        """Let a damaged file be known by another name."""
        with storing(path):
            path.rename(path.with_suffix(".parquet.damaged"))

    def has(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.is_file()

    def fetch(self, path: Path) -> bool:
        """Whether there is such a file; it can be opened then."""
        return path.is_file()

    def fetch_tables(self) -> None:
        """Have at hand what is asked for before anything runs."""

    def settle(self, trial_id: str) -> None:
        """This process has stopped running a trial."""

    def close(self) -> None:
        """This object is no longer needed."""

    # -- tables ----------------------------------------------------------------------------

    def write(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table's file from rows. Raises `StoreError` where the disk refuses."""
        self.write_arrow(table, name, to_table(table, [dict(row) for row in rows]))

    def write_columns(self, table: str, name: str, columns: Mapping[str, Any]) -> None:
        """The same from columns (arrays of equal length)."""
        arrays = [
            pa.array(columns[field.name], type=field.type)
            if field.name in columns
            else pa.nulls(len(next(iter(columns.values()))), field.type)
            for field in schema(table)
        ]
        self.write_arrow(table, name, pa.Table.from_arrays(arrays, schema=schema(table)))

    def write_arrow(self, table: str, name: str, rows: pa.Table) -> None:
        """The same from an Arrow table with the schema of `grid/store/records.py`."""
        sink = pa.BufferOutputStream()
        small = rows.num_rows < FEW_ROWS
        pq.write_table(rows, sink, **(PLAIN if small else ENCODINGS.get(table, COMPRESSED)))
        self.write_file(self.table_path(table, name), sink.getvalue())

    def finished(self, trial_id: str | None = None) -> dict[str, Finished]:
        """Ended trials, all or one: the newest row of each, from loose and compacted files."""
        names = [field.name for field in fields(Finished)]
        rows = self._read("trials", names, of=trial_id)
        ended = [Finished(**row) for row in rows if row["trial_id"] and row["ended_at"]]
        return {row.trial_id: row for row in sorted(ended, key=lambda row: row.ended_at)}

    def row(self, trial_id: str) -> dict[str, Any] | None:
        """What a trial ended with; None before it has. `ended_at` as in `Finished`."""
        rows = self._read("trials", of=trial_id)
        return max(rows, key=lambda row: int(row["ended_at"])) if rows else None

    def paused(self, trial_id: str | None = None) -> dict[str, dict[str, Any]]:
        """Rows of trials that wait with a checkpoint, or did when last heard of, by id."""
        return {row["trial_id"]: row for row in self._read("paused", of=trial_id)}

    def drop_paused(self, trial_id: str) -> None:
        """The trial ended."""
        self.remove(self.table_path("paused", trial_id))

    def newest_plan(self) -> str | None:
        """`plan_id` of the plan that was written last, None before there is one."""
        rows = self._read("plan", ["plan_id", "written_at"])
        return max(rows, key=lambda row: int(row["written_at"]))["plan_id"] if rows else None

    def epochs(self, trial_id: str | None = None) -> list[dict[str, Any]]:
        """Rows of the table `epochs`, a trial's in their order, of one trial where it is given;
        `ended_at` as in `Finished`.
        """
        rows = sorted(self._read("epochs", of=trial_id), key=lambda row: int(row["ended_at"]))
        newest = {(row["trial_id"], row["epoch"]): row for row in rows}
        return [newest[key] for key in sorted(newest)]

    def budgets(self) -> list[int]:
        """The different numbers of epochs that ended trials were given, largest first."""
        found = {row["epochs"] for row in self._read("trials", ["epochs"]) if row["epochs"]}
        return sorted(found, reverse=True)

    def asked(self) -> list[dict[str, Any]]:
        """Every suggestion of every tuned cell, in the order of asking."""
        return sorted(self._read("asked"), key=lambda row: (row["cell_id"], row["suggestion"]))

    def set_damaged_aside(self) -> list[Path]:
        """Rename files that were cut short to `*.damaged`; returns them by their old names."""
        damaged = []
        for table in (*PER_TRIAL, "paused", "plan", "asked"):
            for path in map(Path, self._files(table)):
                if not _whole(path):
                    self.set_aside(path)
                    damaged.append(path)
        return damaged

    def remove_temporary(self, older_than_s: float = STALE_S) -> list[Path]:
        """Remove what killed processes were writing, but not what one may be writing now."""
        removed = []
        for path in self.folder.rglob("*.tmp"):
            with contextlib.suppress(OSError):
                if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()
                    removed.append(path)
        return removed

    def _read(
        self, table: str, columns: list[str] | None = None, of: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a table, all or those of one trial."""
        files = self._files(table)
        if of is not None:
            own = str(self.table_path(table, of))
            files = [file for file in files if file == own or "compacted-" in file]
        found = self._table(table, files, columns)
        for index, field in enumerate(found.schema):
            if pa.types.is_timestamp(field.type):
                found = found.set_column(index, field.name, found[field.name].cast(pa.int64()))
        rows: list[dict[str, Any]] = found.to_pylist()
        return [row for row in rows if of is None or row["trial_id"] == of]

    def _table(self, table: str, files: list[str], columns: list[str] | None = None) -> pa.Table:
        """Files of a table as one; columns that an older file lacks are null.

        Files one by one and no `empty_table`: `pyarrow.dataset` and that import pandas, which takes
        longer than this.
        """
        wanted = schema(table)
        if columns is not None:
            wanted = pa.schema([wanted.field(name) for name in columns])
        parts = [pa.Table.from_batches([], schema=wanted)]
        for file in files:
            try:
                with pq.ParquetFile(file, memory_map=True, pre_buffer=False) as opened:
                    parts.append(_fitted(opened.read(columns=columns, use_threads=False), wanted))
            except FileNotFoundError:  # compacted a moment ago
                continue
            except (pa.ArrowException, OSError) as error:
                log.warning("%s: cannot be read (%s); left out", file, str(error).splitlines()[0])
        return pa.concat_tables(parts)

    def _files(self, table: str) -> list[str]:
        try:
            with os.scandir(self.folder / table) as entries:
                return sorted(entry.path for entry in entries if entry.name.endswith(".parquet"))
        except FileNotFoundError:
            return []

    # -- one trial -------------------------------------------------------------------------

    def claim_path(self, trial_id: str) -> Path:
        """File that says where a trial runs now."""
        return self.run / "trials" / f"{trial_id}.json"

    def read_run(self, name: str) -> dict[str, Any]:
        """What a state file below `run/` says; empty where it is absent or half gone."""
        return read_json(self.run / name)

    def read_claim(self, trial_id: str) -> dict[str, Any]:
        """What the last attempt of a trial left; empty where there was none."""
        return read_json(self.claim_path(trial_id))

    def claims(self) -> dict[str, dict[str, Any]]:
        """What is claimed, by trial."""
        paths = sorted(self.claim_path("x").parent.glob("*.json"))
        return {path.stem: claim for path in paths if (claim := read_json(path))}

    def write_claim(self, trial_id: str, claim: Mapping[str, Any]) -> None:
        """Say where a trial runs and how far it is. Not flushed to disk: it may be lost."""
        self.write_file(self.claim_path(trial_id), json.dumps(claim).encode(), flush=False)

    def silence_claim(self, trial_id: str) -> None:
        """The trial no longer runs, but did not end: what it claimed stays for its next attempt."""
        if claim := self.read_claim(trial_id):
            self.write_claim(trial_id, {**claim, "heartbeat": 0})

    def drop_claim(self, trial_id: str) -> None:
        """The trial ended."""
        self.remove(self.claim_path(trial_id))

    # -- many small files into few ---------------------------------------------------------

    def compact(self) -> dict[str, int]:
        """Merge the files of ended trials; returns how many files each table lost.

        Safe to kill: the merged file is complete before the first of its parts is removed, and
        readers take the newest row of a trial, so a trial found twice counts once.
        """
        ended = set(self.finished())
        removed = {}
        for table in PER_TRIAL:
            parts = [
                path
                for path in map(Path, self._files(table))
                if path.stem in ended and _whole(path)
            ]
            if len(parts) < 2:
                continue
            merged = self._table(table, [str(path) for path in parts])
            self.write_arrow(table, f"compacted-{self._next_number(table)}", merged)
            self.remove(*parts)
            removed[table] = len(parts)
        return removed

    def tidy(self) -> None:
        """Merge while trials run."""
        self.compact()

    def _next_number(self, table: str) -> int:
        numbers = [
            int(found.group(1))
            for path in self._files(table)
            if (found := re.search(r"compacted-(\d+)\.parquet$", path))
        ]
        return max(numbers, default=0) + 1


# A trial's 10,000 predictions take 41 KB this way instead of 127 KB.
# Below this, compressing takes four times as long as writing and makes the file larger.
FEW_ROWS = 100
PLAIN: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
}
COMPRESSED: dict[str, Any] = {"compression": "zstd"}
ENCODINGS: dict[str, dict[str, Any]] = {
    "predictions": {
        "compression": "zstd",
        "use_dictionary": ["trial_id", "split"],
        "column_encoding": {
            "index": "DELTA_BINARY_PACKED",
            "label": "DELTA_BINARY_PACKED",
            "predicted": "DELTA_BINARY_PACKED",
            "confidence": "BYTE_STREAM_SPLIT",
        },
    }
}


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def moment(microseconds: int) -> datetime:
    """A time as it is read from a table."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _fitted(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """A file's rows under today's columns; `ArrowException` where they do not fit."""
    if table.schema.equals(wanted):
        return table
    if not set(table.column_names) & set(wanted.names):
        raise pa.ArrowInvalid("it has none of the columns")
    arrays = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _whole(path: Path) -> bool:
    """Whether a Parquet file has both its ends: the magic bytes and a footer that fits between."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 12 or file.read(4) != b"PAR1":
                return False
            file.seek(-8, os.SEEK_END)
            footer, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    except OSError:
        return False
    return magic == b"PAR1" and footer <= size - 12
