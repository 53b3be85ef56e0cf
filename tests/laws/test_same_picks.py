"""Law 1: the same picks, to the last bit, wherever the rows lie, for any number of threads, here or on Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import EACH_MECHANISM, EVERY_PART, GREEDY, ON_RAY, ON_THE_WHOLE, PAIRS, UNDER_EVERY_NARROWER, Case, make_case
from pools import make_pool, mixture
from programs import TARGET, labelled_of, local, run_program, same, small, strategy
from tiers import deep_unless

from raysal.context import LabelledVectors
from raysal.fleet import Fleet, plan_partitions
from raysal.models.posterior import Diagonal, Members
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.scoring.registry import SCORES
from raysal.scoring.sweep import SweepRequest, sweep
from raysal.strategies import SELECTORS

every_score = pytest.mark.parametrize("score", sorted(SCORES))
every_pair = pytest.mark.parametrize(("selector", "narrower"), deep_unless(EVERY_PART, PAIRS))


@every_pair
def test_picks_depend_neither_on_partitions_nor_on_chunks(selector, narrower, main_case, main_pools, expected):
    layouts = ((64, 1), (700, 2), (64, 5)) if narrower == "none" else ((64, 2), (720, 5))
    for rows, partitions in layouts:
        outcome = main_case.run(local(main_pools[rows], partitions), selector, narrower)
        assert outcome.same_as(expected(selector, narrower)), f"{partitions} partitions of chunks of {rows}"


@pytest.mark.parametrize("selector", deep_unless(EACH_MECHANISM, sorted(SELECTORS)))
@pytest.mark.parametrize("narrower", deep_unless(["none"], ["none", "anchoral"]))
def test_picks_are_the_same_with_rows_of_their_own_and_partitions_without_any(selector, narrower, tiny):
    case, pools = tiny
    outcomes = [
        case.run(local(pools[rows], partitions), selector, narrower, k=5) for rows, partitions in ((20, 1), (1, 23))
    ]
    assert all(outcome.same_as(outcomes[0]) for outcome in outcomes)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, dict[int, Pool]]:
    root = tmp_path_factory.mktemp("tiny")
    case = make_case(20, 5, seed=4, labels=4)
    return case, {rows: case.pool(root / str(rows), rows) for rows in (1, 20)}


@pytest.fixture(scope="module")
def ray_fleet(main_pools: dict[int, Pool], ray_session: None) -> Iterator[Fleet]:
    from raysal.fleet.ray_fleet import RayFleet

    with RayFleet(plan_partitions(main_pools[64], 3)) as fleet:
        yield fleet


@pytest.mark.parametrize(("selector", "narrower"), deep_unless(ON_RAY, [*ON_THE_WHOLE, *UNDER_EVERY_NARROWER]))
def test_picks_on_ray_are_those_in_this_process(selector, narrower, main_case, ray_fleet, expected):
    assert main_case.run(ray_fleet, selector, narrower).same_as(expected(selector, narrower))


@pytest.fixture(scope="module", params=[(9_000, 33), (600, 1281), (600, 16)])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Pool, Pool]:
    """Several blocks, or an odd width; as one chunk and as three."""
    n, dim = request.param
    case, root = make_case(n, dim, seed=dim), tmp_path_factory.mktemp("odd")
    return case, case.pool(root / "a", n), case.pool(root / "b", -(-n // 3) + 1)


@pytest.mark.parametrize(
    ("selector", "narrower"), [("badge", "anchoral"), ("coreset", "none"), ("top_score", "top_score")]
)
def test_picks_stay_the_same_over_several_blocks_and_at_odd_widths(selector, narrower, odd):
    case, pool, other = odd
    expected = case.run(local(pool), selector, narrower)
    assert case.run(local(pool, 2), selector, narrower).same_as(expected)
    assert case.run(local(other, 5), selector, narrower).same_as(expected)


@pytest.mark.parametrize("threads", [2, 3])
@every_pair
def test_the_number_of_threads_changes_no_bit(selector, narrower, threads, main_case, main_pools, expected):
    """As with the one thread that tests have."""
    before, wanted = torch.get_num_threads(), expected(selector, narrower)
    assert before == 1
    try:
        torch.set_num_threads(threads)
        assert main_case.run(local(main_pools[64], 2), selector, narrower).same_as(wanted)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("selector", GREEDY)
def test_taking_out_an_item_that_was_not_picked_changes_nothing(selector, main_case, main_pools):
    fleet = local(main_pools[64], 2)
    before = main_case.run(fleet, selector, "none").picks
    for bystander in np.setdiff1d(main_case.offered, before.ids)[::90].tolist():
        after = run_program(
            fleet,
            strategy(selector),
            small("none"),
            head=main_case.head,
            labelled=main_case.labelled,
            excluded=[*main_case.excluded, bystander],
            reveal=main_case.reveal,
        ).picks
        assert np.array_equal(after.ids, before.ids)
        assert np.array_equal(after.scores, before.scores)


@every_score
def test_no_score_depends_on_where_the_rows_lie_or_on_the_number_of_threads(score, main_case, main_pools):
    selector, narrower = SELECTORS["top_score"](score=score), NARROWERS["top_score"](score=score, size=60)
    before, outcomes = torch.get_num_threads(), []
    try:
        for rows, partitions, threads in ((720, 1, 1), (64, 2, 2), (700, 5, 3)):
            torch.set_num_threads(threads)
            outcomes.append(main_case.run(local(main_pools[rows], partitions), selector, narrower))
    finally:
        torch.set_num_threads(before)
    assert outcomes[1].same_as(outcomes[0])
    assert outcomes[2].same_as(outcomes[0])


@pytest.mark.parametrize("structure", ["diagonal", "members"])
def test_no_score_depends_on_where_the_rows_lie_over_several_blocks(structure, tmp_path):
    """All scores at once, and so all inputs of scores side by side; some blocks end in the middle."""
    case = make_case(9_000, 33, seed=3)
    rng = np.random.default_rng(1)
    shape = case.head.mean.shape
    posterior = Members(weights=case.head.mean + 0.1 * rng.normal(size=(9, *shape)))
    if structure == "diagonal":
        posterior = Diagonal(precision=rng.uniform(1, 9, shape), prior=1.0)
    head = replace(case.head, posterior=posterior)
    scores = tuple(name for name in SCORES if name not in ("expected_model_change", "influence"))
    request = SweepRequest(scores=scores, top=200)
    first, *others = (
        sweep(local(case.pool(tmp_path / str(rows), rows), parts), head, request, previous=case.previous, target=TARGET)
        for rows, parts in ((9_000, 1), (1_300, 2), (9_000, 5))
    )
    for other in others:
        for name in scores:
            assert same(other.top[name], first.top[name]), name
            assert np.array_equal(other.histograms[name], first.histograms[name])


def test_coreset_picks_the_same_vectors_in_whatever_order_the_rows_come(tmp_path):
    x, names = mixture(300, 20, seed=9)
    order = np.random.default_rng(0).permutation(300)
    labelled = labelled_of(x, names, range(5))
    straight = run_program(
        local(make_pool(tmp_path / "a", x), 2),
        SELECTORS["coreset"](),
        small("none"),
        head=None,
        labelled=labelled,
    ).picks
    place = np.argsort(order)
    turned = LabelledVectors(
        ids=np.sort(place[:5]), vectors=labelled.vectors[np.argsort(place[:5])], classes=labelled.classes
    )
    shuffled = run_program(
        local(make_pool(tmp_path / "b", x[order]), 2),
        SELECTORS["coreset"](),
        small("none"),
        head=None,
        labelled=turned,
    ).picks
    assert np.array_equal(order[shuffled.ids], straight.ids)
