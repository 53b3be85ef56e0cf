"""The heads that `benchmarks.heads` compares, and what is measured of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heads_data import Files, Hunt, cut_class, draw, hunt, load, to_predict, unit
from benchmarks.heads_fit import Build
from raysal.models.likelihood import softmax
from raysal.models.measures import expected_calibration_error
from raysal.rng import derive, generator

Numbers = dict[str, Any]
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
"""scikit-learn's C, of which the best one in hindsight is looked for."""
PENALTIES = tuple(10 ** (half / 2) for half in range(2, -17, -1))
"""Penalties of the default head, with which a choice is compared."""
LEAST = 1e-6
"""A probability that is smaller counts as this; so does a class without a label."""
ITERATIONS = 1000
KNOWN, INITIAL, BATCH, ROUNDS = 5, 100, 25, 10
OTHERS = 9000
"""Of the items of Fashion-MNIST that are looked through."""
IMAGES = ("Pullover", "Shirt", "Bag")
"""Classes of Fashion-MNIST that are looked for: two that look like others, and one that does not."""
UNIT_C = "C, unit"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where heads are compared."""

    part: str
    """prediction, found or time"""
    data: str
    share: float | None = None
    """of the class that is cut; None where none is"""
    labels: int = 0
    rare: str = ""
    """The class that is looked for."""
    seed: int = 0


class Cells:
    """Measures heads at places; the processes of both builds live as long as it does."""

    def __init__(self, files: Files, after: Path, before: Path | None) -> None:
        self._files = files
        self._builds = {"default": Build(after)}
        if before is not None:
            self._builds["before"] = Build(before)

    def close(self) -> None:
        for build in self._builds.values():
            build.close()

    def measure(self, place: Place, head: str) -> Numbers | None:
        """The numbers of a head at a place; None where the set is too small for it."""
        return {"prediction": self._predict, "found": self._find, "time": self._time}[place.part](place, head)

    # -- prediction --------------------------------------------------------------------------------------------------

    def _predict(self, place: Place, head: str) -> Numbers | None:
        data = to_predict(place.data, self._files)
        drawn = draw(data, place.data, place.share, place.labels, place.seed)
        if drawn is None:
            return None
        x, test = data.rows(drawn.labelled), data.rows(drawn.test)
        seen, classes = np.unique(data.classes[drawn.labelled], return_inverse=True)
        if len(seen) < 2:
            return None
        place_of = np.full(len(data.names), -1)
        place_of[seen] = np.arange(len(seen))
        truth, key = place_of[data.classes[drawn.test]], derive(place.seed, "fit") % 2**32
        if head in self._builds:
            fitted = self._builds[head].fit(x, classes, key)
            p = softmax((test @ fitted.weight.T + fitted.bias) / fitted.temperature)
            return {**judged(p, truth), "chosen": fitted.prior, "seconds": fitted.seconds, "rare": drawn.rare}
        if head == "penalties":
            fits = (self._builds["default"].fit(x, classes, key, l2=l2) for l2 in PENALTIES)
            return listed(judged(softmax(test @ fitted.weight.T + fitted.bias), truth) for fitted in fits)
        x, test = in_span(x.astype(np.float64), test.astype(np.float64))
        if head == "C":
            return listed(judged(model.predict_proba(test), truth) for model in path(x, classes))
        assert head == "cv", head
        model, chosen = cross_validated(x, classes)
        return {**judged(model.predict_proba(test), truth), "chosen": chosen}

    # -- items found -------------------------------------------------------------------------------------------------

    def _find(self, place: Place, head: str) -> Numbers | None:
        pool = hunted(place, self._files)
        if pool is None:
            return None
        if head not in ("C", UNIT_C):
            name, _, l2 = head.partition(" l2=")
            return self._hunt(pool, pool.x, name, place.seed, {"l2": float(l2)} if l2 else {})
        if head == UNIT_C and place.data.endswith("unit"):
            return None
        x = unit(pool.x) if head == UNIT_C else pool.x
        return listed(self._hunt(pool, x, f"{strength:g}", place.seed, {}) for strength in STRENGTHS)

    def _hunt(self, pool: Hunt, x: NDArray[np.float32], head: str, seed: int, options: dict[str, Any]) -> Numbers:
        """Items of the class that `ROUNDS` batches of the least margin found, and the penalties of their heads."""
        labelled = pool.labelled
        offered = np.ones(len(x), dtype=bool)
        offered[labelled] = False
        chosen, seconds = [], 0.0
        for number in range(ROUNDS):
            answers = pool.rare[labelled].astype(np.int64)
            if head in self._builds:
                key = derive(seed, "fit", number) % 2**32
                asked = np.append(np.full(len(pool.labelled), -1), np.repeat(np.arange(number), BATCH))
                fitted = self._builds[head].fit(x[labelled], answers, key, asked=asked, **options)
                weight, bias = fitted.weight[1] - fitted.weight[0], float(fitted.bias[1] - fitted.bias[0])
                chosen.append(fitted.prior)
                seconds += fitted.seconds
            else:
                weight, bias = two_classes(x[labelled].astype(np.float64), answers, float(head))
            margins = np.abs(x @ weight.astype(np.float32) + np.float32(bias))
            margins[~offered] = np.inf
            batch = np.argpartition(margins, BATCH)[:BATCH]
            labelled = np.concatenate([labelled, batch])
            offered[batch] = False
        found = int(pool.rare[labelled].sum()) - KNOWN
        numbers: Numbers = {"found": found, "there": int(pool.rare.sum()) - KNOWN}
        return {**numbers, "chosen": chosen, "seconds": seconds} if chosen else numbers

    # -- time --------------------------------------------------------------------------------------------------------

    def _time(self, place: Place, head: str) -> Numbers | None:
        data = to_predict(place.data, self._files)
        order = generator(derive(place.seed, "heads", place.data, "time")).permutation(len(data.classes))
        labelled = order[: place.labels]
        _, classes = np.unique(data.classes[labelled], return_inverse=True)
        build, x = self._builds[head], data.rows(labelled)
        if place.seed == 0:
            build.fit(x[:200], np.unique(classes[:200], return_inverse=True)[1], 0)  # libraries start slowly
        return {"seconds": build.fit(x, classes, place.seed).seconds}


@lru_cache(maxsize=1)
def hunted(place: Place, files: Files) -> Hunt | None:
    """The pool of a place."""
    data = load(place.data, files)
    others = OTHERS if place.data.startswith("fashion") else None
    rare = data.names.index(place.rare)
    return hunt(data, rare, place.share, place.seed, others=others, known=KNOWN, initial=INITIAL)


def hunted_classes(name: str, files: Files, count: int) -> list[str]:
    """Classes of a set that are looked for in turn: `IMAGES`, texts that are rare by themselves, and any `count` of a
    table."""
    if name.startswith("fashion"):
        return list(IMAGES)
    data = load(name, files)
    if name == "text":
        shares = np.bincount(data.classes) / len(data.classes)
        return [data.names[c] for c in np.flatnonzero((shares >= 0.001) & (shares <= 0.0025))]
    return [data.names[cut_class(data, name, place)] for place in range(count)]


def judged(p: NDArray[np.float64], truth: NDArray[np.int64]) -> Numbers:
    """Measures of probabilities [n, C]; a true class of -1 is one that no label named."""
    likely = np.where(truth >= 0, p[np.arange(len(p)), truth], 0.0)
    right = p.argmax(axis=1) == truth
    return {
        "accuracy": float(right.mean()),
        "nll": float(-np.log(np.maximum(likely, LEAST)).mean()),
        "ece": expected_calibration_error(np.clip(p.max(axis=1), 0, 1), right),
    }


def listed(records: Iterator[Numbers]) -> Numbers:
    """Records of the same names as one record of lists."""
    found = list(records)
    return {name: [record[name] for record in found] for name in found[0]}


# -- scikit-learn ------------------------------------------------------------------------------------------------------


def in_span(x: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labelled items and others in coordinates of the span of the labelled ones, where that has fewer: weights of
    least penalised loss lie in it, and every step towards them by L-BFGS does too."""
    if len(x) >= x.shape[1]:
        return x, test
    span, coordinates = np.linalg.qr(x.T)
    return np.ascontiguousarray(coordinates.T), test @ span


