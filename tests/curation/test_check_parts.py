"""Parts of the check of labels: reading labels, drawing the sample, joining reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raysal
from raysal.curation.labels.base import Suspects
from raysal.curation.labels.copies import Conflicts
from raysal.curation.labels.given import PoolLabels, read_pool_labels
from raysal.curation.labels.judged import Judgement
from raysal.curation.labels.listing import COPIES, UNLIKELY, Listing
from raysal.curation.labels.passes import FEWEST_SAMPLED, sampled
from raysal.errors import LabelError
from raysal.pool import Pool


def embedded(folder: Path, column: Any) -> Pool:
    """A pool that carries a column, in chunks of three items."""
    rows = np.random.default_rng(0).standard_normal((len(column), 8)).astype(np.float32)
    table = pa.table({"key": [f"{i}" for i in range(len(column))], "vector": list(rows), "label": column})
    pq.write_table(table, folder / "v.parquet")
    source = {"name": "table", "path": str(folder / "v.parquet"), "carry": ["label"]}
    return raysal.embed(source, out=folder / "pool", chunk_rows=3)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (["b", None, " a ", "", "b", "!skip"], ["b", None, "a", None, "b", None]),
        (pa.array(["b", None, "a", "a"]).dictionary_encode(), ["b", None, "a", "a"]),
        ([1, 2, None, 1], ["1", "2", None, "1"]),
        ([1.0, 2.5, float("nan"), None], ["1", "2.5", None, None]),
        ([["b", "a"], [], None, ["a"]], ["a|b", None, None, "a"]),
        (["b|a", "a|b", "-", "a"], ["a|b", "a|b", "-", "a"]),
    ],
    ids=["texts", "dictionary", "whole numbers", "numbers", "lists", "several"],
)
def test_labels_of_a_column_have_one_spelling(tmp_path: Path, column: Any, wanted: list[str | None]) -> None:
    found = read_pool_labels(embedded(tmp_path, column), "label", several=any("|" in text for text in wanted if text))
    assert [None if code < 0 else found.texts[code] for code in found.codes.tolist()] == wanted
    assert list(found.texts) == sorted({text for text in wanted if text is not None})


def test_a_label_that_is_none_is_named(tmp_path: Path) -> None:
    pool = embedded(tmp_path, [True, False])
    with pytest.raises(LabelError, match="column label"):
        read_pool_labels(pool, "label")


def test_a_sample_has_of_each_class_and_weighs_it_as_all_do() -> None:
    classes = np.repeat([0, 1, 2, 3], [9000, 900, 70, 3])
    ids = np.random.default_rng(0).permutation(len(classes)) * 2
    order = np.argsort(ids)
    ids, classes = ids[order], classes[order]
    chosen, weights = sampled(ids, classes, 1000, 5)
    counts = np.bincount(classes[chosen])
    assert counts.tolist() == [903, 91, FEWEST_SAMPLED, 3]
    assert (np.diff(chosen) > 0).all()
    shares = np.bincount(classes[chosen], weights) / weights.sum()
    assert shares == pytest.approx(np.bincount(classes) / len(classes))
    assert weights.mean() == pytest.approx(1)
    again, _ = sampled(ids, classes, 10**6, 5)
    assert len(again) == len(ids)
    assert not np.array_equal(chosen, sampled(ids, classes, 1000, 6)[0])


def test_the_first_of_groups_do_not_depend_on_order() -> None:
    rng = np.random.default_rng(0)
    n = 80
    same = np.full(n, 0.5, np.float32)
    every = Suspects(np.arange(n), np.zeros(n, np.int32), rng.integers(3, size=n), same, same)
    limits = np.array([5, 0, 9])
    wanted = every.first_of_groups(limits).ids.tolist()
    assert wanted == [*np.flatnonzero(every.group == 0)[:5], *np.flatnonzero(every.group == 2)[:9]]
    assert every.take(rng.permutation(n)).first_of_groups(limits).ids.tolist() == wanted


def test_an_item_of_two_reasons_has_the_lower_score() -> None:
    labels = PoolLabels(codes=np.array([0, 1, 1, 0], np.int32), texts=("a", "b"))
    judgement = Judgement.of(labels, labels.codes.astype(np.int64), 1, False, None)
    scores = np.array([0.1, 0.9, 0.3], np.float32)
    zeros = np.zeros(3, np.int64)
    suspects = Suspects(np.array([10, 20, 40]), np.array([1, 0, 1], np.int32), zeros, -scores, scores)
    different = Conflicts(np.array([10, 20, 30]), np.array([1, 0, 0]), np.array([0.5] * 3), np.array([20, 10, 10]))
    ids = np.array([10, 20, 30, 40])
    found = Listing.of(
        labels, judgement, suspects, different, ids=ids, codes=labels.codes.astype(np.int64), copies=COPIES
    )
    assert found.table().select(["id", "score", "reason", "twin"]).to_pylist() == [
        {"id": 10, "score": pytest.approx(0.1), "reason": COPIES, "twin": 20},
        {"id": 40, "score": pytest.approx(0.3), "reason": UNLIKELY, "twin": None},
        {"id": 20, "score": 0.5, "reason": COPIES, "twin": 10},
        {"id": 30, "score": 0.5, "reason": COPIES, "twin": 10},
    ]
