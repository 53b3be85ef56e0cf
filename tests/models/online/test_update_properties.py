"""`update`, `retract` and `add_classes` as a user meets them: what equals what, what never happens, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_update import BIAS_PRIOR, logistic_reference, loss_on
from sklearn.datasets import load_digits
from threadpoolctl import ThreadpoolController

from raysal.config import UpdateConfig
from raysal.errors import ConfigError, LabelError
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.head import Head
from raysal.models.likelihood import SOFTMAX
from raysal.models.online.classes import add_classes
from raysal.models.online.mean import inside, objective_of
from raysal.models.online.refit import reason_to_reject
from raysal.models.online.update import retract, update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic, laplace_posterior

NAMES = ("c0", "c1", "c2")
STRUCTURES = ("shared", "diagonal", "kronecker", "full")
every_structure = pytest.mark.parametrize("structure", STRUCTURES)


def blobs(n: int, d: int = 4, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    which = rng.integers(3, size=n)
    centres = np.random.default_rng(99).normal(size=(3, d))
    return scale * (centres[which] + rng.normal(size=(n, d)) + 0.5), [NAMES[k] for k in which]


def fit(x: np.ndarray, y: list, weights=None, *, classes=NAMES, **fields) -> Head:
    trainer = Logistic(**{"tol": 1e-11, "max_iter": 5000, **fields})
    return trainer.fit(TrainingData(features=x, labels=y, weights=weights, classes=classes, encoder="e"))


def evidence(x: np.ndarray, y: list, weights=None, classes=NAMES) -> Evidence:
    return gather_evidence(x, y, weights, classes)


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


def same_posterior(a: Head, b: Head, tolerance: float = 1e-9) -> bool:
    probes, residual = np.column_stack([blobs(6, seed=77)[0], np.ones(6)]), np.array([1.0, -0.3, 0.2, 0.5])
    return all(
        close(
            a.posterior.row_solver(h[None])(0, residual[: len(a.classes)]),
            b.posterior.row_solver(h[None])(0, residual[: len(b.classes)]),
            tolerance,
        )
        for h in probes
    )


def polished(head: Head, x: np.ndarray, y: list, seen: Evidence, passes: int = 120, weights=None, **more) -> Head:
    return update(head, x, y, weights, ledger_seq=1, passes=passes, seen=seen, **more)


# -- what is the same as what -----------------------------------------------------------------------------------------


@every_structure
def test_shares_are_the_item_split_by_weight_into_its_classes(structure):
    old, (x, _) = blobs(30), blobs(3, seed=1)
    head = fit(*old, structure=structure)
    votes = [{"c0": 3.0, "c2": 1.0}, {"c1": 0.5, "c0": 0.5}, {"c1": 2.0}]
    weights = np.array([2.0, 1.0, 0.4])
    apart = np.vstack([x[[0]], x[[0]], x[[1]], x[[1]], x[[2]]])
    names, shares = ["c0", "c2", "c1", "c0", "c1"], np.array([1.5, 0.5, 0.5, 0.5, 0.4])
    known = evidence(*old)
    both = [
        (evidence(np.vstack([old[0], more]), old[1] + told, np.concatenate([np.ones(30), m])), more, told, m)
        for more, told, m in ((x, votes, weights), (apart, names, shares))
    ]
    heads = [polished(head, more, told, seen, weights=m) for seen, more, told, m in both]
    assert same_posterior(*heads)
    assert close(heads[0].mean, heads[1].mean, 1e-6)
    assert len(known) == 30
    assert not close(heads[0].mean, head.mean, 1e-3)


@every_structure
def test_weight_two_is_the_item_twice(structure):
    old, (x, y) = blobs(30), blobs(5, seed=1)
    head = fit(*old, structure=structure)
    once = evidence(np.vstack([old[0], x]), old[1] + y, np.concatenate([np.ones(30), np.full(5, 2.0)]))
    twice = evidence(np.vstack([old[0], x, x]), old[1] + y + y)
    a = polished(head, x, y, once, weights=np.full(5, 2.0))
    b = polished(head, np.vstack([x, x]), y + y, twice)
    assert same_posterior(a, b)
    assert close(a.mean, b.mean, 1e-6)


@every_structure
@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_passes_over_what_was_seen_are_the_fit_of_everything_in_the_frame_of_the_last_one(
    structure, scale, weighted
):
    """With its prior, too: labels of thrice the size, or of other weights, change neither."""
    (x, y), (more, told) = blobs(40, scale=scale), blobs(20, seed=1, scale=3 * scale)
    both = np.vstack([x, more]), y + told
    weights = np.random.default_rng(3).uniform(0.1, 5, size=60) if weighted else np.ones(60)
    head = fit(x, y, weights[:40], structure=structure)
    seen = evidence(*both, weights)
    moved = polished(head, more, told, seen, passes=2000, weights=weights[40:])
    targets = [NAMES.index(name) for name in both[1]]
    known = logistic_reference(both[0], targets, weights, 3, head.prior, framed_on=(x, weights[:40]))
    assert close(moved.mean, np.column_stack(known), 1e-5)
    assert moved.prior == head.prior
    assert moved.frame is head.frame is not None
    # And the posterior is that of all labels in this frame, at the mean where evidence is taken.
    at = head.frame.evidence(seen), head.frame.inside(head.mean)
    whole = laplace_posterior(SOFTMAX, *at, head.prior, structure, "gaussian", head.frame)
    assert same_posterior(moved, replace(head, posterior=whole))


@every_structure
def test_a_corrected_label_leaves_no_trace_of_the_wrong_one(structure):
    old, (x, y) = blobs(30), blobs(4, seed=1)
    wrong = ["c1" if y[0] != "c1" else "c2", *y[1:]]
    head = fit(*old, structure=structure)
    seen = evidence(np.vstack([old[0], x]), old[1] + y)
    never = polished(head, x, y, seen)
    misled = update(head, x, wrong, ledger_seq=1)
    at_once = polished(misled, x[:1], y[:1], seen, removed=evidence(x[:1], wrong[:1]))
    in_turn = polished(retract(misled, x[:1], wrong[:1], ledger_seq=2), x[:1], y[:1], seen)
    for corrected in (at_once, in_turn):
        assert same_posterior(corrected, never)
        assert close(corrected.mean, never.mean, 1e-6)
        assert corrected.labels_seen == never.labels_seen == 34
    # And without the others at hand, taking it back goes some of the way.
    back = retract(update(head, x[:1], wrong[:1], ledger_seq=1), x[:1], wrong[:1], ledger_seq=2)
    assert same_posterior(back, head)
    moved = np.abs(update(head, x[:1], wrong[:1], ledger_seq=1).mean - head.mean).max()
    assert np.abs(back.mean - head.mean).max() < (0.9 if structure == "diagonal" else 0.5) * moved


@every_structure
def test_a_new_class_joins_and_passes_take_it_to_the_fit_of_all_in_the_frame_of_the_last_one(structure):
    x, y = blobs(40)
    far = np.random.default_rng(1).normal(size=(6, 4)) + 5
    head = fit(x, y, structure=structure)
    assert add_classes(head, ["c1", "c0"]) is head
    wide = add_classes(head, ["later", "c0", "later"])
    assert wide.classes == (*NAMES, "later")
    assert close(wide.probabilities(x)[:, :3] / wide.probabilities(x)[:, :3].sum(1)[:, None], head.probabilities(x))
    moved = update(wide, far, ["later"] * 6, ledger_seq=1)
    assert moved.probabilities(far)[:, 3].mean() > 30 * wide.probabilities(far)[:, 3].mean()
    everything = np.vstack([x, far]), y + ["later"] * 6
    seen = evidence(*everything, classes=wide.classes)
    targets = [wide.classes.index(name) for name in everything[1]]
    known = logistic_reference(everything[0], targets, np.ones(46), 4, head.prior, framed_on=(x, np.ones(40)))
    assert close(polished(wide, far, ["later"] * 6, seen, passes=2000).mean, np.column_stack(known), 1e-4)


# -- what never happens -----------------------------------------------------------------------------------------------


def penalised(head: Head, mean: np.ndarray, seen: Evidence) -> float:
    """Σ m CE(W z + b, y) + prior/2 ‖W‖² + 0.1/2 ‖b‖², with W and z in the frame of the head."""
    assert head.frame is not None
    weight = mean[:, :-1] * head.frame.size
    bias = mean[:, -1] + mean[:, :-1] @ head.frame.centre
    penalty = 0.5 * head.prior * float((weight**2).sum()) + 0.5 * BIAS_PRIOR * float((bias**2).sum())
    return penalty + SOFTMAX.total_loss(seen.rows @ mean.T, seen.targets, seen.weights)


def test_what_updates_lower_is_the_penalised_loss_in_the_frame():
    head, seen = fit(*blobs(30)), evidence(*blobs(40))
    mean = head.mean + np.random.default_rng(0).normal(size=head.mean.shape)
    objective, within = objective_of(head, seen), inside(head, mean)
    assert objective.value(within, objective.evidence.rows @ within.T) == pytest.approx(
        penalised(head, mean, seen), rel=1e-12
    )


@settings(max_examples=30)
@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 99),
    structure=st.sampled_from(STRUCTURES),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
    step=st.sampled_from([1e-3, 1.0, 3.0, 1e6]),
    passes=st.integers(1, 9),
    flips=st.floats(0, 1),
    taken=st.integers(0, 3),
)
def test_the_loss_on_what_was_seen_never_rises(n, seed, structure, scale, step, passes, flips, taken):
    old, (x, y) = blobs(30), blobs(n, seed=seed)
    rng = np.random.default_rng(seed)
    x, y = x * scale, [NAMES[rng.integers(3)] if rng.random() < flips else name for name in y]
    weights = np.exp(3 * rng.normal(size=n))
    head = fit(*old, structure=structure)
    removed = evidence(old[0][:taken], old[1][:taken])
    left = [np.concatenate([a[taken:], b]) for a, b in ((old[0], x), (np.ones(30), weights))]
    seen = evidence(left[0], old[1][taken:] + y, left[1])
    after = update(head, x, y, weights, ledger_seq=1, step=step, passes=passes, seen=seen, removed=removed)
    assert np.isfinite(after.mean).all()
    assert penalised(head, after.mean, seen) <= penalised(head, head.mean, seen) * (1 + 1e-12)
    assert after.labels_seen == 30 + n - taken


@every_structure
@pytest.mark.parametrize("weight", [1e13, 1e20, 1e34, 1e40, 1e46, 1e58])
def test_labels_beside_which_the_others_are_rounding_cannot_be_taken_back(weight, structure):
    for seed in range(3):
        x, y = blobs(30, seed=seed)
        head = fit(x, y, structure=structure, tol=1e-6)
        for count in (1, 2):
            heavy = (x[:count], y[:count], np.full(count, weight))
            with pytest.raises(LabelError, match="nearly all that is known of some direction"):
                retract(update(head, *heavy, ledger_seq=1), *heavy, ledger_seq=2)


@pytest.mark.parametrize("everything", [False, True])
def test_the_number_of_threads_changes_no_bit(everything):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(320, 384)), [NAMES[n] for n in rng.integers(3, size=320)]
    head = fit(x[:300], y[:300])
    seen = evidence(x, y) if everything else None
    blas, torches, found = ThreadpoolController().select(user_api="blas"), torch.get_num_threads(), set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with blas.limit(limits=threads):
            found.add(update(head, x[300:], y[300:], ledger_seq=1, passes=8, seen=seen).digest())
    torch.set_num_threads(torches)
    assert len(found) == 1


@pytest.mark.parametrize(
    "fields", [*({"structure": name} for name in STRUCTURES), {"curvature": "categorical"}], ids=str
)
def test_what_new_labels_alone_teach_does_not_harm_what_was_known(fields):
    """The loss on the new labels always falls; a step too long for the structure pays for it on all others."""
    x, digits = load_digits(return_X_y=True)
    y = [str(digit) for digit in digits]
    fallen, single = 0.0, 0.0
    for seed in range(4):
        rows = np.random.default_rng(seed).permutation(len(x))
        first, new, test = ((x[part], [y[row] for row in part]) for part in (rows[:50], rows[50:60], rows[60:460]))
        head = fit(*first, classes=sorted(set(y)), tol=1e-6, **fields)
        held_out = evidence(*test, classes=head.classes)
        before = loss_on(head, held_out)
        fallen += before - loss_on(update(head, *new, ledger_seq=1), held_out)
        each = [update(head, new[0][[i]], [new[1][i]], ledger_seq=1) for i in range(10)]
        single += sum(before - loss_on(one, held_out) for one in each)
    assert fallen > 0.03
    assert single > 0.03


def test_one_item_under_every_name_moves_no_mean_and_still_counts():
    head = fit(*blobs(30))
    x = blobs(1, seed=1)[0]
    even = replace(head, mean=np.zeros_like(head.mean), linearised_at=np.zeros_like(head.mean))
    after = update(even, np.repeat(x, 3, axis=0), list(NAMES), ledger_seq=1)
    assert not after.mean.any()
    assert after.variance(x)[0, 0] < even.variance(x)[0, 0]


def test_a_head_of_one_class_takes_labels_and_a_second_class():
    x, _ = blobs(12)
    head = fit(x, ["only"] * 12, classes=["only"])
    after = update(head, x[:3], ["only"] * 3, ledger_seq=1)
    assert not after.mean.any()
    two = update(add_classes(after, ["other"]), x[3:4] + 9, ["other"], ledger_seq=2)
    assert two.probabilities(x[3:4] + 9)[0, 1] > 0.5


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x, y: (x, ["c0", "new", "c1"], None), "row 1: label 'new'"),
        (lambda x, y: (x, [{"c0": 1.0, "new": 1.0}, *y[1:]], None), "row 0: label 'new'"),
        (lambda x, y: (x, [{"c0": -1.0}, *y[1:]], None), "row 0: shares"),
        (lambda x, y: (x, [y[0], {"c0": 0.0}, y[2]], None), "row 1: its shares are all 0"),
        (lambda x, y: (np.where(np.arange(4) == 2, np.inf, x), y, None), "row 0: feature 2 is inf"),
        (lambda x, y: (x, y[:2], None), "2 labels for 3 rows"),
        (lambda x, y: (x, y, np.array([1.0, -1.0, 1.0])), "row 1: weight"),
        (lambda x, y: (x, y, np.array([1.0, 1.0, np.nan])), "row 2: weight"),
        (lambda x, y: (x[:, :2], y, None), "2 features"),
    ],
)
@pytest.mark.parametrize("verb", [update, retract])
def test_what_cannot_be_learnt_from_leaves_the_head_as_it_was(verb, change, named):
    head = fit(*blobs(30))
    before = head.digest()
    with pytest.raises(LabelError, match=named):
        verb(head, *change(*blobs(3, seed=1)), ledger_seq=1)
    assert head.digest() == before


@every_structure
def test_more_labels_cannot_be_taken_back_than_there_were(structure):
    x, y = blobs(6)
    head = fit(x, y, structure=structure)
    before = head.digest()
    with pytest.raises(LabelError, match="more evidence is taken back than was absorbed"):
        retract(head, np.vstack([x, x]), y + y, np.full(12, 1e-9), ledger_seq=1)
    with pytest.raises(LabelError, match="more evidence is taken back than was absorbed"):
        retract(head, x, y, np.full(6, 50.0), ledger_seq=1)
    assert head.digest() == before


def test_a_singular_hessian_is_refused_by_the_fit_and_features_that_repeat_are_no_trouble_otherwise():
    x, y = blobs(30)
    twins = np.column_stack([x, x, np.zeros((30, 2))])
    with pytest.raises(ConfigError, match=r"l2.*too weak"):
        fit(twins, y, l2=1e-16, tol=1e-6, max_iter=50)
    head = fit(twins, y)
    new = np.column_stack([blobs(3, seed=1)[0]] * 2 + [np.zeros((3, 2))])
    after = update(head, new, blobs(3, seed=1)[1], ledger_seq=1)
    assert close(after.mean[:, :4], after.mean[:, 4:8], 1e-6)
    assert not after.mean[:, 8:10].any()


# -- when an update is not to be kept ---------------------------------------------------------------------------------


def test_a_mean_that_left_its_neighbourhood_is_rejected():
    old, config = blobs(30), UpdateConfig(mode="laplace", retrain_drift=0.5)
    head, seen = fit(*old), evidence(*old)
    assert reason_to_reject(head, seen, config) is None
    far = replace(head, mean=1.6 * head.mean)
    assert "moved by 0.60 of its length (update.retrain_drift is 0.5)" in (reason_to_reject(far, seen, config) or "")
    assert "moved" not in (reason_to_reject(far, seen, UpdateConfig(retrain_drift=0.7)) or "")


def test_a_mean_that_does_worse_than_that_of_the_last_fit_is_rejected():
    old, config = blobs(30), UpdateConfig(mode="laplace")
    head, seen = fit(*old), evidence(*old)
    reason = reason_to_reject(replace(head, mean=0.8 * head.mean), seen, config)
    assert reason is not None
    assert "penalised loss on what was seen" in reason
    # A fit is where the penalised loss is least: a mean of less loss and more weight is worse, too.
    surer = replace(head, mean=1.2 * head.mean)
    assert loss_on(surer, seen) < loss_on(head, seen)
    assert "penalised loss" in (reason_to_reject(surer, seen, config) or "")
