"""Parquet files of pictures: their columns, labels and the bytes in their rows."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cnncore.data.errors import DataError
from cnncore.regular_file import check_regular

# Rows held at a time. A row group of photographs may be larger than memory.
ROWS = 64
# A file is read in pieces of this many bytes, not a whole column of a row group at once.
BUFFER_BYTES = 1 << 20
# Member of a struct that holds the picture, as in Hugging Face's `Image` feature.
BYTES = "bytes"


@dataclass(frozen=True)
class Columns:
    """Columns of a file by what they may hold, and the names of classes that its schema tells."""

    rows: int
    pictures: tuple[str, ...]
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    every: tuple[str, ...]
    class_names: dict[str, tuple[str, ...]]


def read_columns(path: Path) -> Columns:
    """Return the columns of a Parquet file. Raises `DataError` if it is none."""
    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error})") from None
    fields = list(schema)
    return Columns(
        rows=rows,
        pictures=tuple(field.name for field in fields if _holds_bytes(field.type)),
        texts=tuple(field.name for field in fields if _is_text(field.type)),
        numbers=tuple(
            field.name
            for field in fields
            if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
        ),
        every=tuple(schema.names),
        class_names=_class_names(schema.metadata or {}),
    )


def read_values(path: Path, column: str) -> list[Any]:
    """Return the values of a column of texts or whole numbers; null is None."""
    try:
        with pq.ParquetFile(path) as file:
            values: list[Any] = file.read(columns=[column]).column(0).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error})") from None
    return values


def read_contents(path: Path, column: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """Yield the bytes in these rows, which ascend; empty bytes for a null.

    Only a few rows are held at a time. Raises `DataError` for a damaged file.
    """
    wanted = iter(numbers)
    number = next(wanted, None)
    for at, values in _batches(path, column, numbers):
        while number is not None and number < at + len(values):
            value = values[number - at].as_py()
            yield (value[BYTES] if isinstance(value, dict) else value) or b""
            number = next(wanted, None)


def _batches(path: Path, column: str, numbers: Sequence[int]) -> Iterator[tuple[int, pa.Array]]:
    """Yield a few rows at a time, with the number of the first, of row groups that are wanted."""
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            end = 0
            for group in range(file.num_row_groups):
                at, end = end, end + file.metadata.row_group(group).num_rows
                if bisect_left(numbers, at) == bisect_left(numbers, end):
                    continue
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column]):
                    yield at, batch.column(0)
                    at += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error})") from None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return BYTES in names and _holds_bytes(kind.field(names.index(BYTES)).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the names of each `ClassLabel` that Hugging Face's `datasets` noted in a schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):  # other software's, or none
        return {}
