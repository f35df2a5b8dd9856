"""Parquet files of the tables."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grid.store.parquet import encode, is_intact, read_files


@pytest.mark.parametrize("rows", [5, 500])
def test_a_changed_bit_in_a_table_is_found(
    rows: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table({"val_top1": [0.625 + row % 7 for row in range(rows)]})
    content = bytearray(encode("epochs", table))
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    assert read_files([str(path)], table.schema).equals(table)
    assert is_intact(path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    first = column.dictionary_page_offset or column.data_page_offset
    content[first + column.total_compressed_size - 1] ^= 1  # of the last value
    path.write_bytes(content)
    assert read_files([str(path)], table.schema).num_rows == 0
    assert not is_intact(path)
    assert "left out" in caplog.text
