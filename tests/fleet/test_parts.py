"""Nothing of a file is read before it was compared with its record, and a pass waits for no other file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import make_pool, mixture

from raysal.errors import Damaged
from raysal.fleet import LocalFleet, Partition, parts, plan_partitions, vectors_of
from raysal.fleet.parts import Part, parts_between
from raysal.pool import Pool
from raysal.pool.chunk import Chunk

ROWS, CHUNK = 40, 8


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return make_pool(tmp_path / "pool", mixture(ROWS, 3)[0], chunk_rows=CHUNK)


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread runs ahead: whoever reads a file is the first."""
    monkeypatch.setattr(parts, "check_ahead", lambda _: None)
    monkeypatch.setattr("raysal.fleet.partition.check_ahead", lambda _: None)


def altered(pool: Pool, chunk: int) -> Path:
    path = pool.path / f"vectors/{chunk:05d}.arrow"
    content = bytearray(path.read_bytes())
    content[content.index(Pool(pool.path).chunks[chunk].vectors().tobytes())] ^= 1
    (pool.path / "other").write_bytes(content)
    (pool.path / "other").replace(path)  # a write in place so soon could leave the same times
    return path


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("partitions", [1, 2])
def test_a_damaged_file_is_named_by_who_reads_it_and_keeps_nobody_else(
    pool: Pool, partitions: int, ahead: bool, request: pytest.FixtureRequest
) -> None:
    if not ahead:
        request.getfixturevalue("behind")
    expected = {id: row for chunk in pool.chunks for id, row in zip(chunk.ids().tolist(), chunk.vectors(), strict=True)}
    path = altered(pool, 3)
    fleet = LocalFleet(plan_partitions(pool, partitions))
    for _ in range(2):
        with pytest.raises(Damaged, match=path.name):
            fleet.each(lambda partition: [block.n for block in partition.blocks()])
    others = [id for id in expected if id // CHUNK != 3]
    found = fleet.each(vectors_of, np.array(others, np.int64))
    ids, vectors = (np.concatenate([part[place] for part in found]) for place in (0, 1))
    assert ids.tolist() == others
    assert np.array_equal(vectors, np.array([expected[id] for id in others], np.float32))


def test_a_file_that_changed_after_it_was_compared_is_compared_again(pool: Pool) -> None:
    part = parts.part_of_chunk(pool.chunks[1], 0, CHUNK)
    part.check()
    altered(pool, 1)
    with pytest.raises(Damaged):
        part.rows(slice(0, 1))


def test_a_file_is_compared_once_and_no_pass_waits_for_all(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block is read while the last file is still being compared."""
    go, compared = threading.Event(), []
    original = Chunk.check_bytes

    def slow(chunk: Chunk, kind: str) -> Any:
        compared.append(chunk.index)
        if chunk.index == len(pool.chunks) - 1:
            assert go.wait(60)
        return original(chunk, kind)

    monkeypatch.setattr(Chunk, "check_bytes", slow)
    partition = Partition(plan_partitions(pool, 1)[0], pool)
    blocks = partition.blocks(size=CHUNK)
    first = next(blocks).features[:, :3].clone()
    assert np.array_equal(first.numpy(), pool.chunks[0].vectors().astype(np.float32))
    go.set()
    assert 1 + sum(1 for _ in blocks) == len(pool.chunks)
    assert sorted(compared) == list(range(len(pool.chunks)))


def test_parts_between_are_those_with_rows_there() -> None:
    starts = np.array([0, 0, 3, 3, 3, 7, 8, 8])
    for start in range(9):
        for stop in range(start + 1, 9):
            rows = [(place, starts[place], starts[place + 1]) for place in range(7)]
            expected = [(p, a, b) for p, a, b in rows if a < b and max(a, start) < min(b, stop)]
            assert list(parts_between(starts, start, stop)) == expected


def test_vectors_on_a_device_are_read_as_they_are() -> None:
    import torch

    stored = torch.arange(6, dtype=torch.float16).reshape(3, 2)
    part = Part.of(stored)
    part.check()
    assert len(part) == 3
    assert torch.equal(part.rows(slice(1, 3)), stored[1:])
