"""Labels told in groups are labels told one by one: the same ledger, the same counts, each refusal its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pools import make_pool

from raysal.errors import LabelError
from raysal.rounds.run_labels import RunLabels, begin_run
from raysal.types import SKIP, Label
from raysal.web.telling import Teller, _Request

IDS = {f"item-{i:06d}": i for i in range(4)}
PEOPLE = ("ann", "bob")
SAID = st.tuples(st.sampled_from(list(IDS)), st.sampled_from(PEOPLE), st.sampled_from(("cat", "dog", SKIP, None)))
REQUESTS = st.lists(st.lists(SAID, min_size=1, max_size=3, unique_by=lambda said: said[0]), min_size=1, max_size=5)


def run_of(folder: Path) -> RunLabels:
    make_pool(folder / "pool", np.eye(4), chunk_rows=2)
    begin_run(folder / "run", folder / "pool")
    return RunLabels.open(folder / "run", folder / "pool")


def request_of(said: list[tuple[str, str, str | None]]) -> _Request:
    labels = [Label(key=key, label=text, annotator=who) for key, who, text in said if text is not None]
    return _Request(labels, [(key, who) for key, who, text in said if text is None], IDS)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunLabels, RunLabels]]:
    """Two runs over one pool."""
    folder = tmp_path_factory.mktemp("telling")
    make_pool(folder / "pool", np.eye(4), chunk_rows=2)
    for name in ("one", "all"):
        begin_run(folder / name, folder / "pool")
    with RunLabels.open(folder / "one") as one, RunLabels.open(folder / "all") as together:
        yield one, together


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS)
def test_a_group_is_its_requests_one_after_another(twins: tuple[RunLabels, RunLabels], requests):
    for labels in twins:
        labels.tell([], withdrawn=[(key, who) for key in IDS for who in PEOPLE], ids=IDS)
    one, together = twins
    group = [request_of(said) for said in requests]
    counts = [one.tell(request.labels, withdrawn=request.withdrawn, ids=IDS) for request in group]
    Teller(together)._tell(group)
    found = [request.done.result() for request in group]
    assert one.ledger.answers(skips=True) == together.ledger.answers(skips=True)
    without = [asdict(count) | {"disputed": 0} for count in counts]  # a group tells what is disputed at its end
    assert [asdict(count) | {"disputed": 0} for count in found] == without
    assert found[-1].disputed == counts[-1].disputed


def test_a_bad_label_refuses_nobody_elses(tmp_path: Path):
    with run_of(tmp_path) as labels:
        good, bad = request_of([("item-000000", "ann", "cat")]), request_of([("item-000001", "bob", " ")])
        Teller(labels)._tell([good, bad])
        assert good.done.result().new == 1
        with pytest.raises(LabelError, match="item-000001"):
            bad.done.result()
        assert [label.key for label in labels.ledger.answers()] == ["item-000000"]


def test_every_thread_gets_its_own_answer_and_nothing_is_lost(tmp_path: Path):
    with run_of(tmp_path) as labels:
        teller, found = Teller(labels), {}

        def work(number: int) -> None:
            for turn, key in enumerate(IDS):
                label = Label(key=key, label="cat", annotator=f"p{number}")
                found[number, turn] = teller.tell([label], [], IDS)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [count.new for count in found.values()] == [1] * 32
        assert len(labels.ledger.answers()) == 32
