"""Every score of every kind of head, through the sweep and through `top_score`, is the one its definition gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from pools import make_pool, mixture
from programs import TARGET, context_of, labelled_of, local, random_head, task_of
from threadpoolctl import ThreadpoolController

from raysal.errors import ConfigError, PoolError
from raysal.fleet import LocalFleet
from raysal.models.evidence import gather_evidence
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import LIKELIHOODS, SOFTMAX, Curvature
from raysal.models.posterior import STRUCTURES, Kronecker, Members, Shared
from raysal.narrowing.simple import TopScore as Narrow
from raysal.rng import derive, generator
from raysal.scoring.base import Predicted, Score
from raysal.scoring.inputs import DEFAULT_DRAWS, ProductReader, score_inputs, score_to_compute, triangular_root
from raysal.scoring.linear import Linear
from raysal.scoring.registry import SCORES
from raysal.scoring.sweep import SweepRequest, sweep, sweep_partition
from raysal.strategies.base import select
from raysal.strategies.simple import TopScore

N, DIM, KEY = 30, 6, 5
TIES = derive(derive(KEY, "scores"), "ties")
LINKS = ("softmax", "sigmoid", "identity")
every_link = pytest.mark.parametrize("link", LINKS)
every_structure = pytest.mark.parametrize("structure", sorted(STRUCTURES))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    x = mixture(N, DIM)[0]
    x[7] = 0
    x[9] = x[2]
    return x


@pytest.fixture(scope="module")
def fleet(x, tmp_path_factory) -> LocalFleet:
    return local(make_pool(tmp_path_factory.mktemp("scores") / "pool", x, chunk_rows=11), 2)


def make(link: str, structure: str, seed: int = 0, weighting: str = "gaussian", **fields: float) -> Head:
    """A head with a posterior of this structure, as after some labels."""
    rng = np.random.default_rng(seed)
    classes = 1 if link == "identity" else 4
    mean = rng.normal(size=(classes, DIM + 1)) * 0.4
    rows = np.column_stack([rng.normal(size=(9, DIM)), np.ones(9)])
    curvature = Curvature(LIKELIHOODS[link], LIKELIHOODS[link].responses(rows @ mean.T), rng.uniform(0.5, 2, 9))
    if structure == "members":
        posterior = Members(weights=mean + 0.3 * rng.normal(size=(6, classes, DIM + 1)))
    else:
        more = (weighting,) if structure == "shared" else ()
        posterior = STRUCTURES[structure].fit(rows, curvature, 0.7, classes, *more)
    head = random_head(DIM, classes, seed)
    return replace(head, mean=mean, linearised_at=mean, posterior=posterior, likelihood=LIKELIHOODS[link], **fields)


def offered(head: Head) -> list[str]:
    """The scores a head has."""
    out = {
        "expected_model_change": not isinstance(head.posterior, Shared),
        "influence": isinstance(head.posterior, Members),
    }
    if head.likelihood.name == "identity":
        out |= dict.fromkeys(
            ("entropy", "least_confidence", "log_odds", "margin", "probability", "variation_ratio"), True
        )
    return [name for name in sorted(SCORES) if not out.get(name)]


def answers_of(head: Head) -> tuple[list[str], np.ndarray]:
    """Twelve answers, and what they say as targets [12, C]."""
    rng = np.random.default_rng(8)
    if head.likelihood.name == "identity":
        numbers = rng.normal(size=12)
        return [str(y) for y in numbers], numbers[:, None]
    if head.likelihood.name == "softmax":
        which = rng.integers(4, size=12)
        return [head.classes[c] for c in which], np.eye(4)[which]
    named = rng.integers(2, size=(12, 4))
    texts = ["|".join(np.array(head.classes)[row == 1]) or "-" for row in named]
    return texts, named.astype(float)


def noise_of(head: Head, key: int, draws: int = DEFAULT_DRAWS) -> np.ndarray:
    return generator(derive(key, "posterior")).standard_normal((draws, *head.mean.shape))


def wanted(name: str, x: np.ndarray, head: Head, previous: Head, key: int) -> np.ndarray:
    """What a score of all rows should be where twelve are labelled, and the sample of the pool is all of it."""
    drawn = head.posterior.samples(head.mean, noise_of(head, key))
    targets = reference.guessed_targets(x, head, x[:12], answers_of(head)[1])
    return reference.head_score(name, x, head, drawn=drawn, previous=previous, referred=x, targets=targets)


@every_link
@every_structure
def test_scores_are_those_of_their_definitions(link, structure, x, fleet):
    head = make(link, structure, temperature=1.0 if link == "identity" else 1.7, noise=0.6 if link == "identity" else 1)
    previous = make(link, "shared", seed=3, temperature=1.0 if link == "identity" else 0.8)
    answers, _ = answers_of(head)
    key = derive(KEY, "scores")
    task = context_of(head=head, labelled=x[:12], classes=answers, key=key, previous=previous)
    sample = task.reference(fleet, offered(head), key)
    request = SweepRequest(scores=tuple(offered(head)), top=N, key=KEY, ties=TIES)
    found = sweep(
        fleet, head, request, previous=previous, reference=sample, target=TARGET
    )  # all of them out of one product
    for name in offered(head):
        expected = wanted(name, x, head, previous, key)
        close = {"rtol": 2e-5, "atol": 2e-6}
        if name == "variation_ratio":  # a near tie may go either way
            close = {"rtol": 0, "atol": 1.01 / DEFAULT_DRAWS}
        ids, values = found.top[name]
        np.testing.assert_allclose(values, expected[ids], err_msg=name, **close)
        assert sorted(ids.tolist()) == list(range(N))
        assert np.array_equal(ids, reference.ranked(values[np.argsort(ids)], np.arange(N), N, TIES)), name
        assert values.dtype == np.float32
        picks = select(fleet, TopScore(score=name), task, N)
        assert np.array_equal(picks.ids, ids)
        assert np.array_equal(picks.scores, values), "each out of a product of its own"


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_the_step_of_a_covariance_by_confidence_counts_a_label_as_it_does(link, x, fleet):
    head = make(link, "shared", weighting="categorical")
    ids, values = sweep(fleet, head, SweepRequest(scores=("expected_model_change",), top=N)).top[
        "expected_model_change"
    ]
    expected = wanted("expected_model_change", x, head, head, KEY)
    np.testing.assert_allclose(values, expected[ids], rtol=2e-5)
    apart = wanted("expected_model_change", x, make(link, "shared"), head, KEY)
    assert np.abs(expected / apart - 1).max() > 0.1


def test_expected_model_change_is_the_length_of_the_step_that_update_makes(x):
    from raysal.models.online.update import update

    head = make("identity", "shared", noise=0.3)
    predicted = read(head, x, "expected_model_change")
    lengths = []
    for y in head.mean @ np.append(x[0], 1) + np.array([-1.0, 1.0])[:, None]:  # both are off by 1
        after = update(head, x[:1], [str(float(y[0]))], ledger_seq=1)
        lengths.append(np.linalg.norm(after.mean - head.mean))
    off = np.sqrt(2 / np.pi * (0.3 + float(predicted.mean_variance[0])))
    np.testing.assert_allclose(float(SCORES["expected_model_change"](predicted)[0]), off * lengths[0], rtol=1e-5)
    np.testing.assert_allclose(*lengths, rtol=1e-9)


def read(
    head: Head, x: np.ndarray, *scores: str, previous: Head | None = None, draws: int = DEFAULT_DRAWS
) -> Predicted:
    """What is read of all rows x [n, d] of one block."""
    answers, _ = answers_of(head)
    sample = gather_evidence(x[:12], answers, None, head.classes, head.likelihood)
    inputs = score_inputs(head, scores, previous=previous, reference=sample, target=TARGET, draws=draws)
    cpu = type("Here", (), {"device": torch.device("cpu"), "dim": x.shape[1], "width": x.shape[1]})()
    reader = ProductReader(cpu, inputs)
    features = torch.from_numpy(x.astype(np.float32))
    out = torch.zeros(reader.numbers, len(x))
    reader.read(reader.matrix(cpu).products(features), features, out)
    return reader.predicted(out)


# -- the length of a gradient, which is that in the frame ----------------------------------------------------


SIZES = {"unlike": np.array([0.3, 2.0, 40.0, 1.0, 7.0, 1e-3]), "one for all": 2.5}
every_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
CENTRE = np.array([3.0, -1.0, 0.2, 0.0, 5.0, -0.4])


def framed(link: str, size: np.ndarray | float) -> Head:
    head = make(link, "shared", noise=0.6 if link == "identity" else 1)
    frame = Frame(centre=CENTRE, size=size, constant=0.3)
    return replace(head, posterior=Shared(root=head.posterior.root, frame=frame))


def lengths_inside(x: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """Of [z, 1], with z the features of the frame, number by number."""
    sizes = np.broadcast_to(size, DIM)
    return np.array([np.sqrt(1 + sum(((h[j] - CENTRE[j]) / sizes[j]) ** 2 for j in range(DIM))) for h in x])


@every_link
@every_size
def test_the_length_of_a_gradient_is_that_in_the_frame_of_the_head(link, size, x, fleet, tmp_path):
    head = framed(link, size)
    if link == "identity":
        residual = np.sqrt(2 / np.pi * (0.6 + head.variance(x)[:, 0]))
    else:
        residual = wanted("expected_gradient_length", x, head, head, KEY) / np.sqrt(1 + (x**2).sum(axis=1))
    request = SweepRequest(scores=("expected_gradient_length",), top=N)
    ids, values = sweep(fleet, head, request).top["expected_gradient_length"]
    np.testing.assert_allclose(values, (residual * lengths_inside(x, size))[ids], rtol=2e-5)
    other = local(make_pool(tmp_path / "pool", x, chunk_rows=7), 4)
    again = sweep(other, head, request).top["expected_gradient_length"]
    assert np.array_equal(again[0], ids)
    assert np.array_equal(again[1], values)


@every_size
@pytest.mark.parametrize("width", [DIM, 16, 32])
def test_what_is_beyond_the_features_of_a_block_adds_nothing_to_a_length(size, width, x):
    inputs = score_inputs(framed("softmax", size), ("expected_gradient_length",))
    cpu = type("Here", (), {"device": torch.device("cpu"), "dim": DIM, "width": width})()
    reader = ProductReader(cpu, inputs)
    features = torch.nn.functional.pad(torch.from_numpy(x.astype(np.float32)), (0, width - DIM))
    out = torch.zeros(reader.numbers, N)
    reader.read(reader.matrix(cpu).products(features), features, out)
    np.testing.assert_allclose(reader.predicted(out).length.numpy(), lengths_inside(x, size), rtol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sizes_of_a_head_beside_the_data_are_one_beyond_its_features(dtype):
    cpu = torch.device("cpu")
    for size in SIZES.values():
        found = Linear.of(framed("softmax", size)).size(16, cpu, dtype)
        expected = [*np.broadcast_to(size, DIM), *[1.0] * 10]
        assert found.dtype == dtype
        assert found.tolist() == torch.tensor(expected, dtype=dtype).tolist()
    assert Linear.of(make("softmax", "shared")).size(16, cpu, dtype).tolist() == [1.0] * 16


# -- what has no score ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["entropy", "least_confidence", "margin", "variation_ratio"])
def test_a_score_of_classes_is_refused_for_numbers_before_any_partition_is_asked(name, fleet):
    with pytest.raises(ConfigError, match="numbers"):
        score_inputs(make("identity", "shared"), (name,))


@every_link
def test_an_ensemble_has_no_step(link):
    head = make(link, "members")
    sample = gather_evidence(np.zeros((12, DIM)), answers_of(head)[0], None, head.classes, head.likelihood)
    for name in ("expected_model_change", "influence"):
        with pytest.raises(ConfigError, match=r"covariance"):
            score_inputs(head, (name,), reference=sample)


def test_influence_wants_a_reference():
    with pytest.raises(ConfigError, match="reference"):
        score_inputs(make("softmax", "shared"), ("influence",))


def test_a_score_that_is_not_a_number_names_the_item(fleet):
    head = make("softmax", "shared")
    huge = replace(head, mean=head.mean * 1e38, linearised_at=head.mean * 1e38)
    with pytest.raises(PoolError, match="item"):
        select(
            fleet, TopScore(score="epistemic_variance"), context_of(head=huge, labelled=np.zeros((0, DIM)), key=1), 3
        )


# -- the head of an earlier round ----------------------------------------------------------------------------


@every_link
def test_without_an_earlier_head_another_score_stands_in_and_says_so(link, x, fleet):
    head, other = make(link, "shared"), "epistemic_variance" if link == "identity" else "entropy"
    nothing = labelled_of(x, [""] * N, [])
    task = context_of(head=head, labelled=nothing.vectors, key=1)
    picks = select(fleet, TopScore(score="tod"), task, 5)
    assert np.array_equal(picks.ids, select(fleet, TopScore(score=other), task, 5).ids)
    assert all(reason.startswith(other) and "tod needs" in reason for reason in picks.reasons)
    to_narrow = task_of(fleet, nothing, head=head, k=2, available=N)
    _, narrowed = Narrow(score="tod", size=5).narrow(fleet, to_narrow)
    assert sorted(narrowed.ids) == sorted(picks.ids)
    assert f"by {other}, as tod needs" in narrowed.rule

    previous = make(link, "shared", seed=3)
    for done in (
        select(fleet, TopScore(score="tod"), replace(task, previous=previous), 5).reasons[0],
        Narrow(score="tod", size=5).narrow(fleet, replace(to_narrow, previous=previous))[1].rule,
    ):
        assert "tod" in done
        assert "needs" not in done
    with pytest.raises(ConfigError, match="earlier round"):
        score_inputs(head, ("tod",))


def test_only_a_head_of_the_same_kind_is_one_to_compare_with():
    head = make("softmax", "shared")
    assert score_to_compute("tod", head, make("softmax", "full")) == "tod"
    assert score_to_compute("tod", head, make("sigmoid", "shared")) == "entropy"
    assert score_to_compute("tod", head, random_head(DIM + 1)) == "entropy"
    assert score_to_compute("tod", None, head) == "tod"
    assert score_to_compute("margin", head, None) == "margin"


def test_a_class_that_the_last_head_did_not_know_had_no_probability(x):
    head = make("softmax", "shared")
    three = replace(head, mean=head.mean[:3], linearised_at=head.mean[:3], classes=head.classes[:3])
    values = SCORES["tod"](read(head, x, "tod", previous=three)).numpy()
    now = reference.probabilities(x, head.weight, head.bias)
    then = np.column_stack([reference.probabilities(x, three.weight, three.bias), np.zeros(N)])
    np.testing.assert_allclose(values, 0.5 * ((now - then) ** 2).sum(1), atol=1e-6)
    assert not SCORES["tod"](read(head, x, "tod", previous=head)).any(), "no head has moved from itself"


# -- numbers -------------------------------------------------------------------------------------------------


@every_link
@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize(("scale", "draws"), [(1.0, 2), (1e4, 2), (1.0, 1)])
def test_no_score_is_nan_and_none_leaves_its_bounds(link, classes, scale, draws):
    rng = np.random.default_rng(1)
    x = np.zeros((40, DIM), np.float32)
    x[4:] = rng.normal(size=(36, DIM)) * 10.0 ** rng.integers(-6, 4, size=(36, 1))
    x[5] = 65504
    classes = 1 if link == "identity" else classes
    head = replace(random_head(DIM, classes, scale=scale), likelihood=LIKELIHOODS[link])
    previous = replace(random_head(DIM, classes, seed=4, scale=scale), likelihood=LIKELIHOODS[link])
    rng = np.random.default_rng(8)
    answers = ["0.5" if link == "identity" else head.classes[c] for c in rng.integers(classes, size=12)]
    for name in offered(head):
        sample = gather_evidence(x[:12], answers, None, head.classes, head.likelihood)
        inputs = score_inputs(head, (name,), previous=previous, reference=sample, target=TARGET, draws=draws)
        cpu = type("Here", (), {"device": torch.device("cpu"), "dim": DIM, "width": DIM})()
        reader = ProductReader(cpu, inputs)
        out = torch.zeros(reader.numbers, len(x))
        reader.read(reader.matrix(cpu).products(torch.from_numpy(x)), torch.from_numpy(x), out)
        values = SCORES[name](reader.predicted(out))
        assert values.shape == (40,)
        assert values.isfinite().all(), name
        assert (values >= 0).all() or name == "log_odds" or (name == "influence" and link != "identity"), name
        bounded = link != "identity" and not name.startswith(("expected", "epistemic", "influence", "log_odds"))
        assert not bounded or (values <= 1).all(), name
        alone = ("bald", "entropy", "margin", "mean_std", "tod", "variation_ratio", "expected_gradient_length")
        if link == "softmax" and classes == 1 and name in alone:
            assert not values.any(), f"{name} of one class"


def test_information_below_the_noise_of_float32_is_still_ordered():
    """A posterior so narrow that entropies of float32 would differ by less than their last digit."""
    x = np.random.default_rng(0).normal(size=(50, DIM)).astype(np.float32)
    head = make("softmax", "shared")
    head = replace(head, posterior=Shared(root=head.posterior.root * 1e-3))
    values = SCORES["bald"](read(head, x, "bald")).numpy()
    expected = reference.head_score("bald", x, head, drawn=head.posterior.samples(head.mean, noise_of(head, 0)))
    assert expected.max() < 1e-5
    np.testing.assert_allclose(values, expected, rtol=1e-2)


def test_epistemic_variance_depends_on_the_temperature_alone_and_rises_with_the_quadratic_form(x):
    cold, warm = make("softmax", "shared"), make("softmax", "shared", temperature=2.0)
    one, other = (SCORES["epistemic_variance"](read(head, x, "epistemic_variance")).numpy() for head in (cold, warm))
    np.testing.assert_allclose(one / 4, other, rtol=1e-6)
    rows = np.column_stack([x, np.ones(N)])
    form = np.einsum("nd,de,ne->n", rows, cold.covariance, rows)
    assert np.array_equal(np.argsort(form[:9]), np.argsort(one[:9]))


def test_a_triangle_is_the_mean_of_its_form_and_as_small_as_it_can_be(x):
    rows = np.column_stack([x, np.ones(N)])
    for structure in sorted(STRUCTURES):
        form = make("softmax", structure).posterior.variance()
        small = triangular_root(form)
        assert small.shape == (min(len(form.project), DIM + 1), DIM + 1)
        assert not np.abs(small[:-1, -1]).max() > 0, "the constant counts in one row only"
        np.testing.assert_allclose(((rows @ small.T) ** 2).sum(1), form.of(rows).mean(1), rtol=1e-9)
    assert isinstance(make("softmax", "kronecker").posterior, Kronecker)


@pytest.mark.parametrize("structure", ["shared", "kronecker", "diagonal"])
def test_what_travels_has_the_same_bits_for_any_number_of_threads(structure):
    rows = np.random.default_rng(0).normal(size=(500, 257))
    curvature = Curvature(SOFTMAX, SOFTMAX.responses(rows[:, :9]), np.ones(500))
    head = replace(random_head(256, 9), posterior=STRUCTURES[structure].fit(rows, curvature, 0.7, 9))
    blas, torches, found = ThreadpoolController().select(user_api="blas"), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with blas.limit(limits=threads):
            found.append(score_inputs(head, ("bald", "epistemic_variance"), key=3))
    torch.set_num_threads(torches)
    one, two = found
    assert np.array_equal(one.samples, two.samples)
    assert np.array_equal(one.deviation, two.deviation)


def test_draws_for_many_classes_come_in_smaller_blocks():
    few, many = score_inputs(random_head(4, 10), ("bald",)), score_inputs(random_head(4, 1500), ("bald",))
    cpu = type("Here", (), {"device": torch.device("cpu"), "dim": 4, "width": 16})()
    assert ProductReader(cpu, score_inputs(random_head(4, 10))).block_rows == 4096
    assert ProductReader(cpu, few).block_rows == 512
    assert ProductReader(cpu, many).block_rows == 128
    assert ProductReader(cpu, score_inputs(random_head(4, 1500))).block_rows == 512


def test_a_score_must_say_what_it_uses():
    wrong = Score(SCORES["tod"], ())
    with pytest.raises(ValueError, match="did not say"):
        wrong(Predicted(likelihood=SOFTMAX, logits=torch.zeros(3, 2)))


def test_scores_are_of_the_whole_program(fleet):
    """The inputs of scores, and not the head, travel: what a partition answers needs nothing else."""
    head = make("softmax", "shared")
    request = SweepRequest(scores=("bald",), top=3, key=KEY)
    parts = fleet.each(sweep_partition, score_inputs(head, ("bald",), key=derive(KEY, "scores")), request)
    best = max(float(part.top["bald"][1][0]) for part in parts)
    assert best == sweep(fleet, head, request).top["bald"][1][0]