def path(x: NDArray[np.float64], classes: NDArray[np.int64]) -> Iterator[Any]:
    """scikit-learn's heads for each C, each from the one before."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        model.C = strength
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield model.fit(x, classes)


def cross_validated(x: NDArray[np.float64], classes: NDArray[np.int64]) -> tuple[Any, float]:
    """scikit-learn's head with the C of its own choice: ten of them, five folds, by accuracy, as is its default. With
    fewer folds where no class has five labels, and C = 1 where none has two."""
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    folds = min(5, int(np.bincount(classes).max()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if folds < 2:
            return LogisticRegression(max_iter=ITERATIONS).fit(x, classes), 1.0
        model = LogisticRegressionCV(
            cv=folds, max_iter=ITERATIONS, scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False
        ).fit(x, classes)
    return model, float(np.ravel(model.C_)[0])


def two_classes(
    x: NDArray[np.float64], answers: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], float]:
    """(weight, bias) of scikit-learn's head. It is fitted to centred features, in the coordinates of their span: the
    bias is free, so the minimum is that of the features as they are, and found more surely."""
    from sklearn.linear_model import LogisticRegression

    centre = x.mean(axis=0)
    span, coordinates = np.eye(x.shape[1]), x - centre
    if len(x) < x.shape[1]:
        span, triangle = np.linalg.qr((x - centre).T)
        coordinates = np.ascontiguousarray(triangle.T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=1e-6).fit(coordinates, answers)
    weight = span @ model.coef_[0]
    return weight, float(model.intercept_[0] - weight @ centre)
