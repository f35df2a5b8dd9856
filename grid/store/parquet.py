"""Parquet files of the tables: encodings, reading, columns of older files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

log = logging.getLogger(__name__)
Table = pa.Table

# Below this, compression takes four times as long as writing and makes the file larger.
FEW_ROWS = 100
PLAIN: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
}
COMPRESSED: dict[str, Any] = {"compression": "zstd"}
# A trial's 10,000 predictions take 41 KB this way instead of 127 KB.
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


def encode(table: str, rows: pa.Table) -> memoryview:
    """Return the content of a table's file."""
    sink = pa.BufferOutputStream()
    small = rows.num_rows < FEW_ROWS
    encoding = PLAIN if small else ENCODINGS.get(table, COMPRESSED)
    pq.write_table(rows, sink, write_page_checksum=True, **encoding)
    return memoryview(sink.getvalue())


def read_files(
    files: Iterable[str],
    schema: pa.Schema,
    columns: list[str] | None = None,
    of: str | None = None,
) -> pa.Table:
    """Return the rows of files as one table; columns that an older file lacks are null.

    With `columns`, the table has these alone; with `of`, the rows of this trial alone. A file that
    cannot be read is logged and left out. Raises `FileNotFoundError` for a file that is gone.
    """
    parts = list(read_each(files, schema, columns, of))
    return pa.concat_tables([_empty(_some(schema, columns)), *parts])


def read_each(
    files: Iterable[str],
    schema: pa.Schema,
    columns: list[str] | None = None,
    of: str | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of each file as `read_files` has them.

    Files are read one by one: `pyarrow.dataset` imports pandas, which takes longer than this.
    """
    wanted = _some(schema, columns)
    for file in files:
        try:
            with pq.ParquetFile(
                file, memory_map=True, pre_buffer=False, page_checksum_verification=True
            ) as opened:
                part = fit(_rows(opened, columns, of), wanted)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            log.warning("%s: cannot be read (%s); left out", file, str(error).splitlines()[0])
        else:
            yield part


def _some(schema: pa.Schema, columns: list[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _empty(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([], schema=schema)  # `empty_table` imports pandas


def _rows(opened: pq.ParquetFile, columns: list[str] | None, of: str | None) -> pa.Table:
    """Return the rows of an open file, of all trials or of one.

    The other columns are read only if the file has the trial: Python objects of every row of a
    large folder would take seconds and gigabytes.
    """
    if of is None:
        return opened.read(columns=columns, use_threads=False)
    import pyarrow.compute as pc

    own = pc.equal(opened.read(columns=["trial_id"], use_threads=False)["trial_id"], of)
    if not pc.any(own).as_py():
        return _empty(opened.schema_arrow)
    return opened.read(columns=columns, use_threads=False).filter(own)


def is_intact(path: Path) -> bool:
    """Return whether a file's pages have their checksums; files of earlier versions have none."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as opened:
            opened.read(use_threads=False)
    except FileNotFoundError:
        return True
    except (pa.ArrowException, OSError):
        return False
    return True


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts, times as microseconds since 1970."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(index, field.name, table[field.name].cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a file's rows under today's columns. Raises `ArrowException` if they do not fit."""
    if table.schema.equals(schema):
        return table
    if not set(table.column_names) & set(schema.names):
        raise pa.ArrowInvalid("it has none of the columns")
    arrays = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
