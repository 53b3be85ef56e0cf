"""What `Session.tell` of one label takes, for pools of several sizes: part of `benchmarks.laplace update`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import random_pool
from raysal import Session
from raysal.context import LabelledVectors
from raysal.models.head import Head
from raysal.models.online.update import update
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.rounds.gathering import gather_labelled, gather_vectors
from raysal.rounds.learner import apply_new_labels

DIM, CLASSES, LABELS = 256, 10, 1000


def tells(sizes: list[int], count: int, folder: Path | None) -> Iterator[dict[str, Any]]:
    """For each size of a pool: seconds of `count` tells of one label each, after the first 1,000."""
    for rows in sizes:
        if folder is None:
            with tempfile.TemporaryDirectory() as own:
                yield measured(Path(own), rows, count)
        else:
            yield measured(folder, rows, count)


def measured(folder: Path, rows: int, count: int) -> dict[str, Any]:
    """Median seconds of the whole `tell` of an item that was asked for, of `apply_new_labels`, which is the head's part
    of it (news from the ledger, its vector, the move), of the closed-form step alone, of a retrain on as many labels
    (the ledger, their vectors, the fit), and of its fit alone."""
    pool = random_pool(folder / f"random-{rows}", rows, DIM)
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(CLASSES, DIM))
    first = np.sort(rng.choice(rows, LABELS, replace=False))
    times: dict[str, list[float]] = {"tell": [], "follow": [], "update": []}
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        Session(Path(run) / "run", pool, select={"name": "top_score"}, update={"mode": "laplace"}) as session,
    ):

        def named(ids: list[int]) -> list[str]:
            logits = gather_vectors(session.start_fleet(), DIM, np.array(ids, np.int64)) @ weight.T
            return [f"class-{c}" for c in logits.argmax(1)]

        session.tell(dict(zip((f"row-{i}" for i in first), named(first.tolist()), strict=True)))
        batch = session.query(count + 1)
        answers = dict(zip(sorted(batch.ids), named(sorted(batch.ids)), strict=True))
        for place, (id, key) in enumerate(zip(batch.ids, batch.keys, strict=True)):
            before = session.current_head()
            assert before is not None
            whole = seconds_of(lambda: session.tell({key: answers[id]}))  # noqa: B023  # called at once
            now = session.start_fleet(), session.pool, session.ledger, session.config
            part = seconds_of(lambda: apply_new_labels(before, *now))  # noqa: B023
            vector = gather_vectors(session.start_fleet(), DIM, np.array([id], np.int64))
            step = seconds_of(lambda: update(before, vector, [answers[id]], ledger_seq=0))  # noqa: B023
            if place:  # the first one starts things
                for name, seconds in (("tell", whole), ("follow", part), ("update", step)):
                    times[name].append(seconds)
        head = session.current_head()
        assert head is not None
        assert head.fitted_on == LABELS  # every label after the first 1,000 was taken in closed form
        assert head.labels_seen == LABELS + count + 1
        classes = head.classes
        times |= {"retrain": [], "fit": []}
        for place in range(6):
            started = time.perf_counter()
            known = gather_labelled(session.start_fleet(), DIM, session.ledger.labels()[:LABELS])
            fit = seconds_of(lambda: refit(known, classes))  # noqa: B023  # called at once
            whole = time.perf_counter() - started
            if place:
                times["retrain"].append(whole)
                times["fit"].append(fit)
    return {"rows": rows, **{f"{name}_s": statistics.median(values) for name, values in times.items()}}


def refit(known: LabelledVectors, classes: Sequence[str]) -> Head:
    """A new fit of these labels."""
    return Logistic().fit(TrainingData(features=known.vectors, labels=list(known.classes), classes=classes))


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
