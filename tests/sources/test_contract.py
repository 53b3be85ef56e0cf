"""Every entry of SOURCES keeps the contract of a source. A new entry needs an example in source_examples.py."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_examples import EXAMPLES

from raysal.sources import SOURCES, Source, check_keys
from raysal.sources.base import OfFiles
from raysal.types import Cut, Item, Pixels

FULL = 10**6


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    assert request.param in EXAMPLES, f"add an example of {request.param!r} to this file"
    return EXAMPLES[request.param](tmp_path)


def all_items(source: Source, chunk_rows: int) -> list[tuple[int, Item]]:
    return [
        (unit.first_id + place, item)
        for unit in source.units(chunk_rows)
        for place, item in enumerate(source.read(unit))
    ]


def same(one: Item, other: Item) -> bool:
    if isinstance(one.payload, Cut) and isinstance(other.payload, Cut):
        assert one.payload.box == other.payload.box
        one, other = (replace(item, payload=item.payload.whole.payload) for item in (one, other))
    return (
        (one.key, one.uri, dict(one.carried)) == (other.key, other.uri, dict(other.carried))
        and type(one.payload) is type(other.payload)
        and bool(np.all(bare(one.payload) == bare(other.payload)))
    )


def bare(payload: Any) -> Any:
    """The numbers of pixels; what is no `Pixels` as it is."""
    return payload.values if isinstance(payload, Pixels) else payload


def test_units_cover_the_listing_once_whatever_the_chunk_size(source: Source) -> None:
    whole = [key for unit in source.units(FULL) for key in unit.keys]
    for chunk_rows in (1, 3, 512) if len(whole) < 1000 else (97, 512):
        units = list(source.units(chunk_rows))
        assert [key for unit in units for key in unit.keys] == whole
        assert [unit.index for unit in units] == list(range(len(units)))
        assert [unit.first_id for unit in units] == list(range(0, len(whole), chunk_rows))
        assert {len(unit.keys) for unit in units[:-1]} <= {chunk_rows}
        assert check_keys(source, chunk_rows) == (len(whole), len(units))


def test_items_do_not_depend_on_the_chunk_size(source: Source) -> None:
    whole = all_items(source, FULL)
    for chunk_rows in (3, 4) if len(whole) < 1000 else (700,):
        parts = all_items(source, chunk_rows)
        assert len(parts) == len(whole)
        assert all(a == b and same(one, other) for (a, one), (b, other) in zip(parts, whole, strict=True))


def test_read_gives_the_keys_of_the_unit_and_only_those_asked_for(source: Source) -> None:
    unit = list(source.units(4))[1]
    items = list(source.read(unit))
    assert tuple(item.key for item in items) == unit.keys
    only = {unit.first_id + 1, unit.first_id, 10**9}
    assert all(same(a, b) for a, b in zip(source.read(unit, only), items[:2], strict=True))
    assert not list(source.read(unit, set()))


def test_a_pickled_copy_reads_the_same_units(source: Source) -> None:
    unit = next(source.units(5))
    copy, sent = pickle.loads(pickle.dumps(source)), pickle.loads(pickle.dumps(unit))
    assert copy.modality == source.modality
    assert all(same(a, b) for a, b in zip(copy.read(sent), source.read(unit), strict=True))


def test_the_items_of_all_files_are_those_of_the_source(source: Source) -> None:
    if not isinstance(source, OfFiles):
        pytest.skip("its items do not lie in files of their own")
    names = [file.name for file in source.files()]
    whole = [key for unit in source.units(FULL) for key in unit.keys]
    held: dict[str, list[str]] = {name: [] for name in names}
    for unit in source.units(3):
        keys = iter(unit.keys)
        for name, count in source.spans(unit):
            held[name] += [next(keys) for _ in range(count)]
        assert next(keys, None) is None
    assert [key for keys in held.values() for key in keys] == whole
    for name in names:
        units = list(source.units_in([name], 3))
        assert [key for unit in units for key in unit.keys] == held[name]
        assert [unit.first_id for unit in units] == list(range(0, len(held[name]), 3))
        assert [item.key for unit in units for item in source.read(unit)] == held[name]
    assert [key for unit in source.units_in(names, 3) for key in unit.keys] == whole


def test_fingerprint_is_stable(source: Source) -> None:
    assert source.fingerprint() == source.fingerprint()
    assert len(source.fingerprint()) == 64


def test_payloads_are_of_the_modality(source: Source) -> None:
    for item in source.read(next(source.units(3))):
        if source.modality == "image":
            assert isinstance(item.payload, bytes | Cut) or bare(item.payload).dtype == np.uint8
        elif source.modality in ("text", "sound"):
            assert isinstance(item.payload, str if source.modality == "text" else bytes)
        else:
            assert np.asarray(item.payload).dtype.kind == "f"


def test_the_files_of_a_source_hold_its_items(source: Source) -> None:
    """Of all files, of each one alone, and of the last ones: what a pool that grows asks for."""
    if not isinstance(source, OfFiles):
        return
    names = [file.name for file in source.files()]
    assert len(set(names)) == len(names)
    assert list(source.files()) == list(source.files())
    whole = all_items(source, FULL)
    units = list(source.units_in(names, 3))
    assert [key for unit in units for key in unit.keys] == [item.key for _, item in whole]
    found = [(name, count) for unit in units for name, count in source.spans(unit)]
    assert all(sum(count for _, count in source.spans(unit)) == len(unit.keys) for unit in units)
    assert [name for name, _ in groupby(name for name, _ in found)] == names
    start = 0
    for place, name in enumerate(names):
        count = sum(count for own, count in found if own == name)
        for some, expected in (([name], whole[start : start + count]), (names[place:], whole[start:])):
            parts = list(source.units_in(some, 4))
            assert [unit.first_id for unit in parts] == list(range(0, len(expected), 4))
            items = [item for unit in parts for item in source.read(unit)]
            assert all(same(one, other) for one, (_, other) in zip(items, expected, strict=True))
        start += count
    assert not list(source.units_in([], 3))
