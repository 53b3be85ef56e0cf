"""Several labels at once, and numbers, through everything a round does: what labels say, strategies, sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from pools import make_pool, mixture
from programs import Outcome, local, run_program, small

import raysal
from raysal.config import parse_config
from raysal.context import LabelledVectors
from raysal.errors import ConfigError, LabelError
from raysal.labels import read_labels
from raysal.models.head import Head
from raysal.models.likelihood import IDENTITY, LIKELIHOODS, SIGMOID, SOFTMAX
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import Trainer, TrainingData
from raysal.narrowing import NARROWERS
from raysal.narrowing.anchoral import AnchorAL
from raysal.narrowing.anchors import anchor_rows
from raysal.narrowing.outliers import fit_gaussians
from raysal.pool import Pool
from raysal.report.records import read_answers, read_arm
from raysal.rng import item_uniform
from raysal.rounds.loop import run
from raysal.rounds.session import Session
from raysal.strategies import SELECTORS
from raysal.types import Label

N, DIM = 260, 9
LINKS = ("sigmoid", "identity")
every_link = pytest.mark.parametrize("link", LINKS)
TRAINER = {"sigmoid": "multi_label", "identity": "regression"}


def told_by(x: np.ndarray, link: str) -> list[str]:
    """Labels that a linear head can learn."""
    directions = np.random.default_rng(1).normal(size=(3, x.shape[1]))
    outputs = x @ directions.T
    if link == "identity":
        return [f"{value:.4f}" for value in outputs[:, 0] + 40]
    return ["|".join(np.array(["a", "b", "c"])[row > np.median(outputs, 0)]) or "-" for row in outputs]


# -- what a label says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "text", "names", "written"),
    [
        ("softmax", "a|b", ("a|b",), "a|b"),
        ("softmax", "-", ("-",), "-"),
        ("sigmoid", "b| a ", ("a", "b"), "a|b"),
        ("sigmoid", "a b", ("a b",), "a b"),
        ("sigmoid", " - ", (), "-"),
        ("identity", "3.0", ("value",), "3"),
        ("identity", " -2.50 ", ("value",), "-2.5"),
        ("identity", "1e3", ("value",), "1000"),
        ("identity", "-0", ("value",), "0"),
        ("identity", "1e30", ("value",), "1e+30"),
    ],
)
def test_labels_that_say_the_same_are_written_the_same(link: str, text: str, names: tuple[str, ...], written: str):
    likelihood = LIKELIHOODS[link]
    assert likelihood.names_in(text) == names
    assert likelihood.plain(text) == likelihood.plain(written) == written


@pytest.mark.parametrize(
    ("link", "text", "problem"),
    [
        ("sigmoid", "a||b", "empty part"),
        ("sigmoid", "|", "empty part"),
        ("sigmoid", "", "empty part"),
        ("sigmoid", "a|b|a", "names 'a' twice"),
        ("sigmoid", "-|a", "says none beside others"),
        ("identity", "cat", "not a number"),
        ("identity", "nan", "not a number"),
        ("identity", "-inf", "not a number"),
        ("identity", "3 m", "not a number"),
    ],
)
def test_what_is_no_label_names_the_item(link: str, text: str, problem: str) -> None:
    for of in (LIKELIHOODS[link].names_in, LIKELIHOODS[link].plain):
        with pytest.raises(LabelError, match=f"'photo 7': .*{problem}"):
            of(text, repr("photo 7"))


def test_names_of_many_labels_and_names_that_cannot_be() -> None:
    assert SIGMOID.output_names(["b", "c", "a", "b"]) == ("a", "b", "c")
    assert IDENTITY.output_names([]) == IDENTITY.output_names(["value"]) == ("value",)
    assert SOFTMAX.output_names(["b|a"]) == ("b|a",)
    SOFTMAX.check_names(["a|b", "-"], "update.classes")
    IDENTITY.check_names([], "update.classes")
    with pytest.raises(ConfigError, match=r"update.classes: 'cat' is a class, and labels are numbers"):
        IDENTITY.check_names(["cat"], "update.classes")
    with pytest.raises(ConfigError, match=r"update.classes: 'a.b' cannot be one of several"):
        SIGMOID.check_names(["a|b"], "update.classes")


# -- strategies and narrowers -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("links") / "pool", mixture(N, DIM)[0], chunk_rows=100)


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[LabelledVectors, Head]]:
    """Thirty labelled items and the head they make."""
    x = mixture(N, DIM)[0]
    found: dict[str, tuple[LabelledVectors, Head]] = {}
    for link in LINKS:
        labels = told_by(x, link)[:30]
        trainer: Trainer = TRAINERS[TRAINER[link]]()
        head = trainer.fit(
            TrainingData(features=x[:30], labels=labels, classes=[] if link == "identity" else ["a", "b", "c"])
        )
        found[link] = (
            LabelledVectors(ids=np.arange(30), vectors=x[:30], classes=labels, likelihood=LIKELIHOODS[link]),
            head,
        )
    return found


VECTORS_ALONE = ("coreset", "kmeans_plus_plus", "max_herding", "probcover", "random", "typiclust")
INFORMED = ("batch_bald", "epig", "lcmd", "power_bald")
WORKS = {
    "sigmoid": (*VECTORS_ALONE, *INFORMED, "badge", "clue", "ldm", "pcoreset", "power_margin", "top_score"),
    "identity": (*VECTORS_ALONE, *INFORMED),
}


def outcomes(pool: Pool, selector: str, narrower: str, known: tuple[LabelledVectors, Head]) -> Outcome | ConfigError:
    """What comes out, the same over one partition and over three; or why nothing does."""
    labelled, head = known
    try:
        one, three = (
            run_program(local(pool, count), SELECTORS[selector](), small(narrower), head=head, labelled=labelled, k=5)
            for count in (1, 3)
        )
    except ConfigError as error:
        return error
    assert three.same_as(one)
    return one


@every_link
@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_every_strategy_works_or_says_what_to_use(name: str, link: str, pool: Pool, known) -> None:
    found = outcomes(pool, name, "none", known[link])
    if isinstance(found, ConfigError):
        assert name not in WORKS[link], found
        assert found.fix
    else:
        assert len(set(found.picks.ids.tolist())) == 5
        assert found.picks.ids.min() >= 30


@every_link
@pytest.mark.parametrize("name", sorted(NARROWERS))
def test_every_narrower_works_or_says_what_to_use(name: str, link: str, pool: Pool, known) -> None:
    found = outcomes(pool, "random", name, known[link])
    if isinstance(found, ConfigError):  # a score of classes, where there are none
        assert link == "identity"
        assert name in ("mixed", "refine", "top_score")
        assert "epistemic_variance" in str(found)
    else:
        assert found.candidates.ids is None or 0 < len(found.candidates.ids) < N - 30


def test_numbers_are_narrowed_and_ranked_by_what_the_head_is_unsure_of(pool: Pool, known) -> None:
    labelled, head = known["identity"]
    narrower = NARROWERS["top_score"](score="epistemic_variance", size=20)  # type: ignore[call-arg]
    selector = SELECTORS["top_score"](score="epistemic_variance")  # type: ignore[call-arg]
    outcome = run_program(local(pool, 2), selector, narrower, head=head, labelled=labelled, k=9)
    x = mixture(N, DIM)[0]
    wanted = 30 + np.argsort(-head.variance(x[30:])[:, 0], kind="stable")
    assert outcome.picks.ids.tolist() == wanted[:9].tolist()
    assert sorted(outcome.candidates.ids.tolist()) == sorted(wanted[:20].tolist())


def test_with_several_labels_margin_is_the_mean_over_them(pool: Pool, known) -> None:
    labelled, head = known["sigmoid"]
    picks = run_program(local(pool, 2), SELECTORS["top_score"](), small("none"), head=head, labelled=labelled).picks
    p = head.probabilities(mixture(N, DIM)[0])
    values = 1 - np.abs(2 * p - 1).mean(1)
    assert picks.ids.tolist() == (30 + np.argsort(-values[30:], kind="stable"))[:12].tolist()
    np.testing.assert_allclose(picks.scores, values[picks.ids], atol=1e-5)
    drawn = run_program(
        local(pool), SELECTORS["power_margin"](beta=0.0), small("none"), head=head, labelled=labelled, k=20
    ).picks  # type: ignore[call-arg]
    lowest = 30 + np.argsort(-item_uniform(8, np.arange(30, N)))[:20]  # without the score only the noise is left
    assert drawn.ids.tolist() == lowest.tolist()


def test_with_several_labels_badge_is_the_race_over_their_gradients(pool: Pool, known) -> None:
    labelled, head = known["sigmoid"]
    picks = run_program(
        local(pool, 2), SELECTORS["badge"](), small("none"), head=head, labelled=labelled, k=40, key=7
    ).picks
    x, ids = mixture(N, DIM)[0][30:], np.arange(30, N)
    centre = head.frame.centre
    dense = reference.gradient_embeddings(x - centre, head.weight, head.bias + head.weight @ centre, "sigmoid")
    assert np.array_equal(picks.ids, reference.badge(dense, ids, 40, 8))


def test_an_item_is_an_anchor_of_each_of_its_labels(known) -> None:
    labelled, head = known["sigmoid"]
    groups = labelled.by_class()
    for name in "abc":
        assert groups[name].tolist() == [row for row, text in enumerate(labelled.classes) if name in text]
    for strategy in ("entropy", "kmeans", "kmeans++", "random"):
        rows = anchor_rows(labelled, head, "cosine", 7, anchors=4, strategy=strategy, classes={})
        assert len(set(rows.tolist())) == len(rows) <= 12
        assert all(np.isin(rows, group).sum() >= 4 for group in groups.values())
    p = head.probabilities(labelled.vectors)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(head.likelihood.entropy(p), expected)
    numbers, of_numbers = known["identity"]
    assert len(anchor_rows(numbers, of_numbers, "l2", 7, anchors=4, strategy="entropy", classes={})) == 4


def test_items_without_any_label_are_no_anchors_and_no_outliers(pool: Pool, known) -> None:
    labelled, head = known["sigmoid"]
    nothing = LabelledVectors(ids=labelled.ids, vectors=labelled.vectors, classes=["-"] * 30, likelihood=SIGMOID)
    narrower = AnchorAL(anchors=3, neighbours=20, subpool=50)
    outcome = run_program(local(pool), SELECTORS["random"](), narrower, head=head, labelled=nothing)
    assert outcome.candidates.rule == f"all {N - 30}"
    alone = LabelledVectors(ids=labelled.ids, vectors=labelled.vectors, classes=["x"] * 30)
    assert all(map(np.array_equal, fit_gaussians(nothing, "l2"), fit_gaussians(alone, "l2")))
    both = LabelledVectors(ids=labelled.ids, vectors=labelled.vectors, classes=["p|q"] * 30, likelihood=SIGMOID)
    np.testing.assert_allclose(fit_gaussians(both, "l2").means, np.zeros((2, DIM)), atol=1e-5)


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pool]:
    x, root = mixture(N, DIM)[0], tmp_path_factory.mktemp("sessions")
    return {link: make_pool(root / link, x, chunk_rows=100, labels=told_by(x, link)) for link in LINKS}


def fields(link: str, **update: Any) -> dict[str, Any]:
    score = "margin" if link == "sigmoid" else "epistemic_variance"
    return {
        "oracle": {"name": "simulated"},
        "select": {"name": "top_score", "score": score},
        "update": {"trainer": {"name": TRAINER[link]}, **update},
        "rounds": {"count": 3, "k": 14},
        "seed": 2,
    }


LAPLACE = {"mode": "laplace", "retrain_every": 50, "retrain_share": 50.0}


@every_link
def test_a_run_learns_and_says_where_it_stands(link: str, pools: dict[str, Pool], tmp_path: Path) -> None:
    config = {**fields(link, **LAPLACE), "pool": str(pools[link].path), "fleet": {"backend": "local"}}
    done = run(parse_config(config), tmp_path / "run")
    assert (done.rounds, done.labels, done.finished) == (3, 42, True)
    x = mixture(N, DIM)[0]
    with Session(tmp_path / "run") as session:
        head, status = session.current_head(), session.status()
        assert head is not None
        told = [item.label for item in session.ledger.labels()]
    if link == "identity":
        assert status.classes == {"value": 42}
        truth = np.array([float(text) for text in told_by(x, link)])
        assert np.abs(head.probabilities(x)[:, 0] - truth).mean() < 0.05 * truth.std()
    else:
        assert status.classes == {name: sum(name in text for text in told) for name in "abc"}
        truth = np.array([[name in text for name in "abc"] for text in told_by(x, link)])
        assert ((head.probabilities(x) > 0.5) == truth).mean() > 0.85


@pytest.mark.parametrize("select", ["top_score", "coreset"])
def test_with_numbers_updating_is_retraining(select: str, pools: dict[str, Pool], tmp_path: Path) -> None:
    """Three rounds with a correction between, by steps and by new fits: the same picks and the same heads."""
    trainer = {"name": "regression", "noise": 0.1, "prior": 0.5, "constant": 1e-4}
    found = []
    for name, update in (("stepped", LAPLACE), ("fitted", {"mode": "retrain"})):
        config = fields("identity", **update)
        config["update"]["trainer"] = trainer
        if select == "coreset":
            config["select"] = {"name": "coreset"}
        with Session(tmp_path / name, pools["identity"], **config) as session:
            for round in range(4):
                batch = session.query()
                session.ask_oracle(batch)
                if round == 1:
                    session.tell([Label(key=batch.keys[3], label="17", annotator="simulated")])
                    session.tell({batch.keys[4]: "1"})
                    session.tell({batch.keys[4]: told_by(mixture(N, DIM)[0], "identity")[batch.ids[4]]})
            decisions = [session.record(round)["decision"].split()[0] for round in range(4)]
            found.append((decisions, [session.batch(round).ids for round in range(4)], session.current_head()))
    (steps, stepped, one), (fits, fitted, other) = found
    assert steps[2:] == ["updated", "updated"]
    assert fits[2:] == ["fitted:", "fitted:"]
    assert stepped == fitted
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-8)


def test_several_labels_follow_at_once_and_a_new_one_joins(pools: dict[str, Pool], tmp_path: Path) -> None:
    with Session(tmp_path / "run", pools["sigmoid"], **fields("sigmoid", **LAPLACE)) as session:
        for _ in range(2):
            batch = session.query()
            session.ask_oracle(batch)
        before = session.current_head()
        assert before is not None
        session.tell([Label(key=batch.keys[0], label="new | a", annotator="simulated")])
        after = session.current_head()
        assert after is not None
        assert set(after.classes) == {"a", "b", "c", "new"}
        assert after.version > before.version
        # Another's answer in other words is no dispute.
        session.tell([Label(key=batch.keys[0], label="a|new", annotator="another")])
        assert session.status().disputed == 0
        assert session.status().classes["new"] == 1
        session.query()
        assert session.current_head() is not None
        assert session.current_head().classes == ("a", "b", "c", "new")


@pytest.mark.parametrize(
    ("link", "label", "problem"),
    [
        ("identity", "tall", "not a number"),
        ("sigmoid", "a||b", "empty part"),
        ("sigmoid", "a|a", "names 'a' twice"),
    ],
)
def test_a_label_of_another_kind_is_refused_before_it_is_recorded(link, label, problem, pools, tmp_path: Path) -> None:
    with Session(tmp_path / "run", pools[link], **fields(link, **LAPLACE)) as session:
        first = session.query()
        session.ask_oracle(first)
        asked = {*first.ids, *session.query().ids}
        one, other = [id for id in range(N) if id not in asked][:2]
        before, seq = session.current_head(), session.ledger.head_seq
        key = f"item-{other:06d}"
        with pytest.raises(LabelError, match=f"'{key}': .*{problem}"):
            session.tell({f"item-{one:06d}": "3" if link == "identity" else "a", key: label})
        assert session.ledger.head_seq == seq
        assert session.current_head() is before
        # Told behind its back, it is named when it is learnt from.
        session.ledger.tell([(other, Label(key=key, label=label))])
        for look in (session.query, session.status):
            with pytest.raises(LabelError, match=f"'{key}': .*{problem}"):
                look()


def test_what_a_config_says_of_classes_must_fit(pools: dict[str, Pool], tmp_path: Path) -> None:
    noisy = {**fields("identity"), "oracle": {"name": "simulated", "noise": 0.1}}
    with pytest.raises(ConfigError, match=r"oracle.noise: takes one class for another, and labels are numbers"):
        Session(tmp_path / "a", pools["identity"], **noisy)
    with pytest.raises(ConfigError, match=r"update.classes: 'a' is a class"):
        Session(tmp_path / "a", pools["identity"], **fields("identity", classes=["a"]))
    with pytest.raises(ConfigError, match=r"update.classes: 'a.b' cannot be"):
        Session(tmp_path / "a", pools["sigmoid"], **fields("sigmoid", classes=["a|b"]))
    assert not (tmp_path / "a").exists()
    with Session(tmp_path / "b", pools["sigmoid"], **fields("sigmoid", classes=["z"])) as session:
        session.ask_oracle(session.query())
        assert session.current_head() is not None
        assert session.current_head().classes == ("a", "b", "c", "z")


@every_link
def test_labels_travel_through_files(link: str, pools: dict[str, Pool], tmp_path: Path) -> None:
    from raysal.labels import write_labels

    with Session(tmp_path / "run", pools[link], **fields(link)) as session:
        session.ask_oracle(session.query())
        told = session.ledger.answers()
        for suffix in ("csv", "jsonl", "parquet"):
            write_labels(tmp_path / f"l.{suffix}", told)
            again = session.tell(read_labels(tmp_path / f"l.{suffix}").labels)
            assert (again.repeated, again.new, again.corrected) == (14, 0, 0)


def test_numbers_come_as_numbers_too(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"key": "a", "label": 2.5}\n{"key": "b", "label": 3.0}\n')
    assert [label.label for label in read_labels(tmp_path / "l.jsonl").labels] == ["2.5", "3"]
    x = mixture(60, 4)[0]
    numbers = make_pool(tmp_path / "pool", x, labels=[float(value) for value in x[:, 0]])  # type: ignore[misc]
    with Session(tmp_path / "run", numbers, **fields("identity")) as session:
        session.ask_oracle(session.query())
        assert session.current_head() is not None
        np.testing.assert_allclose(session.current_head().probabilities(x)[:, 0], x[:, 0], atol=1e-3)


@every_link
def test_a_batch_for_a_run_and_its_report_take_labels_for_what_they_are(link, pools, tmp_path: Path) -> None:
    with Session(tmp_path / "run", pools[link], **fields(link)) as session:
        session.ask_oracle(session.query())
        head, asked = session.current_head(), session.ledger.excluded()
        counts = session.status().classes
    assert head is not None
    select = {key: value for key, value in fields(link)["select"].items() if key != "name"}
    table = raysal.select(pools[link], k=5, labels=tmp_path / "run", strategy={"name": "top_score", **select})
    x = mixture(N, DIM)[0]
    values = 1 - np.abs(2 * head.probabilities(x) - 1).mean(1) if link == "sigmoid" else head.variance(x)[:, 0]
    values[asked] = -1
    assert table["id"].to_pylist() == np.argsort(-values, kind="stable")[:5].tolist()
    answers = read_answers(read_arm(tmp_path / "run"))
    assert answers.given == (counts if link == "sigmoid" else {})


@every_link
@pytest.mark.parametrize(
    "part",
    [
        {"select": "falcun"},
        {"select": {"name": "fantasy", "of": "falcun"}},
        {"select": {"name": "skip_extremes", "of": "drop_query"}},
        {"narrow": {"name": "refine", "members": ["random", "falcun"]}},
        {"narrow": {"name": "filter", "inner": {"name": "refine", "members": ["falcun"]}}},
        {"narrow": {"name": "filter", "inner": {"name": "top_score"}}},
    ],
)
def test_a_rule_that_cannot_work_is_refused_before_anybody_labels_for_it(part, link, pools, tmp_path: Path) -> None:
    config = {**fields(link), **part}
    if link == "sigmoid" and "top_score" in str(part):
        Session(tmp_path / "run", pools[link], **config).close()  # there margin makes sense
        return
    with pytest.raises(ConfigError, match="and the head predicts"):
        Session(tmp_path / "run", pools[link], **config)
    assert not (tmp_path / "run").exists()


def test_bait_is_for_numbers_and_not_for_several_labels(pools, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="and the head predicts several labels"):
        Session(tmp_path / "sigmoid", pools["sigmoid"], **{**fields("sigmoid"), "select": {"name": "bait"}})
    narrow = {"name": "refine", "members": ["random", "bait"], "rounds": 1, "subset": 100}
    config = {**fields("identity", **LAPLACE), "select": {"name": "bait"}, "narrow": narrow}
    with Session(tmp_path / "identity", pools["identity"], **config) as session:
        for _ in range(3):
            session.ask_oracle(session.query(6))
        assert session.record(2)["strategy"] == "bait"
        assert session.status().labeled == 18


@every_link
def test_rules_that_can_work_are_not_refused(link, pools, tmp_path: Path) -> None:
    score = fields(link)["select"]["score"]
    inner = {"name": "top_score", "score": score}
    for place, select in enumerate(
        [
            {"name": "coreset"},
            {"name": "skip_extremes", "of": "coreset", "score": score},
            {"name": "fantasy", "of": inner},
            {"name": "reveal", "of": inner},
        ]
    ):
        parts = [{"name": "anchoral", "anchors": 3}, {"name": "top_score", "score": score}]
        narrow = {"name": "filter", "outliers": "mahalanobis", "inner": {"name": "mixed", "size": 90, "parts": parts}}
        config = {**fields(link, **LAPLACE), "select": select, "narrow": narrow}
        with Session(tmp_path / str(place), pools[link], **config) as session:
            for _ in range(2):
                session.ask_oracle(session.query(6))
            assert session.record(1)["strategy"] == select["name"]
            assert session.status().labeled == 12


def test_votes_that_differ_count_by_their_mean_or_their_shares(pools: dict[str, Pool], tmp_path: Path) -> None:
    x = mixture(N, DIM)[0]
    found = {}
    for link, one, other in (("identity", "3", "5"), ("sigmoid", "new|a", "a")):
        config = fields(link, disputed="votes", **LAPLACE)
        if link == "identity":
            config["update"]["trainer"] |= {"noise": 0.1, "prior": 0.5, "constant": 1e-4}
        with Session(tmp_path / link, pools[link], **config) as session:
            for _ in range(2):
                session.ask_oracle(session.query())
            votes = (("x", one), ("y", other))
            session.tell([Label(key="item-000200", label=text, annotator=who) for who, text in votes])
            session.query()
            assert session.status().disputed == 1
            found[link] = session.current_head(), session.ledger.labels(votes=True)
    head, items = found["identity"]
    mean = [("4" if item.id == 200 else item.label) for item in items]
    weights = np.array([item.weight for item in items])
    fitted = TRAINERS["regression"](noise=0.1, prior=0.5, constant=1e-4).fit(
        TrainingData(features=x[[item.id for item in items]], labels=mean, weights=weights, classes=[])
    )
    assert head is not None
    np.testing.assert_allclose(head.mean, fitted.mean, rtol=1e-9)
    assert found["sigmoid"][0].classes == ("a", "b", "c", "new")
