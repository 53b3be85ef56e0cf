"""The head with a hidden layer, and on what it shows the head that `Logistic` or `McDropout` fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pools import make_pool

from raysal.errors import ConfigError, Damaged, FingerprintMismatch, UserError
from raysal.features import same_layer
from raysal.models.head import Head
from raysal.models.online.update import retract, update
from raysal.models.posterior import Members
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.mc_dropout import McDropout
from raysal.models.trainers.mlp import Mlp

SMALL = {"hidden": 24, "epochs": 60}


def rings(n: int = 240, d: int = 6) -> tuple[np.ndarray, list[str]]:
    """Two classes no plane tells apart: one around the other."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, d))
    far = np.arange(n) % 2
    x *= (np.where(far, 3.0, 1.0) / np.linalg.norm(x, axis=1))[:, None]
    return x.astype(np.float16).astype(np.float32) + 2, [f"c{k}" for k in far]


def fitted(trainer, features, labels, weights=None, seed: int = 1) -> Head:
    return trainer.fit(
        TrainingData(
            features=features, labels=labels, weights=weights, classes=sorted(set(labels)), encoder="e", seed=seed
        )
    )


def right(head: Head, features, labels) -> float:
    predicted = head.probabilities(head.see(features)).argmax(1)
    return float(np.mean([head.classes[k] == name for k, name in zip(predicted, labels, strict=True)]))


def test_it_learns_what_no_linear_head_can():
    x, names = rings()
    assert right(fitted(Logistic(), x[:160], names[:160]), x[160:], names[160:]) < 0.75
    for trainer in (Mlp(), Mlp(dropout=0.3), Mlp(batch=50, epochs=60)):
        assert right(fitted(trainer, x[:160], names[:160]), x[160:], names[160:]) > 0.95


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({"structure": "kronecker", "l2": 0.1}, Logistic(structure="kronecker", l2=0.1)),
        ({"dropout": 0.25, "members": 5}, McDropout(rate=0.25, members=5, l2=Mlp().l2)),
    ],
)
def test_its_last_layer_is_the_fit_to_what_its_hidden_layer_shows(fields, last):
    x, names = rings()
    weights = np.random.default_rng(0).uniform(0.5, 2, size=len(x))
    head = fitted(Mlp(**SMALL, **fields), x, names, weights)
    hidden = head.hidden_layer.see(x)
    assert np.array_equal(head.see(x), hidden)
    assert replace(fitted(last, hidden, names, weights), hidden_layer=head.hidden_layer).digest() == head.digest()
    assert (head.dim, head.pool_dim) == (24, 6)
    assert (hidden.astype(float) ** 2).mean() == pytest.approx(1, rel=0.01)
    assert isinstance(head.posterior, Members) == bool(fields.get("dropout"))


def test_the_units_of_the_vectors_and_the_number_of_threads_change_nothing():
    x, names = rings()
    before = torch.get_num_threads()
    try:
        heads = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            heads.append(fitted(Mlp(**SMALL), x, names))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert heads[0].digest() == heads[1].digest()
    assert fitted(Mlp(**SMALL), x, names, seed=2).digest() != heads[0].digest()
    eightfold = fitted(Mlp(**SMALL), x * 8, names)
    assert np.array_equal(eightfold.see(x * 8), heads[0].see(x))


def test_directions_in_which_labels_do_not_differ_are_not_looked_at():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 40))
    head = fitted(Mlp(**SMALL), x, ["a", "b"] * 6)
    off = rng.normal(size=40)
    apart = x - x.mean(0)
    off -= np.linalg.lstsq(apart.T, off, rcond=None)[0] @ apart
    np.testing.assert_allclose(head.hidden_layer.weight @ off, 0, atol=1e-4)
    one = fitted(Mlp(**SMALL), x[:1], ["a"])  # nothing differs
    assert (one.probabilities(one.see(x)) == 1).all()


def test_updates_work_on_what_the_hidden_layer_shows_and_are_taken_back_exactly():
    x, names = rings()
    head = fitted(Mlp(**SMALL), x[:100], names[:100])
    moved = update(head, head.see(x[100:110]), names[100:110], ledger_seq=5)
    assert same_layer(moved.hidden_layer, head.hidden_layer)
    assert moved.labels_seen == 110
    back = retract(moved, head.see(x[100:110]), names[100:110], ledger_seq=6)
    np.testing.assert_allclose(back.covariance, head.covariance, rtol=1e-6, atol=1e-9)
    with pytest.raises(UserError, match=r"takes \[n, 24\]"):
        head.logits(x)


def test_a_head_with_a_hidden_layer_saves_every_bit_and_knows_its_pool(tmp_path: Path):
    x, names = rings()
    own, wider = make_pool(tmp_path / "own", x), make_pool(tmp_path / "wider", np.tile(x, 4))
    head = replace(fitted(Mlp(**SMALL), x, names), encoder=own.vector_space)
    head.save(tmp_path / "head")
    again = Head.load(tmp_path / "head")
    assert again.digest() == head.digest() != replace(head, hidden_layer=None).digest()
    assert again.hidden_layer.weight.tobytes() == head.hidden_layer.weight.tobytes()
    assert not again.hidden_layer.bias.flags.writeable
    assert np.array_equal(again.see(x), head.see(x))
    again.check(own)
    assert wider.dim == again.hidden_layer.dim  # the length of what it makes, not of what it takes
    with pytest.raises(FingerprintMismatch):
        again.check(wider)
    content = bytearray((tmp_path / "head").read_bytes())
    place = bytes(content).index(head.hidden_layer.weight.tobytes()[:16])
    content[place] ^= 1
    (tmp_path / "head").write_bytes(content)
    with pytest.raises(Damaged, match="does not match its sha256"):
        Head.load(tmp_path / "head")
    with pytest.raises(UserError, match="shows 24 features, the head takes 6"):
        replace(fitted(Logistic(), x, names), hidden_layer=head.hidden_layer)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden": 0}, "hidden"),
        ({"epochs": 0}, "epochs"),
        ({"batch": 0}, "batch"),
        ({"decay": -1.0}, "decay"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": 0.5, "members": 1}, "members"),
        ({"dropout": 0.5, "l2": "cv"}, "l2"),
        ({"structure": "sparse"}, "structure"),
    ],
)
def test_fields_out_of_range_are_named(fields, named):
    with pytest.raises(ConfigError, match=rf"update\.trainer\.{named}"):
        Mlp(**fields)


@pytest.mark.parametrize(("field", "value"), [("structure", "diagonal"), ("curvature", "categorical"), ("l2", "cv")])
def test_fields_that_dropout_has_no_use_for_are_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"update.trainer.{field}"):
        Mlp(dropout=0.3, **{field: value})
    Mlp(**{field: value})
