"""ISAL agrees with the published influence: by numbers worked out by hand, by a whole Hessian, and by fits anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
import torch
from pools import make_pool, mixture
from programs import context_of, local, random_head
from scipy.optimize import minimize

from raysal.config import choice
from raysal.errors import ConfigError
from raysal.fleet import LocalFleet, exclude
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS, SOFTMAX, Curvature
from raysal.models.posterior import STRUCTURES, Members, Shared
from raysal.narrowing.simple import TopScore as Narrow
from raysal.scoring.reference import REFERENCE_ITEMS, nearest_targets, pool_reference
from raysal.strategies import SELECTORS
from raysal.strategies.base import Picks, select
from raysal.strategies.information.isal import Isal
from raysal.strategies.simple import TopScore

N, DIM, CLASSES, PRIOR, KEY = 90, 4, 3, 0.8, 5
LABELLED, HELD = np.arange(0, 24), np.arange(24, 54)
OPEN = np.setdiff1d(np.arange(N), np.concatenate([LABELLED, HELD]))
NAMES = [f"class-{c}" for c in range(CLASSES)]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Vectors [n, d] and the classes of their items [n], a fifth of them others than the vectors say."""
    x, names = mixture(N, DIM, classes=CLASSES, seed=3)
    classes = np.array([int(name[-1]) for name in names])
    classes[::5] = (classes[::5] + 1) % CLASSES
    return x.astype(np.float16).astype(np.float64), classes


@pytest.fixture(scope="module")
def head(data: tuple[np.ndarray, np.ndarray]) -> Head:
    """Fitted to the labelled items by another solver; its posterior keeps the whole Hessian."""
    x, classes = data
    return head_of(x, fitted(x, classes, np.ones(len(LABELLED)), LABELLED))


def head_of(x: np.ndarray, mean: np.ndarray) -> Head:
    rows = with_one(x[LABELLED])
    curvature = Curvature(SOFTMAX, SOFTMAX.responses(rows @ mean.T), np.ones(len(rows)))
    posterior = STRUCTURES["full"].fit(rows, curvature, PRIOR, CLASSES)
    plain = random_head(DIM, CLASSES)
    return replace(plain, mean=mean, linearised_at=mean, posterior=posterior, classes=tuple(NAMES))


def with_one(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x, np.ones(len(x))])


