"""Few labels of many features: what is kept in their span says what the whole matrix says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysal.errors import ConfigError, LabelError, UserError
from raysal.models.head import Head
from raysal.models.online.classes import add_classes
from raysal.models.online.update import retract, update
from raysal.models.optim.converge import preconditioner
from raysal.models.posterior import Shared, Span
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.numerics import WIDE, few_rows

DIM = 40
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "shared": ("logistic", {}),
    "by confidence": ("logistic", {"curvature": "categorical"}),
    "kronecker": ("logistic", {"structure": "kronecker"}),
    "full": ("logistic", {"structure": "full"}),
    "standardised": ("logistic", {"standardise": True, "l2": 0.01}),
    "several labels": ("multi_label", {}),
    "numbers": ("regression", {"noise": 0.3}),
    "numbers with a constant": ("regression", {"constant": 2.0, "noise": 0.3, "prior": 0.7}),
}
every_fit = pytest.mark.parametrize("name", FIELDS)


@contextmanager
def wide_from(dim: int) -> Iterator[None]:
    """Features beyond which few labels are kept in their span."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysal.numerics.WIDE", dim)
        yield


def labels_of(name: str, n: int, dim: int = DIM, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)) * np.logspace(0, -1, dim) + 3.0
    x[-1] = x[0]  # a copy adds no direction
    which = rng.permutation(np.arange(n) % 3)
    words = {"several labels": ("a", "a|b", "b|c"), "numbers": ("1.5", "-2", "0.25")}
    texts = words["numbers"] if name.startswith("numbers") else words.get(name, ("a", "b", "c"))
    return x, [texts[k] for k in which], rng.uniform(0.3, 2, size=n)


def fit(name: str, n: int, dim: int = DIM) -> Head:
    trainer, fields = FIELDS[name]
    x, labels, weights = labels_of(name, n, dim)
    classes = () if trainer == "regression" else ("a", "b", "c")
    return TRAINERS[trainer](**fields).fit(TrainingData(features=x, labels=labels, weights=weights, classes=classes))


def both(name: str, n: int = 9) -> tuple[Head, Head]:
    """The head in the span of its labels, and the one among all features."""
    with wide_from(DIM - 1):
        spanned = fit(name, n)
    whole = fit(name, n)
    assert spanned.posterior.span.axes.shape == (DIM, n)
    assert whole.posterior.span is None
    return spanned, whole


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-8) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


def assert_alike(one: Head, other: Head) -> None:
    """Every public number of two posteriors."""
    probes = np.vstack([labels_of("shared", 9)[0], labels_of("shared", 5, seed=4)[0] * 2])
    assert close(one.mean, other.mean)
    assert one.posterior.dim == other.posterior.dim == DIM + 1
    assert close(one.variance(probes), other.variance(probes))
    shape = one.mean.shape
    gradient = np.random.default_rng(1).normal(size=shape)
    assert close(one.posterior.solve(gradient), other.posterior.solve(gradient))
    assert close(one.posterior.preconditioner()(gradient), other.posterior.preconditioner()(gradient))
    rows = np.column_stack([probes, np.ones(len(probes))])
    for i in (0, 11):
        steps = [head.posterior.row_solver(rows)(i, gradient[:, 0]) for head in (one, other)]
        assert close(*steps)
    # Draws of unit noise are the columns of a root of the covariance, which may be another root.
    units = np.eye(one.mean.size).reshape(-1, *shape)
    spread = [(head.posterior.samples(0 * head.mean, units)).reshape(len(units), -1) for head in (one, other)]
    assert close(spread[0].T @ spread[0], spread[1].T @ spread[1])
    if other.posterior.covariance is None:
        assert one.posterior.covariance is None
        assert one.posterior.step() is None
    else:
        assert close(one.covariance, other.covariance)
        assert np.array_equal(one.covariance, one.covariance.T)
        assert close(one.posterior.step().of(rows), other.posterior.step().of(rows))


@every_fit
@pytest.mark.parametrize("n", [1, 9])
def test_in_their_span_labels_say_what_they_say_among_all_features(name, n):
    assert_alike(*both(name, n))


@every_fit
def test_labels_that_come_or_go_widen_the_span_and_change_the_same(name):
    x, labels, weights = labels_of(name, 9, seed=5)
    x[:2] = labels_of(name, 9)[0][:2]  # of two labels the span holds the directions already
    heads = []
    for head in both(name):
        more = update(head, x[:7], labels[:7], weights[:7], ledger_seq=1)
        one = update(more, x[7:], labels[7:], weights[7:], ledger_seq=2)
        heads.append((head, more, retract(one, x[2:7], labels[2:7], weights[2:7], ledger_seq=3)))
    (spanned, more, back), (_, all_more, all_back) = heads
    assert [head.posterior.span.width for head in (spanned, more, back)] == [10, 15, 17]
    axes = back.posterior.span.axes
    assert close(axes.T @ axes, np.eye(16), 1e-12)
    assert np.array_equal(axes[:, :9], spanned.posterior.span.axes)
    assert_alike(more, all_more)
    assert_alike(back, all_back)
    with pytest.raises(LabelError, match="more evidence is taken back than was absorbed"):
        retract(spanned, x[2:7], labels[2:7], 50 * weights[2:7], ledger_seq=3)


