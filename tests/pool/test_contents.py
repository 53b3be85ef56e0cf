"""Digests of contents: whatever differs in an item differs in its digest, and nothing else does."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysal.arrow_values import Texts
from raysal.errors import BadItem
from raysal.pool.contents import (
    ALGORITHM,
    BY_ROWS,
    as_hex,
    columns_digest,
    item_digest,
    record_of,
    rows_digest,
    total_of,
    unread_digest,
)
from raysal.pool.lanes import total
from raysal.types import Columns, Item

PAYLOADS: dict[str, Any] = {
    "bytes": b"1234",
    "other bytes": b"1235",
    "text": "1234",
    "bytes with a line break": b"1234\n",
    "no bytes": b"",
    "no text": "",
    "half a letter": "\ud800",
    "pixels": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "pixels of another shape": np.arange(12, dtype=np.uint8).reshape(4, 3),
    "pixels turned": np.arange(12, dtype=np.uint8).reshape(4, 3).T,
    "single": np.array([1, 2], np.float32),
    "double": np.array([1, 2], np.float64),
    "half": np.array([1, 2], np.float16),
    "big-endian": np.array([1, 2], ">f4"),
    "negative zero": np.array([-0.0, 2], np.float32),
    "zero": np.array([0.0, 2], np.float32),
    "rows of several lengths": [[1.0], [1.0, 2.0]],
    "a list with a gap": [1.0, None],
    "unread": BadItem("k", "the file cannot be read"),
}
CARRIED: list[Mapping[str, Any]] = [
    {},
    {"a": None},
    {"a": 1},
    {"a": "1"},
    {"a": 1.5},
    {"a": True},
    {"a": b"1"},
    {"b": 1},
    {"a": 1, "b": 1},
    {"a": [1, 2]},
    {"a": [[1], [2]]},
    {"a": {"x": 1}},
    {"a": {"x": "1"}},
    {"a": float("nan")},
    {"a": "ä\n'\""},
    {"a": date(2026, 1, 2)},
    {"a": datetime(2026, 1, 2, tzinfo=UTC)},
    {"a": Decimal("1.50")},
    {"a": list(range(3000))},
    {"a": [*range(1500), -1, *range(1501, 3000)]},
]


def test_whatever_differs_in_an_item_differs_in_its_digest() -> None:
    items = [(id, Item(key=key, payload=b"x")) for id in (0, 1, 2**40) for key in ("a", "b", "1", "a\n", "ä", "\\xe4")]
    items += [(0, Item(key="a", payload=payload)) for payload in PAYLOADS.values()]
    items += [(0, Item(key="a", payload=b"x", carried=carried)) for carried in CARRIED[1:]]
    found = [item_digest(id, item) for id, item in items]
    assert all(0 <= digest < 2**256 for digest in found)
    for (one, first), (two, second) in itertools.combinations(zip(items, found, strict=True), 2):
        assert first != second, (one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"payload": [1.0, 2.0]}, {"payload": np.array([1.0, 2.0])}),
        ({"payload": PAYLOADS["pixels"].copy("F")}, {"payload": PAYLOADS["pixels"]}),
        ({"payload": PAYLOADS["pixels turned"].copy()}, {"payload": PAYLOADS["pixels turned"]}),
        ({"payload": BadItem("a", "gone")}, {"payload": BadItem("a", "not allowed")}),
        ({"carried": {"a": 1, "b": 2}}, {"carried": {"b": 2, "a": 1}}),
        ({"carried": {"a": np.int64(3)}}, {"carried": {"a": 3}}),
        ({"carried": {"a": np.str_("x")}}, {"carried": {"a": "x"}}),
        ({"carried": {"a": np.arange(3000)}}, {"carried": {"a": list(range(3000))}}),
        ({"carried": {"a": (1, 2)}}, {"carried": {"a": [1, 2]}}),
        ({"uri": "/here/a"}, {"uri": "/there/a"}),
        ({"key": np.str_("a")}, {"key": "a"}),
    ],
)
def test_what_is_the_same_has_one_digest(one: dict[str, Any], two: dict[str, Any]) -> None:
    plain = {"key": "a", "payload": b"x"}
    assert item_digest(np.int64(3), Item(**{**plain, **one})) == item_digest(3, Item(**{**plain, **two}))  # type: ignore[arg-type]


def test_the_method_is_the_one_that_its_name_says() -> None:
    """Records of today must be understood tomorrow: another method needs another name."""
    item = Item(key="ä", payload=np.array([1, 2], "<f4"), carried={"label": "l", "n": 3})
    assert ALGORITHM == "sum-sha256-1"
    assert as_hex(item_digest(5, item)) == "9cd3da341f65316900062d7c02cdb31f5ef0deff22b544f459a5a0b4ee0632f8"
    assert (
        as_hex(rows_digest(np.array([[1, 2], [3, 4]], np.float16)))
        == "ccec944a494958c505b7542db3fe657297fc6f41b115e43a4b5a47bf076b7dc7"
    )


def test_digests_are_those_of_another_process() -> None:
    code = (
        "import test_contents as t; from raysal.types import Item; print([t.item_digest(0, Item(key='k', payload=p, "
        "carried=c)) for p in t.PAYLOADS.values() for c in t.CARRIED])"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join([*sys.path, __file__.rpartition("/")[0]]), "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert done[0] == done[1]


def test_sums_do_not_depend_on_chunks_or_order() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5)).astype(np.float16)
    items = [item_digest(id, Item(key=f"k{id}", payload=vector)) for id, vector in enumerate(vectors)]
    whole = record_of(sum(items), vectors)
    for cuts in ([10, 20], [1], [7, 8, 39]):
        parts = np.split(np.arange(40), cuts)
        records = [{"contents": record_of(sum(items[i] for i in part), vectors[part])} for part in parts]
        for order in (records, records[::-1]):
            assert (total_of(order, "items"), total_of(order, "vectors")) == (whole["items"], whole["vectors"])
    assert rows_digest(vectors[rng.permutation(40)]) == rows_digest(vectors)
    assert rows_digest(vectors[:39]) != rows_digest(vectors)
    assert rows_digest(vectors.copy("F")) == rows_digest(vectors)
    assert rows_digest(vectors[:0]) == 0


def test_there_is_no_total_without_all_records_of_one_method() -> None:
    known = {"contents": record_of(1, np.ones((1, 2), np.float16))}
    assert total_of([known, {}], "items") is None
    assert total_of([known, {"contents": {**known["contents"], "algorithm": "later"}}], "items") is None
    assert total_of([known, known], "items") == as_hex(2)


def test_a_chunk_that_was_given_up_is_known_by_its_keys() -> None:
    assert unread_digest(3, ["a", "b"]) == unread_digest(3, ("a", "b")) != unread_digest(4, ["a", "b"])
    assert unread_digest(3, ["a"]) == item_digest(3, Item(key="a", payload=BadItem("a", "whatever")))


# ready vectors, many at a time


def columns_of(carried: Mapping[str, Any] | None = None, **fields: Any) -> Columns:
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    given = {name: values if hasattr(values, "__len__") else [values] * 4 for name, values in (carried or {}).items()}
    return Columns(**{"keys": list("abcd"), "vectors": vectors, "carried": given, **fields})  # type: ignore[arg-type]


def test_whatever_differs_in_columns_differs_in_their_digest() -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    turned = vectors.copy()
    turned[2] = -turned[2]
    cases = [columns_of(), columns_of(keys=list("abce")), columns_of(keys=list("bacd")), columns_of(vectors=turned)]
    cases += [columns_of(vectors=vectors.astype(kind)) for kind in (np.float16, np.float64)]
    cases += [columns_of(vectors=vectors[[1, 0, 2, 3]]), columns_of(vectors=vectors.reshape(4, 2)[:, ::-1])]
    cases += [columns_of(odd={1: payload}) for name, payload in PAYLOADS.items()]
    cases += [columns_of({name: [value, 0, 0, 0] for name, value in carried.items()}) for carried in CARRIED[1:]]
    found = [columns_digest(first, case)[0] % 2**256 for first in (0, 2**40) for case in cases]
    assert len(set(found)) == len(found)


def test_columns_may_be_cut_anywhere_and_held_in_any_container() -> None:
    texts, numbers = ["ä", None, "", "x" * 2000], [1, None, -3, 2**60]
    lists = {
        "t": texts,
        "n": numbers,
        "f": [0.5, None, float("inf"), -0.0],
        "b": [True, None, False, True],
        "z": [None] * 4,
    }
    arrays = {name: pa.array(values) for name, values in lists.items()}
    odd = {1: BadItem("b", "gone"), 2: np.ones(3)}
    whole, again = (columns_of(carried, odd=odd) for carried in (lists, arrays))
    total = columns_digest(5, whole)[0] % 2**256
    assert columns_digest(5, again)[0] % 2**256 == total
    assert columns_digest(5, columns_of(lists, odd=odd, keys=Texts(pa.array(list("abcd")))))[0] % 2**256 == total
    parts = 0
    for cut in (slice(0, 1), slice(1, 3), slice(3, 4)):
        some = {row - cut.start: payload for row, payload in odd.items() if cut.start <= row < cut.stop}
        carried = {name: values[cut] for name, values in arrays.items()}
        part = Columns(keys=list("abcd")[cut], vectors=whole.vectors[cut], odd=some, carried=carried)
        parts += columns_digest(5 + cut.start, part)[0]
    assert parts % 2**256 == total


def test_the_digests_of_rows_are_those_of_the_vectors_alone() -> None:
    vectors = np.random.default_rng(0).normal(size=(5000, 5)).astype(np.float16)
    _, rows = columns_digest(7, Columns(keys=[str(row) for row in range(5000)], vectors=vectors))
    assert as_hex(total(rows)) == as_hex(rows_digest(vectors, BY_ROWS)) == as_hex(rows_digest(vectors[::-1], BY_ROWS))
    assert as_hex(rows_digest(vectors[:-1], BY_ROWS)) != as_hex(rows_digest(vectors, BY_ROWS))


def test_the_method_of_rows_is_the_one_that_its_name_says() -> None:
    columns = columns_of({"label": ["l", None, "m", "n"], "n": 3}, odd={2: BadItem("c", "")})
    assert BY_ROWS == "sum-lanes-1"
    assert as_hex(columns_digest(5, columns)[0]) == "194325126140b80d330d0827095921905107f0475f4c9519445048635184fd38"
    assert (
        as_hex(rows_digest(np.array([[1, 2], [3, 4]], np.float16), BY_ROWS))
        == "4df5cb9a678994fe955a9a43e107a887bb856d5a97801ad5f7e4c13ba094b13b"
    )
    assert unread_digest(3, ["a", "b"], BY_ROWS) != unread_digest(3, ["a", "b"])
    odd = {0: BadItem("a", "x"), 1: BadItem("b", "y")}
    read = Columns(keys=["a", "b"], vectors=np.zeros((2, 7), np.float32), odd=odd)
    assert unread_digest(3, ["a", "b"], BY_ROWS) == columns_digest(3, read)[0]
