from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import user_trainers
from frames import matrix_of
from pools import make_pool, mixture
from reference_update import covariance_reference, frame_reference

from raysal.config import Choice, choice
from raysal.errors import ConfigError, LabelError
from raysal.models.head import Head
from raysal.models.online.update import retract, update
from raysal.models.posterior import Diagonal
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.custom import Custom
from raysal.models.trainers.logistic import Logistic
from raysal.rounds.session import Session

RECORD = {"encoder": "e", "version": 4, "ledger_seq": 9, "seed": 5}


def data(n: int = 40, d: int = 4, classes: int = 3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    which = np.arange(n) % classes
    return rng.normal(size=(classes, d))[which] * 2 + rng.normal(size=(n, d)), [f"c{k}" for k in which]


def fit(name: str, features, labels, weights=None, **fields) -> Head:
    trainer = Choice(name=f"custom:user_trainers:{name}", **fields).build("update.trainer", TRAINERS)
    return trainer.fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=["c2", "c1", "c0"], **RECORD)
    )


@pytest.mark.parametrize("structure", ["shared", "diagonal", "kronecker", "full"])
def test_plain_weights_are_the_mean_and_get_the_posterior_of_logistic(structure: str) -> None:
    features, labels = data()
    weights = np.random.default_rng(3).uniform(0.5, 2, 40)
    head = fit("centroids", features, labels, weights, structure=structure, curvature="categorical", l2=0.1)
    weight, bias = user_trainers.centroids(features, labels, weights, classes=("c0", "c1", "c2"), seed=0, context=None)
    assert head.classes == ("c0", "c1", "c2")
    assert np.array_equal(head.weight, weight)
    assert np.array_equal(head.bias, bias)
    assert np.array_equal(head.linearised_at, head.mean)
    assert (head.encoder, head.version, head.ledger_seq, head.labels_seen, head.fitted_on) == ("e", 4, 9, 40, 40)
    assert head.prior == 0.1
    logistic = Logistic(l2=0.1, structure=structure, curvature="categorical").fit(
        TrainingData(features=features, labels=labels, weights=weights, classes=["c0", "c1", "c2"], **RECORD)
    )
    assert logistic.prior == head.prior
    frame = frame_reference(features, weights, 0.1)
    np.testing.assert_allclose(matrix_of(head.frame, 4), frame, rtol=1e-12)
    np.testing.assert_allclose(matrix_of(logistic.frame, 4), frame, rtol=1e-12)
    rows = np.column_stack([features, np.ones(40)]) @ frame.T
    outputs = features @ weight.T + bias
    p = np.exp(outputs - np.logaddexp.reduce(outputs, axis=1)[:, None])
    if structure == "diagonal":
        precision = 0.1 + (p * (1 - p) * weights[:, None]).T @ rows**2
        assert np.allclose(head.posterior.precision, precision, rtol=1e-10)
    if structure == "shared":
        surest = p.max(axis=1)
        expected = covariance_reference(features, weights * surest * (1 - surest), 0.1, frame)
        assert np.allclose(head.covariance, expected, rtol=1e-8)


def test_a_head_keeps_what_it_says_and_gets_the_record() -> None:
    features, labels = data()
    head = fit("a_head", features, labels)
    assert head.classes == ("c2", "c1", "c0")
    assert head.temperature == 2.0
    assert head.prior == 0.3
    assert (head.encoder, head.version, head.ledger_seq, head.labels_seen, head.fitted_on) == ("e", 4, 9, 40, 40)


def test_a_head_that_a_class_joined_gives_back_its_labels() -> None:
    features, labels = data()
    head = fit("joined", features, labels)
    late = [i for i, label in enumerate(labels) if label == "c2"]
    assert (len(head.linearised_at), head.labels_seen) == (2, 40)
    back = retract(head, features[late], ["c2"] * len(late), ledger_seq=10)
    assert np.allclose(back.posterior.precision[2], head.prior, rtol=1e-12)


def test_several_labels_at_once_and_numbers_reach_it_by_its_link(tmp_path: Path) -> None:
    vectors, _ = mixture(200, 6)
    texts = ["|".join(np.array(["a", "b", "c"])[row[:3] > 0]) or "-" for row in vectors]
    numbers = [f"{row[0] - 2 * row[1]:.4f}" for row in vectors]
    keys = [f"item-{i:06d}" for i in range(200)]
    heads = {}
    for name, link, labels in (("each_label", "sigmoid", texts), ("a_number", "identity", numbers)):
        make_pool(tmp_path / link, vectors, chunk_rows=64, labels=labels)
        trainer = {"name": f"custom:user_trainers:{name}", "link": link, "structure": "diagonal"}
        update = {"mode": "laplace", "retrain_share": 9.0, "trainer": trainer}
        select = {"name": "top_score", "score": "epistemic_variance"}
        with Session(tmp_path / name, tmp_path / link, update=update, select=select, seed=3) as session:
            session.tell(dict(zip(keys[:60], labels[:60], strict=True)))
            session.query(5)
            session.tell(dict(zip(keys[60:70], labels[60:70], strict=True)))
            session.query(5)
            assert session.record(1)["decision"].startswith("updated")
            heads[link] = session.current_head()
    p = heads["sigmoid"].probabilities(vectors[70:]) > 0.5
    assert heads["sigmoid"].classes == ("a", "b", "c")
    assert isinstance(heads["sigmoid"].posterior, Diagonal)
    assert (p == (vectors[70:, :3] > 0)).mean() > 0.8
    values = heads["identity"].probabilities(vectors[70:])[:, 0]
    assert np.abs(values - np.array(numbers[70:], float)).max() < 0.1
    custom = Custom(arg="user_trainers:centroids", link="identity")
    with pytest.raises(ConfigError, match="returned tuple for labels that are numbers, not a Head"):
        custom.fit(TrainingData(features=vectors, labels=numbers, classes=[], **RECORD))


