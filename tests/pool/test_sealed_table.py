"""A table that no record names is what was written, or its reader is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysal.errors import Damaged
from raysal.pool.sealed_table import check_seal, write_sealed_table

TABLES = [pa.table({"name": [f"{start + i}.png" for i in range(5)], "bytes": [3] * 5}) for start in (0, 5)]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    write_sealed_table(path, TABLES[0].schema, iter(TABLES))
    check_seal(path, path, "")
    return path


def test_any_flipped_byte_is_noticed(sealed: Path) -> None:
    whole = sealed.read_bytes()
    for at in range(len(whole)):
        sealed.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(Damaged, match="the table: "):
            check_seal(sealed, "the table", "")


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_cut_file_is_noticed(sealed: Path, kept: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:kept])
    with pytest.raises(Damaged):
        check_seal(sealed, sealed, "")


def test_any_reader_of_parquet_reads_it(sealed: Path, tmp_path: Path) -> None:
    assert pq.read_table(sealed).equals(pa.concat_tables(TABLES))
    assert pq.ParquetFile(sealed).num_row_groups == len(TABLES)
    write_sealed_table(tmp_path / "again", TABLES[0].schema, TABLES)
    assert (tmp_path / "again").read_bytes() == sealed.read_bytes()
    write_sealed_table(tmp_path / "none", TABLES[0].schema, [])
    check_seal(tmp_path / "none", "", "")
    large = pa.table({"n": np.random.default_rng(0).integers(0, 2**60, 400_000)})  # more than is read at a time
    write_sealed_table(tmp_path / "large", large.schema, [large])
    check_seal(tmp_path / "large", "", "")


def test_a_table_of_an_older_raysal_is_not_compared(tmp_path: Path) -> None:
    pq.write_table(TABLES[0], tmp_path / "older")
    check_seal(tmp_path / "older", "", "")
