"""Which pictures a step sees: a function of the seed and the step alone, so that a training goes on after a stop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysal.rng import derive, generator


def labelled_places(groups: Sequence[NDArray[np.int64]], size: int, step: int, seed: int) -> NDArray[np.int64]:
    """The labelled pictures of a step: the classes take turns, and each goes through its pictures in random orders.

    Over any C consecutive places every class comes once, and a picture comes again only after all others of its class.

    Args:
        groups: for each of the C classes that have labels the places of its pictures, none empty.
        size: places in one step.
        step: number of the step, from 0.
        seed: of the training.

    Returns:
        [size]
    """
    at = np.arange(step * size, (step + 1) * size)
    turns, classes = divmod(at, len(groups))
    pairs = zip(classes.tolist(), turns.tolist(), strict=True)
    return np.array([_nth(groups[c], turn, seed, f"class {c}") for c, turn in pairs], np.int64)


def unlabelled_places(count: int, size: int, step: int, seed: int) -> NDArray[np.int64]:
    """The unlabelled pictures of a step: all of them in a random order, then all in another one, and so on.

    Args:
        count: pictures that there are, 1 or more.
        size: places in one step.
        step: number of the step, from 0.
        seed: of the training.

    Returns:
        [size] places from 0 to `count`.
    """
    rounds, at = divmod(np.arange(step * size, (step + 1) * size), count)
    orders = {turn: _order(count, turn, seed, "unlabelled") for turn in np.unique(rounds).tolist()}
    return np.array([orders[turn][place] for turn, place in zip(rounds.tolist(), at.tolist(), strict=True)], np.int64)


def _nth(group: NDArray[np.int64], turn: int, seed: int, name: str) -> int:
    """The picture of a class whose turn it is."""
    again, place = divmod(turn, len(group))
    return int(group[_order(len(group), again, seed, name)[place]])


def _order(count: int, turn: int, seed: int, name: str) -> NDArray[np.int64]:
    """The order in which `count` pictures are gone through for the nth time."""
    return generator(derive(seed, "finetune", name, turn)).permutation(count)