def test_updates_go_on_from_it() -> None:
    features, labels = data()
    more, told = data(55)
    head = fit("centroids", features, labels)
    one = update(head, more[40:], told[40:], ledger_seq=10)
    two = update(update(head, more[40:50], told[40:50], ledger_seq=10), more[50:], told[50:], ledger_seq=11)
    assert one.labels_seen == two.labels_seen == 55
    assert np.allclose(one.covariance, two.covariance, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "returned NoneType, not"),
        ("three", "returned 3 things, not"),
        ("transposed", r"weight of shape \(4, 3\), expected \(3, 4\), \[C, d\]"),
        ("a_short_bias", r"bias of shape \(1,\), expected \(3,\), \[C\]"),
        ("a_nan", r"weight that is nan at \[1, 2\]"),
        ("words", "weight that is no array of numbers"),
        ("a_bug", "fails on 40 labels .KeyError: 'weight'"),
        ("NOT_CALLABLE", "fails on 40 labels .TypeError"),
        ("missing", "has no attribute 'missing'"),
        ("numbers", "the link 'sigmoid', expected 'softmax'"),
        ("narrow", "vectors of 2 numbers, expected 4"),
        ("others", r"classes \['class-0', 'class-1', 'class-2'\], expected \['c0', 'c1', 'c2'\]"),
    ],
)
def test_what_cannot_be_a_head_is_an_error_that_says_why(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"custom:user_trainers:{name}.*{said}"):
        fit(name, *data())


def test_it_may_write_on_what_it_is_given() -> None:
    features, labels = data()
    before = features.copy()
    head = fit("scribbling", features, labels)
    assert np.array_equal(features, before)
    assert np.array_equal(head.weight, 2 * fit("centroids", features, labels).weight)
    assert np.array_equal(head.covariance, fit("centroids", features, labels).covariance)


def test_a_bad_label_never_reaches_it() -> None:
    features, labels = data()
    with pytest.raises(LabelError, match="row 3"):
        fit("a_bug", features, [*labels[:3], "new", *labels[4:]])


@pytest.mark.parametrize("name", ["custom", "custom:", "custom:module", "custom::fit", "custom:module:"])
def test_it_needs_a_module_and_a_callable(name: str) -> None:
    with pytest.raises(ConfigError, match=r"MODULE:CALLABLE|arg"):
        choice(name).build("update.trainer", TRAINERS)


@pytest.mark.parametrize(
    ("field", "value"), [("l2", 0.0), ("structure", "x"), ("curvature", "x"), ("sample", -1), ("link", "x")]
)
def test_its_fields_are_checked(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        Custom(arg="a:b", **{field: value})
    with pytest.raises(ConfigError, match="No module named 'no_such_module'"):
        Custom(arg="no_such_module:fit").fit(
            TrainingData(features=data()[0], labels=data()[1], classes=["c0", "c1", "c2"], **RECORD)
        )


def test_a_session_tells_it_the_round_of_every_label_and_shows_it_the_unlabelled(tmp_path: Path) -> None:
    vectors, labels = mixture(200, 6)
    keys = [f"item-{i:06d}" for i in range(200)]
    truth = dict(zip(keys, labels, strict=True))
    make_pool(tmp_path / "pool", vectors, chunk_rows=64, labels=labels)
    trainer = {"name": "custom:user_trainers:remembering", "sample": 30}
    user_trainers.CONTEXTS.clear()
    with Session(
        tmp_path / "run", pool=tmp_path / "pool", select="random", start="random", update={"trainer": trainer}, seed=1
    ) as session:
        session.tell({keys[5]: truth[keys[5]]})  # a person's own choice: no round asked for it
        rounds = {keys[5]: -1}
        for number in range(3):
            batch = session.query(4).table["key"].to_pylist()
            rounds |= dict.fromkeys(batch, number)
            session.tell({key: truth[key] for key in batch})
        session.query(4)
    last = user_trainers.CONTEXTS[-1]
    assert last.rounds is not None
    assert last.unlabelled is not None
    assert last.rounds.tolist() == [rounds[key] for key in sorted(rounds)]  # labels come in the order of ids
    assert {-1, 0, 1, 2} == set(last.rounds.tolist())
    assert last.unlabelled.shape == (30, 6)
    told = vectors[[keys.index(key) for key in rounds]]
    assert not (last.unlabelled[:, None] == told[None]).all(axis=2).any()
