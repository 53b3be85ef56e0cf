"""Held-out items: the same items and numbers for any layout, none ever offered; measures by their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture
from programs import context_of, local, random_head
from sklearn import metrics

from raysal.errors import LabelError
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, SIGMOID, SOFTMAX, softmax
from raysal.models.measures import LEAST, MEASURES, Evaluation, expected_calibration_error, main_measure
from raysal.models.ranking_measures import ranking_measures
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.rng import item_uniform
from raysal.rounds import evaluation as module
from raysal.rounds.evaluation import evaluate, hold_out
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

N, DIM, KEY, SHARE = 400, 7, 3, 0.25


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    x, names = mixture(N, DIM)
    return x, names, make_pool(tmp_path_factory.mktemp("held") / "pool", x, chunk_rows=90)


def held_out(most: int) -> np.ndarray:
    draws = item_uniform(KEY, np.arange(N))
    held = np.flatnonzero(draws < SHARE)
    return np.sort(held[np.argsort(draws[held])][:most])


@pytest.mark.parametrize("most", [10_000, 30])
def test_the_evaluation_is_that_of_the_slow_version_for_any_layout(most, data, monkeypatch):
    x, names, pool = data
    monkeypatch.setattr(module, "MOST", most)
    head = replace(random_head(DIM), temperature=1.7)
    held = [id for id in held_out(most) if id % 10]
    p = reference.probabilities(x[held], head.weight / 1.7, head.bias / 1.7)
    truth = [names[id] for id in held]
    right = [head.classes[row.argmax()] == name for row, name in zip(p, truth, strict=True)]
    nats = [-np.log(row[head.classes.index(name)]) for row, name in zip(p, truth, strict=True)]
    first = None
    for partitions in (1, 2, 5, 30):
        found = evaluate(
            local(pool, partitions), head, KEY, SHARE, lambda ids: {id: names[id] for id in ids if id % 10}
        )
        assert found is not None
        assert (found.items, found.metric) == (len(held), "accuracy")
        assert found.accuracy == found.measures["accuracy"] == pytest.approx(np.mean(right))
        assert found.measures["negative_log_likelihood"] == pytest.approx(np.mean(nats), rel=1e-5)
        error = expected_calibration_error(p.max(axis=1), np.array(right))
        assert found.measures["expected_calibration_error"] == pytest.approx(error, abs=1e-5)
        assert found == (first or found)  # to the last bit
        first = found


@pytest.mark.parametrize("trainer", ["multi_label", "regression"])
def test_other_links_are_judged_by_their_own_measures_for_any_layout(trainer, data):
    x, names, pool = data
    texts = [f"{n}|far" if row[0] > 0 else n for n, row in zip(names, x, strict=True)]
    if trainer == "regression":
        texts = [str(round(float(row[0] * 2 + row[1] ** 2), 3)) for row in x]
    classes = ["value"] if trainer == "regression" else sorted({part for text in texts for part in text.split("|")})
    head = TRAINERS[trainer]().fit(TrainingData(features=x[:80], labels=texts[:80], classes=classes, encoder="e"))
    held = held_out(N)
    found = [
        evaluate(local(pool, parts), head, KEY, SHARE, lambda ids: {id: texts[id] for id in ids}) for parts in (1, 4)
    ]
    assert found[0] == found[1]
    assert found[0] is not None
    expected = head.likelihood.judge(
        head.classes,
        head.logits(x[held]),
        [texts[id] for id in held],
        head.variance(x[held]) + head.noise,
    )
    assert found[0].metric == ("rmse" if trainer == "regression" else "macro_f1")
    assert found[0].measures == pytest.approx(expected.measures, rel=1e-3)
    assert found[0].accuracy is None


def test_recall_counts_per_true_class_and_a_class_unknown_to_the_head_costs_a_finite_number():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    found = SOFTMAX.judge(("a", "b"), np.log(p), ["a", "a", "b", "c"])
    assert (found.items, found.accuracy) == (4, 0.5)
    assert found.recall == {"a": 0.5, "b": 1.0, "c": 0.0}
    nats = -np.log([0.9, 0.2, 0.7, LEAST]).mean()
    assert found.measures["negative_log_likelihood"] == pytest.approx(nats)


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 10**6))
def test_measures_of_classes_are_those_of_scikit_learn(n, classes, seed):
    rng = np.random.default_rng(seed)
    outputs, truth = rng.normal(size=(n, classes)) * 3, rng.integers(classes, size=n)
    found = SOFTMAX.judge([str(c) for c in range(classes)], outputs, [str(c) for c in truth]).measures
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, outputs.argmax(axis=1)))
    loss = metrics.log_loss(truth, softmax(outputs), labels=range(classes))
    assert found["negative_log_likelihood"] == pytest.approx(loss)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10**6))
def test_measures_of_labels_are_those_of_scikit_learn(n, labels, seed):
    rng = np.random.default_rng(seed)
    outputs, there = rng.normal(size=(n, labels)), rng.random((n, labels)) < 0.4
    names = [f"l{c}" for c in range(labels)]
    texts = ["|".join(names[c] for c in np.flatnonzero(row)) or "-" for row in there]
    found = SIGMOID.judge(names, outputs, texts)
    guess = outputs > 0
    used = np.flatnonzero((guess | there).any(axis=0))
    each = [metrics.f1_score(there[:, c], guess[:, c]) for c in used]
    assert found.measures["macro_f1"] == pytest.approx(np.mean(each) if each else 1.0)
    pooled = metrics.f1_score(there.ravel(), guess.ravel(), zero_division=1.0)
    assert found.measures["micro_f1"] == pytest.approx(pooled)
    assert found.measures["exact_match"] == pytest.approx((guess == there).all(axis=1).mean())
    assert found.measures["label_accuracy"] == pytest.approx((guess == there).mean())
    p = 1 / (1 + np.exp(-outputs))
    nats = -np.log(np.where(there, p, 1 - p)).sum(axis=1).mean()
    assert found.measures["negative_log_likelihood"] == pytest.approx(nats)
    assert found.measures["expected_calibration_error"] == pytest.approx(expected_calibration_error(p, there))
    assert found.recall == {
        name: pytest.approx(guess[there[:, c], c].mean()) for c, name in enumerate(names) if there[:, c].any()
    }


def test_labels_that_are_never_predicted_count_against_the_head():
    found = SIGMOID.judge(("a",), np.array([[3.0], [-3.0]]), ["a|new", "-"])
    assert found.measures["macro_f1"] == pytest.approx(0.5)
    assert found.measures["exact_match"] == 0.5
    assert found.recall == {"a": 1.0, "new": 0.0}
    with pytest.raises(LabelError, match="empty part"):
        SIGMOID.judge(("a",), np.array([[3.0]]), ["a||b"])


def test_measures_of_numbers():
    outputs, truth, variance = np.array([[1.0], [2.0], [4.0]]), [1.5, 2.0, 3.0], np.array([[0.5], [1.0], [2.0]])
    found = IDENTITY.judge(("value",), outputs, [str(t) for t in truth], variance)
    assert found.measures["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, outputs[:, 0]))
    assert found.measures["r2"] == pytest.approx(metrics.r2_score(truth, outputs[:, 0]))
    nats = [
        0.5 * np.log(2 * np.pi * v) + (f - t) ** 2 / (2 * v)
        for f, t, v in zip(outputs[:, 0], truth, variance[:, 0], strict=True)
    ]
    assert found.measures["negative_log_likelihood"] == pytest.approx(np.mean(nats))
    alike = IDENTITY.judge(("value",), outputs, ["2", "2", "2"])
    assert "r2" not in alike.measures  # there is nothing to explain


def test_every_measure_has_words_and_records_of_before_have_the_accuracy():
    every = [
        SOFTMAX.judge(("a", "b"), np.zeros((2, 2)), ["a", "b"]),
        SIGMOID.judge(("a",), np.zeros((2, 1)), ["a", "-"]),
        IDENTITY.judge(("value",), np.zeros((2, 1)), ["1", "2"]),
    ]
    of_target = ranking_measures(np.arange(3.0), np.array([True, False, False]), np.arange(3.0), 2)[0]
    assert {name for found in every for name in found.measures} | set(of_target) == set(MEASURES)
    assert main_measure({"items": 3, "accuracy": 0.5, "recall": {}}) == ("accuracy", 0.5)
    record = vars(Evaluation(items=1, metric="rmse", measures={"rmse": 2.0}, accuracy=None, recall={}))
    assert main_measure(record) == ("rmse", 2.0)


def test_nothing_known_is_no_evaluation(data):
    assert evaluate(local(data[2], 2), random_head(DIM), KEY, SHARE, lambda ids: {}) is None


def test_what_comes_back_does_not_grow_with_partitions(data, monkeypatch):
    """Held-out outputs come once: those of the items chosen, not as many from every partition."""
    _, names, pool = data
    monkeypatch.setattr(module, "MOST", 40)
    rows = []

    def counted(partition, *args):
        found = real(partition, *args)
        rows.append(len(found[1]))
        return found

    real = module.outputs_of
    monkeypatch.setattr(module, "outputs_of", counted)
    evaluate(local(pool, 8), random_head(DIM), KEY, SHARE, lambda ids: {id: names[id] for id in ids})
    assert sum(rows) == 40


def test_held_out_items_are_never_offered(data):
    fleet = local(data[2], 3)
    held = sum(fleet.each(hold_out, KEY, SHARE))
    assert held == (item_uniform(KEY, np.arange(N)) < SHARE).sum()
    task = context_of(head=None, labelled=np.empty((0, DIM), np.float32), key=1)
    picks = select(fleet, SELECTORS["random"](), task, N - held)
    assert (item_uniform(KEY, picks.ids) >= SHARE).all()


def test_a_head_of_one_class_is_judged(data):
    head = Head.of_weights(np.zeros((1, DIM)), np.zeros(1), classes=["class-0"])
    found = evaluate(local(data[2], 2), head, KEY, SHARE, lambda ids: {id: data[1][id] for id in ids})
    assert found is not None
    assert found.accuracy == pytest.approx(np.mean([data[1][id] == "class-0" for id in held_out(N)]))