@pytest.mark.parametrize("name", [name for name in FIELDS if not name.startswith("numbers")])
def test_a_class_that_joins_knows_the_prior_in_every_direction(name):
    spanned, whole = (add_classes(head, ["d", "e"]) for head in both(name))
    assert_alike(spanned, whole)
    x, _, _ = labels_of("shared", 3, seed=6)
    assert_alike(*(update(head, x, ["d", "a", "e"], ledger_seq=1) for head in (spanned, whole)))


def test_a_row_beyond_float64_is_refused_by_name():
    x, labels, _ = labels_of("shared", 9)
    tiny = TrainingData(features=x * 1e-120, labels=labels, classes=("a", "b", "c"))
    for wide in (DIM - 1, DIM):
        with wide_from(wide):
            head = Logistic().fit(tiny)
        assert (head.posterior.span is None) == (wide == DIM)
        with pytest.raises(LabelError, match="row 1: its features are too large"):
            update(head, x[:3] * np.array([[1e-120], [1e59], [1e-120]]), ["a", "b", "c"], ledger_seq=1)


def test_a_preconditioner_of_few_rows_is_that_of_all_features():
    rng = np.random.default_rng(0)
    rows, counts, gradient = rng.normal(size=(7, DIM + 1)), rng.uniform(1, 2, size=7), rng.normal(size=(3, DIM + 1))
    with wide_from(DIM - 1):
        assert close(preconditioner(rows, counts, 0.3)(gradient), preconditioner(rows, counts, 0.3)(gradient))
        spanned = preconditioner(rows, counts, 0.3)(gradient)
    assert close(spanned, gradient @ np.linalg.inv(0.3 * np.eye(DIM + 1) + (rows.T * counts) @ rows))


def test_no_matrix_of_features_by_features_is_made_or_written(tmp_path: Path):
    x, labels, _ = labels_of("shared", 30, 4096)
    head = Logistic().fit(TrainingData(features=x, labels=labels, classes=("a", "b", "c"), encoder="e"))
    assert max(array.size for array in head.posterior.arrays().values()) == 30 * 4096
    more = update(head, x[:1] + 1, ["a"], ledger_seq=1)
    assert max(array.size for array in more.posterior.arrays().values()) == 31 * 4096
    for one in (head, more):
        one.save(tmp_path / "head", overwrite=True)
        assert (tmp_path / "head").stat().st_size < 2 * 2**20
        again = Head.load(tmp_path / "head")
        assert again.digest() == one.digest()
        assert again.posterior.span.axes.tobytes() == one.posterior.span.axes.tobytes()
        assert again.posterior.span.prior == one.posterior.span.prior
        assert again.content() == one.content()
    assert again.posterior.samples(again.mean, np.ones((2, 3, 4097))).shape == (2, 3, 4097)


def test_only_heads_in_a_span_have_the_new_format():
    formats = []
    for head in both("shared"):
        content = head.content()
        start = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        formats.append(json.loads(start["__metadata__"]["raysal_head"])["format"])
    assert formats == [4, 3]


def test_the_number_of_threads_changes_no_bit_of_a_head_of_few_wide_labels():
    x, labels, _ = labels_of("shared", 12, 3000)
    data, before, found = (
        TrainingData(features=x, labels=labels, classes=("a", "b", "c")),
        torch.get_num_threads(),
        set(),
    )
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(Logistic().fit(data).digest())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_small_heads_and_many_labels_stay_as_they_were():
    assert not few_rows(1, WIDE)
    assert few_rows(1, WIDE + 1)
    assert few_rows(1000, 4000)
    assert not few_rows(1001, 4000)


def test_a_span_of_another_size_than_the_posterior_is_refused():
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, 3)))[0]
    with pytest.raises(UserError, match="is over 5 coordinates, its span has 4"):
        Shared(root=np.eye(5), span=Span(axes=axes, prior=1.0))


def test_a_full_posterior_may_be_large_in_features_and_not_in_coordinates():
    with wide_from(DIM - 1), pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysal.models.posterior.full.LARGEST_FULL", 3 * 11)
        head = fit("full", 9)
        x, labels, _ = labels_of("full", 2, seed=9)
        assert update(head, x[:1], labels[:1], ledger_seq=1).posterior.width == 11
        with pytest.raises(ConfigError, match="3 classes x 12 features are 36 weights"):
            update(head, np.vstack([x[:1], -(x[:1] ** 2)]), labels, ledger_seq=1)