def loss_of(w: np.ndarray, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Cross-entropies [n], in nats."""
    z = with_one(x) @ w.T
    return np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(z)), classes]


def fitted(x: np.ndarray, classes: np.ndarray, weights: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The weights [C, D] of least summed loss and penalty."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(CLASSES, DIM + 1)
        p = np.array([reference.respond("softmax", w @ row) for row in with_one(x[which])])
        slope = ((p - np.eye(CLASSES)[classes[which]]) * weights[:, None]).T @ with_one(x[which]) + PRIOR * w
        return float(weights @ loss_of(w, x[which], classes[which]) + PRIOR / 2 * (w**2).sum()), slope.ravel()

    done = minimize(objective, np.zeros(CLASSES * (DIM + 1)), jac=True, method="BFGS", options={"gtol": 1e-10})
    return done.x.reshape(CLASSES, DIM + 1)


def published(x: np.ndarray, classes: np.ndarray, mean: np.ndarray, referred: np.ndarray) -> np.ndarray:
    """-∇L · H⁻¹ g of all items [n], every derivative by autograd: L over `referred`, H of the labelled items' loss.

    The Hessian of a cross-entropy does not depend on the classes.
    """
    flat = torch.tensor(mean.ravel())

    def loss(w: torch.Tensor, rows: Any, targets: Any) -> torch.Tensor:
        logits = torch.tensor(with_one(x[rows])) @ w.reshape(CLASSES, DIM + 1).T
        return torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum")

    hessian = torch.autograd.functional.hessian(lambda w: loss(w, LABELLED, classes[LABELLED]), flat).numpy()
    slope = torch.autograd.functional.jacobian(lambda w: loss(w, referred, classes[referred]), flat).numpy()
    s_test = np.linalg.solve(hessian + PRIOR * np.eye(len(flat)), slope / len(referred))
    found = []
    for row in range(len(x)):
        likeliest = [int((mean @ with_one(x[[row]])[0]).argmax())]
        g = torch.autograd.functional.jacobian(lambda w, r=row, y=likeliest: loss(w, [r], y), flat).numpy()
        found.append(-float(s_test @ g))
    return np.array(found)


def open_fleet(x: np.ndarray, path: Any, parts: int = 1, chunk_rows: int = 100) -> LocalFleet:
    fleet = local(make_pool(path / "pool", x, chunk_rows=chunk_rows), parts)
    fleet.each(exclude, np.concatenate([LABELLED, HELD]))
    return fleet


def picked(fleet: LocalFleet, head: Head, data: Any, selector: Any, k: int = len(OPEN), held: Any = None) -> Picks:
    x, classes = data
    texts = [NAMES[c] for c in classes[LABELLED]]
    task = context_of(head=head, labelled=x[LABELLED], classes=texts, key=KEY)
    return select(fleet, selector, replace(task, held_out_labels=held), k)


def truth(classes: np.ndarray, ids: Sequence[int] = HELD.tolist()) -> dict[int, str]:
    return {int(id): NAMES[classes[id]] for id in ids}


# -- the published formula -----------------------------------------------------------------------------------


def test_isal_is_minus_the_influence_by_the_whole_hessian(data, head, tmp_path):
    """Of held-out items with their true labels, as the authors' code has it; the lowest influence is picked first."""
    x, classes = data
    influence = published(x, classes, head.mean, HELD)
    picks = picked(open_fleet(x, tmp_path), head, data, Isal(reference="held_out"), held=lambda: truth(classes))
    np.testing.assert_allclose(picks.scores, -influence[picks.ids], rtol=2e-5, atol=1e-8)
    assert (np.diff(influence[picks.ids]) >= -1e-7).all()
    assert influence[picks.ids[0]] < -1e-4 < 0 < influence[picks.ids[-1]], "both signs, the helpful first"
    assert picks.reasons[0] == f"influence {-picks.scores[0]:.3g} on 30 held-out items"


def test_a_pick_lowers_the_loss_of_the_reference_by_its_score(data, head, tmp_path):
    """Fits anew with a little of an item, labelled as predicted: the loss moves by minus the score, up or down."""
    x, classes = data
    picks = picked(open_fleet(x, tmp_path), head, data, Isal(reference="held_out"), held=lambda: truth(classes))
    before = loss_of(head.mean, x[HELD], classes[HELD]).mean()
    for place in (0, 1, len(OPEN) // 2, len(OPEN) - 2, len(OPEN) - 1):
        item, amount = picks.ids[place], 1e-4
        guess = np.append(classes[LABELLED], (head.mean @ with_one(x[[item]])[0]).argmax())
        all_classes = classes.copy()
        all_classes[item] = guess[-1]
        weights = np.append(np.ones(len(LABELLED)), amount)
        after = fitted(x, all_classes, weights, np.append(LABELLED, item))
        change = (loss_of(after, x[HELD], classes[HELD]).mean() - before) / amount
        assert change == pytest.approx(-picks.scores[place], rel=2e-3, abs=2e-5)


def test_numbers_worked_out_by_hand(tmp_path):
    """Two classes, one feature, weights 0, so q = (1/2, 1/2) and the first class is predicted; Σ = 2 I.

    The one reference item, h = 3, is of class b: ∇L = (q - e_b) h̃ᵀ has rows (1/2)(3, 1) and -(1/2)(3, 1). So V has
    rows (3, 1) and -(3, 1). An item h has g = (q - e_a) h̃ᵀ with rows -(1/2)(h, 1) and (1/2)(h, 1), and its score is
    ⟨V, g⟩ = -(3 h + 1): 5 of h = -2, -1 of h = 0, -13 of h = 4. Its label would be a, and push a where h > -1/3.
    """
    zero = np.zeros((2, 2))
    head = replace(
        random_head(1, 2),
        mean=zero,
        linearised_at=zero,
        posterior=Shared(root=np.sqrt(2) * np.eye(2)),
        classes=("a", "b"),
    )
    x = np.array([[4.0], [0.0], [-2.0], [3.0]])
    fleet = local(make_pool(tmp_path / "pool", x), 1)
    fleet.each(exclude, np.array([3]))
    task = replace(context_of(head=head, labelled=x[:0], key=1), held_out_labels=lambda: {3: "b"})
    picks = select(fleet, Isal(reference="held_out"), task, 3)
    assert picks.ids.tolist() == [2, 1, 0]
    np.testing.assert_allclose(picks.scores, [5, -1, -13], rtol=1e-6)


# -- the sample of the pool ----------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
def test_an_item_of_the_pool_counts_half_as_predicted_and_half_as_the_nearest(parts, data, head, tmp_path):
    """No more than what is available, and never what trains: by the same formula, with these labels."""
    x, classes = data
    guessed, near = (with_one(x) @ head.mean.T).argmax(1), classes.copy()
    for item in OPEN:
        near[item] = classes[LABELLED][((x[LABELLED] - x[item]) ** 2).sum(1).argmin()]
    assert (near[OPEN] != guessed[OPEN]).any()

    def wanted(sample: np.ndarray) -> np.ndarray:
        return -(published(x, near, head.mean, sample) + published(x, guessed, head.mean, sample)) / 2

    fleet = open_fleet(x, tmp_path, parts, chunk_rows=17)
    picks = picked(fleet, head, data, Isal())
    np.testing.assert_allclose(picks.scores, wanted(OPEN)[picks.ids], rtol=2e-5, atol=1e-8)
    assert picks.reasons[0].endswith(f"on {len(OPEN)} items of the pool")
    assert np.array_equal(picked(fleet, head, data, Isal(), k=7).ids, picks.ids[:7])
    few = picked(fleet, head, data, Isal(sample=9))
    sample = pool_reference(fleet, head, x[LABELLED], [NAMES[c] for c in classes[LABELLED]], KEY, 9)
    ids = [int(np.flatnonzero((x == row).all(1))[0]) for row in sample.features]
    assert set(ids) <= set(OPEN.tolist())
    assert (len(set(ids)), ids) == (9, sorted(ids))
    np.testing.assert_allclose(few.scores, wanted(np.array(ids))[few.ids], rtol=2e-5, atol=1e-8)


def test_the_score_influence_is_isal_with_its_defaults(data, head, tmp_path):
    """As a strategy and as a narrower."""
    x, classes = data
    fleet = open_fleet(x, tmp_path, 2, chunk_rows=30)
    isal, top = picked(fleet, head, data, Isal()), picked(fleet, head, data, TopScore(score="influence"))
    assert np.array_equal(isal.ids, top.ids)
    assert np.array_equal(isal.scores, top.scores)
    texts = [NAMES[c] for c in classes[LABELLED]]
    task = context_of(head=head, labelled=x[LABELLED], classes=texts, key=KEY)
    assert Narrow(score="influence", size=7).narrow(fleet, task)[1].ids.tolist() == isal.ids[:7].tolist()
    assert Isal().sample == REFERENCE_ITEMS


def test_where_a_head_comes_without_labels_the_sample_has_the_predicted_ones(data, head, tmp_path):
    x, _ = data
    fleet = open_fleet(x, tmp_path)
    picks = select(fleet, Isal(), context_of(head=head, labelled=x[:0], key=KEY), len(OPEN))
    guessed = (with_one(x) @ head.mean.T).argmax(1)
    wanted = -published(x, guessed, head.mean, OPEN)
    np.testing.assert_allclose(picks.scores, wanted[picks.ids], rtol=2e-5, atol=1e-8)


def test_labelled_items_equally_near_share_and_their_order_decides_nothing(data, head):
    x, classes = data
    texts = np.array(NAMES)[classes[LABELLED]]
    twice = np.concatenate([x[LABELLED], x[LABELLED[:1]]])
    other = NAMES[(classes[0] + 1) % CLASSES]
    sample = labelled_rows(head, twice, [*texts, other])
    found = nearest_targets(x[LABELLED[:1]] + 1e-3, sample)
    assert sorted(found[0].tolist()) == [0.0, 0.5, 0.5]
    order = np.random.default_rng(0).permutation(len(twice))
    turned = labelled_rows(head, twice[order], np.array([*texts, other])[order].tolist())
    assert np.array_equal(nearest_targets(x, turned), nearest_targets(x, sample))
    far = labelled_rows(head, twice + 1e4, [*texts, other])
    assert np.array_equal(nearest_targets(x + 1e4, far), nearest_targets(x, sample)), "a constant changes nothing"


def labelled_rows(head: Head, x: np.ndarray, texts: Sequence[str]) -> Evidence:
    return gather_evidence(x, list(texts), None, head.classes)


# -- several labels, and what is refused ---------------------------------------------------------------------


def test_of_several_labels_each_is_a_problem_of_its_own(data, tmp_path):
    """The mean of what ISAL says of each label alone."""
    x, _ = data
    rng = np.random.default_rng(2)
    mean, root = rng.normal(size=(2, DIM + 1)), np.linalg.cholesky(np.eye(DIM + 1) * 0.3 + 0.1)
    head = replace(random_head(DIM, 2), mean=mean, linearised_at=mean, posterior=Shared(root=root), classes=("a", "b"))
    head = replace(head, likelihood=LIKELIHOODS["sigmoid"])
    fleet = open_fleet(x, tmp_path)
    texts = {int(id): text for id, text in zip(HELD, ["a", "b", "a|b", "-", "a"] * 6, strict=True)}
    task = replace(context_of(head=head, labelled=x[LABELLED], key=KEY), held_out_labels=lambda: texts)
    picks = select(fleet, Isal(reference="held_out"), task, len(OPEN))
    named = np.array([["a" in text, "b" in text] for text in texts.values()], float)
    rows, held = with_one(x[picks.ids]), with_one(x[HELD])
    wanted = np.zeros(len(OPEN))
    for c in (0, 1):
        slope = ((1 / (1 + np.exp(-held @ mean[c])) - named[:, c])[:, None] * held).mean(0)
        p = 1 / (1 + np.exp(-rows @ mean[c]))
        wanted += (rows @ (root @ root.T @ slope)) * (p - (p > 0.5)) / 2
    np.testing.assert_allclose(picks.scores, wanted, rtol=2e-5, atol=1e-7)


def test_held_out_items_of_classes_that_the_head_does_not_know_are_left_out(data, head, tmp_path):
    x, classes = data
    fleet = open_fleet(x, tmp_path)
    new = truth(classes) | {int(HELD[0]): "unheard of"}
    picks = picked(fleet, head, data, Isal(reference="held_out"), held=lambda: new)
    assert picks.reasons[0].endswith("on 29 held-out items")
    without = picked(fleet, head, data, Isal(reference="held_out"), held=lambda: truth(classes, HELD[1:]))
    assert np.array_equal(picks.scores, without.scores)


def test_what_it_cannot_work_with_is_refused(data, head, tmp_path):
    x, classes = data
    fleet = open_fleet(x, tmp_path)
    numbers = replace(random_head(DIM, 1), likelihood=LIKELIHOODS["identity"])
    with pytest.raises(ConfigError, match="numbers"):
        picked(fleet, numbers, data, Isal())
    ensemble = replace(head, posterior=Members(weights=np.stack([head.mean, -head.mean])))
    for selector in (Isal(), Isal(reference="held_out")):
        with pytest.raises(ConfigError, match="covariance"):
            picked(fleet, ensemble, data, selector, held=lambda: truth(classes))
    with pytest.raises(ConfigError, match="nothing is held out here"):
        picked(fleet, head, data, Isal(reference="held_out"))
    with pytest.raises(ConfigError, match="label some"):
        picked(fleet, head, data, Isal(reference="held_out"), held=dict)
    with pytest.raises(ConfigError, match="reference"):
        choice({"name": "isal", "reference": "train"}).build("select", SELECTORS)
