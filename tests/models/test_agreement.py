"""Agreement of annotators, against versions that count pair by pair, and against numbers of the literature."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysal.models.agreement import agreement_of, cohen_kappa, fleiss_kappa, interval, krippendorff_alpha

PEOPLE = ("ann", "bob", "cid", "dee")
ITEMS = st.lists(
    st.dictionaries(st.sampled_from(PEOPLE), st.sampled_from((1.0, 2.0, 5.0)), max_size=4), min_size=1, max_size=12
)


def slow_alpha(items, sq_difference):
    """Krippendorff's alpha by the coincidences of all ordered pairs, one by one."""
    pairable = [list(answers.values()) for answers in items if len(answers) > 1]
    values = [value for item in pairable for value in item]
    if not values:
        return None
    observed = sum(
        sq_difference(a, b) / (len(item) - 1) for item in pairable for a, b in itertools.permutations(item, 2)
    ) / len(values)
    pairs = list(itertools.permutations(values, 2))
    expected = sum(sq_difference(a, b) for a, b in pairs) / len(pairs)
    return None if expected == 0 else 1 - observed / expected


def slow_kappa(pairs):
    """Cohen's kappa from the table of both people's answers."""
    names = sorted({name for pair in pairs for name in pair})
    table = np.zeros((len(names), len(names)))
    for a, b in pairs:
        table[names.index(a), names.index(b)] += 1
    table /= table.sum()
    expected = (table.sum(0) * table.sum(1)).sum()
    return None if expected == 1 else (np.trace(table) - expected) / (1 - expected)


def slow_fleiss(counts):
    """Fleiss' kappa of a table [items, classes] in which every row has the same sum, by his formulas (1971)."""
    n = counts.sum(axis=1)[0]
    shares = counts.sum(axis=0) / counts.sum()
    of_each = ((counts**2).sum(axis=1) - n) / (n * (n - 1))
    expected = (shares**2).sum()
    return None if expected == 1 else (of_each.mean() - expected) / (1 - expected)


def close(one, other):
    return (one is None and other is None) or math.isclose(one, other, abs_tol=1e-12)


@given(ITEMS)
def test_alpha_is_that_of_all_pairs(items):
    assert close(krippendorff_alpha(items), slow_alpha(items, lambda a, b: float(a != b)))
    assert close(krippendorff_alpha(items, interval), slow_alpha(items, lambda a, b: (a - b) ** 2))


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz")), min_size=1, max_size=20))
def test_cohens_kappa_is_that_of_the_table(pairs):
    assert close(cohen_kappa(pairs), slow_kappa(pairs))


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=3, max_size=3), min_size=1, max_size=12))
def test_fleiss_kappa_is_his_where_every_item_has_as_many_answers(rows):
    counts = np.array([[row.count(name) for name in "xyz"] for row in rows])
    assert close(fleiss_kappa([dict(zip(PEOPLE, row, strict=False)) for row in rows]), slow_fleiss(counts))


def test_numbers_of_the_literature():
    """Fleiss' ten items by fourteen people; Krippendorff's example with missing answers (nominal 0.743)."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    items = [{f"p{i}": name for i, name in enumerate(Counter(dict(enumerate(row))).elements())} for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=5e-4)
    rows = {
        "a": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "b": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "c": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "d": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    units = [{who: row[i] for who, row in rows.items() if row[i] is not None} for i in range(12)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, interval) == pytest.approx(0.849, abs=5e-4)


def test_the_record_names_who_agrees_with_whom():
    items = [{"ann": "x", "bob": "x"}, {"ann": "y", "bob": "x"}, {"ann": "y", "bob": "y", "cid": "y"}, {"dee": "x"}]
    found = agreement_of(items)
    assert found is not None
    assert (found["items"], found["all_agree"]) == (3, 2 / 3)
    assert [(pair["annotators"], pair["items"]) for pair in found["cohen_kappa"]] == [
        (["ann", "bob"], 3), (["ann", "cid"], 1), (["bob", "cid"], 1),
    ]  # fmt: skip
    assert found["cohen_kappa"][0]["kappa"] == slow_kappa([("x", "x"), ("y", "x"), ("y", "y")])
    assert agreement_of([{"ann": "x"}, {}]) is None
