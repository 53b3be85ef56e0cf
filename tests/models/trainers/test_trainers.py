"""What every entry of TRAINERS keeps; a new one joins by its line in the dict."""

from __future__ import annotations

import numpy as np
import pytest

from raysal.config import Choice
from raysal.errors import ConfigError, LabelError
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, SOFTMAX
from raysal.models.online.update import retract, update
from raysal.models.posterior import Members
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Trainer, TrainingData

TRAINING = {"encoder": "e", "version": 4, "ledger_seq": 9, "seed": 0}
NAMED = {"custom": "custom:user_trainers:centroids"}
"""How to ask for those that need an argument."""


def built(name: str) -> Trainer:
    return Choice(name=NAMED.get(name, name)).build("update.trainer", TRAINERS)


@pytest.fixture(params=sorted(TRAINERS))
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return built(request.param)


@pytest.fixture(params=sorted(name for name in TRAINERS if built(name).likelihood is SOFTMAX))
def classifier(request: pytest.FixtureRequest) -> Trainer:
    return built(request.param)


def told(trainer: Trainer, labels: list[str]) -> tuple[list[str], list[str]]:
    """Labels as this trainer takes them, a class by its number where it wants numbers; and the classes there are."""
    numbers = trainer.likelihood is IDENTITY
    return [name.removeprefix("c") for name in labels] if numbers else labels, [] if numbers else ["c2", "c0", "c1"]


def data(n: int = 60, d: int = 7, classes: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(2)
    which = np.arange(n) % classes
    return (rng.normal(size=(classes, d)) * 3)[which] + rng.normal(size=(n, d)), [f"c{k}" for k in which]


def test_it_learns_and_fills_the_record(trainer: Trainer) -> None:
    features, labels = data()
    given, classes = told(trainer, labels)
    head = trainer.fit(TrainingData(features=features.astype(np.float32), labels=given, classes=classes, **TRAINING))
    assert head.likelihood is trainer.likelihood
    assert head.classes == (tuple(sorted(classes)) or ("value",))
    assert (head.encoder, head.version, head.ledger_seq) == ("e", 4, 9)
    assert (head.labels_seen, head.fitted_on, head.pool_dim) == (60, 60, 7)
    outputs = head.probabilities(head.see(features))
    predicted = outputs[:, 0].round().astype(int) if head.likelihood is IDENTITY else outputs.argmax(axis=1)
    assert np.mean([f"c{k}" == label for k, label in zip(predicted, labels, strict=True)]) > 0.9


def test_the_posterior_is_of_the_mean_and_saves(trainer: Trainer, tmp_path) -> None:
    features, labels = data()
    given, classes = told(trainer, labels)
    head = trainer.fit(TrainingData(features=features, labels=given, classes=classes, **TRAINING))
    head.save(tmp_path / "head")
    assert Head.load(tmp_path / "head").digest() == head.digest()
    if isinstance(head.posterior, Members):
        apart = head.posterior.weights - head.mean
        assert np.abs(apart.mean(axis=0)).max() < np.abs(apart).max() / 2
        assert (head.variance(head.see(features)) > 0).all()
        return
    assert np.array_equal(head.covariance, head.covariance.T)
    # The bias of a head for numbers has a prior of its own.
    own = head.covariance[:-1, :-1] if head.likelihood is IDENTITY else head.covariance
    values = np.linalg.eigvalsh(own)
    assert values.min() > 0
    assert values.max() <= (1 + 1e-9) / head.prior


def test_evidence_in_two_updates_is_evidence_in_one_and_can_be_taken_back(trainer: Trainer) -> None:
    features, labels = data()
    given, classes = told(trainer, labels)
    head = trainer.fit(TrainingData(features=features[:40], labels=given[:40], classes=classes, **TRAINING))
    rows, late = head.see(features[40:]), given[40:]
    if isinstance(head.posterior, Members):
        with pytest.raises(ConfigError, match="ensemble"):
            update(head, rows, late, ledger_seq=10)
        return
    whole = update(head, rows, late, ledger_seq=10)
    scale = np.abs(head.covariance).max()
    for cut in (1, 7, 19):
        halves = update(update(head, rows[:cut], late[:cut], ledger_seq=10), rows[cut:], late[cut:], ledger_seq=11)
        np.testing.assert_allclose(halves.covariance, whole.covariance, rtol=0, atol=1e-9 * scale)
        assert halves.labels_seen == whole.labels_seen == 60
    back = retract(whole, rows, late, ledger_seq=11)
    np.testing.assert_allclose(back.covariance, head.covariance, rtol=0, atol=1e-9 * scale)
    assert back.labels_seen == 40


def test_it_is_a_function_of_its_arguments(trainer: Trainer) -> None:
    features, labels = data()
    before = features.copy()
    given, classes = told(trainer, labels)
    heads = [
        trainer.fit(TrainingData(features=features, labels=given, classes=sorted(classes), **TRAINING))
        for _ in range(2)
    ]
    backwards = trainer.fit(
        TrainingData(features=features, labels=given, weights=np.ones(60), classes=sorted(classes)[::-1], **TRAINING)
    )
    assert len({head.digest() for head in [*heads, backwards]}) == 1
    assert np.array_equal(features, before)


def test_one_class_and_classes_without_labels(classifier: Trainer) -> None:
    features, labels = data(classes=1)
    alone = classifier.fit(TrainingData(features=features, labels=labels, classes=["c0"], **TRAINING))
    assert (alone.probabilities(alone.see(features)) == 1).all()
    wider = classifier.fit(TrainingData(features=features, labels=labels, classes=["c0", "later"], **TRAINING))
    assert (wider.probabilities(wider.see(features))[:, 0] > 0.5).all()
    assert np.isfinite(wider.weight).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x, y, w: (x[:0], y[:0], None), "none to fit"),
        (lambda x, y, w: (x, y[:-1], None), "59 labels for 60 rows"),
        (lambda x, y, w: (x, [*y[:5], "new", *y[6:]], None), "row 5: label 'new'"),
        (lambda x, y, w: (put(x, (7, 2), np.nan), y, None), "row 7: feature 2 is nan"),
        (lambda x, y, w: (put(x, (8, 6), -np.inf), y, None), "row 8: feature 6 is -inf"),
        (lambda x, y, w: (x, y, put(w, 3, 0.0)), "row 3: weight is 0.0"),
        (lambda x, y, w: (x, y, put(w, 4, -1.0)), "row 4: weight is -1.0"),
        (lambda x, y, w: (x, y, put(w, 5, np.nan)), "row 5: weight is nan"),
        (lambda x, y, w: (x, y, put(w, 6, np.inf)), "row 6: weight is inf"),
        (lambda x, y, w: (x, y, w[:4]), "weights"),
        (lambda x, y, w: (x[:, :0], y, None), "features"),
        (lambda x, y, w: (x[0], y, None), "features"),
    ],
)
def test_bad_input_is_a_label_error_that_names_it(trainer: Trainer, change, named: str) -> None:
    features, labels = data()
    given, classes = told(trainer, labels)
    features, labels, weights = change(features, given, np.ones(60))
    with pytest.raises(LabelError, match=named):
        trainer.fit(TrainingData(features=features, labels=labels, weights=weights, classes=classes, **TRAINING))


def put(array: np.ndarray, where, value: float) -> np.ndarray:
    array = array.copy()
    array[where] = value
    return array
