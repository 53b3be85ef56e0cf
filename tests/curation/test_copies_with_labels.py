"""Copies with different labels are those that a look at all pairs finds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from raysal.curation.labels.copies import conflicts, groups_of, near_groups
from raysal.curation.labels.held_out import fold_of, hashes
from raysal.curation.near.pairs import Pairs


def slow(
    ids: NDArray[np.int64], near: NDArray[np.bool_], labels: NDArray[np.int64]
) -> dict[int, tuple[int, float, int]]:
    found = {}
    for i, row in enumerate(near):
        heard = np.flatnonzero(row)
        votes = Counter(labels[heard].tolist())
        own = votes.pop(int(labels[i]))
        if votes and max(votes.values()) >= own:
            best = min(votes, key=lambda label: (-votes[label], label))
            found[int(ids[i])] = (best, own / len(heard), int(ids[heard[labels[heard] == best][0]]))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_votes_are_those_of_all_pairs(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    ids, groups, labels = np.arange(n) * 2 + 1, rng.integers(25, size=n), rng.integers(3, size=n)
    groups = np.unique(groups, return_inverse=True)[1]
    few = np.triu(rng.random((groups.max() + 1,) * 2) < share, 1)
    close = few | few.T | np.eye(groups.max() + 1, dtype=bool)
    found = conflicts(ids, groups, labels, np.argwhere(few))
    wanted = slow(ids, close[groups][:, groups], labels)
    assert {int(i): (int(label), float(part), int(twin)) for i, label, part, twin in zip(*found, strict=True)} == wanted
    assert (np.diff(found.ids) > 0).all()
    assert len(wanted) > 3


def test_nothing_is_in_conflict_where_nothing_is_copied() -> None:
    none = np.empty((0, 2), np.int64)
    for n in (0, 1, 5):
        assert len(conflicts(np.arange(n), np.arange(n), np.arange(n), none).ids) == 0
    assert len(conflicts(np.arange(4), np.zeros(4, np.int64), np.full(4, 2), none).ids) == 0


def test_near_pairs_are_between_groups_whoever_stands_for_them() -> None:
    """Pairs name the first item with a vector, which may have no label; and equal vectors of two units are a pair."""
    ids, groups = np.array([1, 3, 4, 8, 9]), np.array([0, 1, 1, 2, 0])
    copies = np.array([[3, 2], [4, 2], [8, 7]])  # 2 and 7 have no label
    pairs = Pairs(np.array([1, 1, 1, 5]), np.array([2, 9, 7, 7]), np.array([0.9, 1.0, 0.9, 0.9]))
    assert near_groups(ids, groups, [(pairs, copies)]).tolist() == [[0, 1], [0, 2]]
    assert near_groups(ids, groups, []).shape == (0, 2)


def test_equal_vectors_have_equal_hashes_and_folds_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, size=(5000, 6)).astype(np.float32)  # 729 distinct ones
    x[x == 0] = rng.choice(np.array([0.0, -0.0], np.float32), int((x == 0).sum()))
    found = groups_of(hashes(x))
    _, wanted = np.unique(x + 0.0, axis=0, return_inverse=True)
    assert len(np.unique(np.stack([found, wanted.ravel()], 1), axis=0)) == len(np.unique(wanted)) == found.max() + 1
    fold = fold_of(hashes(x)[:, 0], 5, 3)
    assert len(np.unique(np.stack([fold, found], 1), axis=0)) == found.max() + 1
    assert np.bincount(fold, minlength=5).min() > 500
