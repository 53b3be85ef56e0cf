"""Parquet files that carry the sha256 of their own bytes, for tables that no record names.

Such a table is written anew over the one before, in one step. A digest in another file would be that of the one before
where a job is stopped between the two. So it is in the metadata of the file, and is computed with zeros in its place.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raysal.errors import Damaged

KEY, WORDS = "raysal.seal", "sha256 of this file with zeros here: "
"""The name and the beginning of the value in the metadata. If a byte of one is flipped, the other is there still."""
_ZEROS = "0" * 64
_SEAL = re.compile(re.escape(WORDS).encode() + rb"([0-9a-f]{64})")
_PIECE = 1 << 20


def write_sealed_table(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write a Parquet file with its digest. Any reader of Parquet can read it.

    Args:
        path: the file.
        schema: of the tables.
        tables: each is a row group.
    """
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata({KEY: WORDS + _ZEROS})
    with open(path, "r+b") as file:
        begins, footer = _footer(file)
        seal = _SEAL.search(footer)
        assert seal is not None
        digest = _digest(file, begins, footer, seal)
        file.seek(begins + seal.start(1))
        file.write(digest)


def check_seal(path: Path, where: Path | str, fix: str) -> None:
    """Compare a file of `write_sealed_table` with its digest, at about 1 GB/s. One without a digest is not compared.

    Args:
        path: the file.
        where: what an error calls it.
        fix: what an error says to do.

    Raises:
        Damaged: a byte is not what was written, or the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            begins, footer = _footer(file)
            seal = _SEAL.search(footer)
            if seal is None and KEY.encode() not in footer and WORDS.encode() not in footer:
                return  # of an older raysal
            same = seal is not None and KEY.encode() in footer and _digest(file, begins, footer, seal) == seal[1]
    except (OSError, ValueError) as error:
        raise Damaged(where, f"cannot be read ({error})", fix) from None
    if not same:
        raise Damaged(where, "its bytes do not match the sha256 in it", fix)


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer of a Parquet file begins, and all bytes from there on."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    begins = size - 8 - length
    if magic != b"PAR1" or begins < 0:
        raise ValueError("its end is not that of a Parquet file")
    file.seek(begins)
    return begins, file.read()


def _digest(file: BinaryIO, begins: int, footer: bytes, seal: re.Match[bytes]) -> bytes:
    """The digest of a file as hex, with zeros in the place of its seal."""
    digest = hashlib.sha256()
    file.seek(0)
    while content := file.read(min(_PIECE, begins - file.tell())):
        digest.update(content)
    digest.update(footer[: seal.start(1)] + _ZEROS.encode() + footer[seal.end(1) :])
    return digest.hexdigest().encode()
