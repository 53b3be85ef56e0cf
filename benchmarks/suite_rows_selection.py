"""Cells of `benchmarks.suite`: selection over whole pools."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import raysal
from benchmarks import hard_pool, peers
from benchmarks.features import base, write_pool
from benchmarks.loops import eager_badge, eager_coreset
from benchmarks.machine import context_of, made_pool, random_head, random_pool
from benchmarks.peer_cells import TOOLS, Inputs
from benchmarks.suite_rows import CannotMeasure, Numbers, Setting
from benchmarks.sweep import bare_products
from raysal.fleet import LocalFleet, exclude, plan_partitions
from raysal.models.head import Head
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic
from raysal.pool import Pool
from raysal.rng import item_uniform
from raysal.rounds.gathering import gather_vectors
from raysal.scoring.sweep import SweepRequest, sweep
from raysal.strategies import SELECTORS
from raysal.strategies.base import select

KEY = 7
NEEDS_PEER = "--peers-python is not given; `benchmarks.peers` says how to install scikit-activeml"


# -- pools -----------------------------------------------------------------------------------------------------------


def pool_in(folder: Path, name: str, make: Callable[[Path], object]) -> Pool:
    """The pool of that name; made now, and then whole or not there, if nobody made it before."""
    path, part = folder / name, folder / f"{name}.part"
    if not path.exists():
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        part.rename(path)
    return Pool(path)


def random_in(setting: Setting, name: str, rows: int, dim: int, decay: float = 0.0) -> Pool:
    """Of `benchmarks.machine`."""
    return pool_in(setting.shared, name, lambda path: random_pool(path, rows, dim, decay=decay))


def small_run(shared: str, own: str, rows: str, dim: str) -> Numbers:
    """The path of a pool, and in `own` a run over it with 20 labels, 20 more that it waits for, and these as a file."""
    setting, folder = Setting(shared=Path(shared), own=Path(own)), Path(own)
    pool = random_in(setting, f"small-{rows}", int(rows), int(dim), decay=0.5)
    if not (folder / "run").exists():
        shutil.rmtree(folder / "run.part", ignore_errors=True)
        with raysal.Session(folder / "run.part", pool, select="badge") as session:
            first = session.query(20)
            session.tell({key: f"class-{i % 3}" for i, key in enumerate(first.keys)})
            lines = [f"{key},class-{i % 3}" for i, key in enumerate(session.query(20).keys)]
        (folder / "new.csv").write_text("\n".join(["key,label", *lines]) + "\n")
        (folder / "run.part").rename(folder / "run")
    return {"pool": str(pool.path)}


def hard_of(setting: Setting, rows: int) -> tuple[Pool, NDArray[np.int64], list[str]]:
    """The pool on which nothing can be pruned, and its labels."""
    assert hard_pool.STEP == 65_536, "a block is a chunk"

    def make(path: Path) -> None:
        stream = hard_pool.blocks(rows)
        made_pool(path, rows, 256, {"name": "hard"}, lambda *_: next(stream))

    pool = pool_in(setting.shared, f"hard-{rows}", make)
    return pool, *hard_pool.labels_of(pool.chunks[0].vectors())


def easy_of(setting: Setting, rows: int) -> tuple[Pool, NDArray[np.int64], list[str]]:
    """Mixtures of clustered rows, of which most can be pruned, and 1,000 labels."""
    pool = pool_in(setting.shared, f"easy-{rows}", lambda path: write_pool(path, rows, None, 256))
    x, classes = base(None, 256)
    ids = np.sort(np.random.default_rng(1).choice(rows, min(1000, rows // 4), replace=False))
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks])[ids].astype(np.float32)
    means = np.stack([x[classes == c].mean(0) for c in range(10)])
    return pool, ids, [f"class-{c}" for c in (vectors @ means.T).argmax(1)]


class Opened:
    """An open pool with some items labelled, and the head that these make."""

    def __init__(self, fleet: LocalFleet, dim: int, ids: NDArray[np.int64], names: list[str]) -> None:
        self.fleet, self.ids, self.names = fleet, ids, names
        self.vectors = gather_vectors(fleet, dim, ids)
        self.head: Head = Logistic().fit(
            TrainingData(features=self.vectors, labels=names, weights=np.ones(len(names)), classes=sorted(set(names)))
        )
        self.picks: dict[str, str] = {}

    def pick(self, strategy: str, k: int) -> NDArray[np.int64]:
        """A batch of what has no label; the digest of the picks is kept."""
        self.fleet.reset()
        self.fleet.each(exclude, self.ids)
        asked = context_of(
            self.fleet, head=self.head, ids=self.ids, vectors=self.vectors, classes=self.names, k=k, key=KEY
        )
        ids = select(self.fleet, SELECTORS[strategy](), asked, k).ids
        self.picks[strategy] = digest_of(ids)
        return ids

    def sweep(self) -> None:
        self.fleet.reset()
        sweep(self.fleet, self.head, SweepRequest(scores=("margin",), top=1000))


def digest_of(ids: NDArray[np.int64]) -> str:
    """Of a batch: two builds pick the same, or they do not."""
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()[:16]


@contextmanager
def opened(pool: Pool, ids: NDArray[np.int64], names: list[str], device: str = "cpu") -> Iterator[Opened]:
    with LocalFleet(plan_partitions(pool, 1, device=device)) as fleet:
        yield Opened(fleet, pool.dim, ids, names)


def medians(works: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each, all in turn, after one run of each that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


# -- cells -----------------------------------------------------------------------------------------------------------


def hard(setting: Setting) -> Numbers:
    """BADGE and k-center where nothing can be pruned, beside one product of all rows with all picks, and a sweep; from
    the opened pool and the fitted head on, and (`_call_s`) by `raysal.select`, which opens, fits, and reads keys."""
    rows, k = setting.sized(400_000, 6_000), setting.sized(500, 20)
    pool, ids, names = hard_of(setting, rows)
    labels = {f"row-{i}": name for i, name in zip(ids, names, strict=True)}
    with opened(pool, ids, names) as run:
        found = medians(
            {
                "product_s": bare_products(rows, pool.dim, k, "cpu"),
                "sweep_s": run.sweep,
                "badge_s": lambda: run.pick("badge", k),
                "coreset_s": lambda: run.pick("coreset", k),
                "badge_call_s": lambda: raysal.select(pool, k=k, strategy="badge", labels=labels),
                "coreset_call_s": lambda: raysal.select(pool, k=k, strategy="coreset", labels=labels),
            },
            setting.turns(2),
        )
        return {**in_products(found), "picks": run.picks}


def in_products(found: dict[str, float]) -> dict[str, float]:
    """With both rules as products, once a sweep is taken off."""
    for rule in ("badge", "coreset"):
        found[f"{rule}_products"] = (found[f"{rule}_s"] - found["sweep_s"]) / found["product_s"]
    return found


def easy(setting: Setting) -> Numbers:
    """BADGE and k-center where most rows can be pruned, beside the loop that compares every row with every pick. Each
    step of the loop costs the same, so the first ones stand for all."""
    rows, k = setting.sized(1_000_000, 6_000), setting.sized(1000, 30)
    steps = setting.sized(20, 5)
    pool, ids, names = easy_of(setting, rows)
    x = torch.from_numpy(np.concatenate([chunk.vectors() for chunk in pool.chunks])).float()
    with opened(pool, ids, names) as run:
        weight, bias = torch.from_numpy(run.head.weight).float(), torch.from_numpy(run.head.bias).float()
        budget = torch.from_numpy(-np.log(item_uniform(KEY, np.arange(rows))))
        found = medians(
            {
                "sweep_s": run.sweep,
                "badge_s": lambda: run.pick("badge", k),
                "coreset_s": lambda: run.pick("coreset", k),
                "eager_badge_s": lambda: eager_badge(x, weight, bias, budget, steps),
                "eager_coreset_s": lambda: eager_coreset(x, steps, 0),
            },
            setting.turns(1),
        )
        for rule in ("badge", "coreset"):
            found[f"{rule}_eager"] = found[f"eager_{rule}_s"] * k / steps / found[f"{rule}_s"]
            found[f"{rule}_sweeps"] = found[f"{rule}_s"] / found["sweep_s"]
        return {**found, "picks": run.picks}


def many(setting: Setting) -> Numbers:
    """The same pool, k = 10,000; with --full 100,000 too. A product of 1,000 columns stands for more of them."""
    rows, few = setting.sized(1_000_000, 6_000), setting.sized(1000, 100)
    pool, ids, names = easy_of(setting, rows)
    with opened(pool, ids, names) as run:
        found = medians({"part_s": bare_products(rows, pool.dim, few, "cpu"), "sweep_s": run.sweep}, 1)
        for k in [setting.sized(10_000, 300), *([100_000] if setting.size == "full" else [])]:
            product, end = found["part_s"] * k / few, "" if k <= 10_000 else "_100k"
            for rule in ("badge", "coreset"):
                start = time.perf_counter()
                run.pick(rule, k)
                seconds = found[f"{rule}{end}_s"] = time.perf_counter() - start
                found[f"{rule}{end}_products"] = (seconds - found["sweep_s"]) / product
        return {**found, "picks": run.picks}


def typiclust_start(setting: Setting) -> Numbers:
    """The first batch, with nothing labelled, from the opened pool on, of 50 and of 500."""
    rows, sizes = setting.sized(1_000_000, 6_000), {"few_s": setting.sized(50, 5), "start_s": setting.sized(500, 10)}
    pool, *_ = easy_of(setting, rows)
    none = np.empty(0, np.int64)
    with LocalFleet(plan_partitions(pool, 1)) as fleet:
        vectors = np.empty((0, pool.dim), np.float32)

        def start(k: int) -> None:
            fleet.reset()
            asked = context_of(fleet, head=None, ids=none, vectors=vectors, k=k, key=KEY)
            picks[f"k={k}"] = digest_of(select(fleet, SELECTORS["typiclust"](), asked, k).ids)

        request, head, picks = SweepRequest(scores=("margin",), top=1000), random_head(pool, 10), dict[str, str]()
        works: dict[str, Callable[[], object]] = {name: partial(start, k) for name, k in sizes.items()}
        works["sweep_s"] = lambda: sweep(fleet, head, request)
        found: Numbers = dict(medians(works, setting.turns(3)))
    return {**found, "sweeps": found["start_s"] / found["sweep_s"], "picks": picks}


def loop_10k(setting: Setting) -> Numbers:
    """Small pools, beside the loop that people write. In a fresh process, as a first query is; `again` are the queries
    after it."""
    found: Numbers = {}
    tasks = {"coreset": ("k-center-10k", "numpy loop"), "badge": ("badge-10k", "numpy factored loop")}
    for rule, (name, loop) in tasks.items():
        task, folder = task_of(setting, name)
        for tool, what in ((f"raysal {rule}", rule), (loop, f"loop_{rule}")):
            ran = peers.in_fresh_process(TOOLS[tool], task, folder, arguments(setting))
            if "error" in ran:
                raise CannotMeasure(f"{tool}: {ran['error']}")
            found[f"{what}_s"] = ran["seconds"]
        inputs = Inputs.read(folder)
        queries = {f"{rule}_again_s": f"raysal {rule}", f"loop_{rule}_again_s": loop}
        found |= medians({n: TOOLS[tool].prepare(inputs) for n, tool in queries.items()}, setting.turns(9))
        found[f"{rule}_loops"] = found[f"{rule}_s"] / found[f"loop_{rule}_s"]
        found[f"{rule}_loops_again"] = found[f"{rule}_again_s"] / found[f"loop_{rule}_again_s"]
    return found


def peer_50k(setting: Setting) -> Numbers:
    """k-center beside scikit-activeml, each in a process of its own."""
    if setting.peers_python is None:
        raise CannotMeasure(NEEDS_PEER)
    task, folder = task_of(setting, "k-center-50k")
    found: Numbers = {}
    for tool, name in (("raysal coreset", "ours_s"), ("scikit-activeml CoreSet", "peer_s"), ("numpy loop", "loop_s")):
        ran = peers.in_fresh_process(TOOLS[tool], task, folder, arguments(setting))
        if "error" in ran:
            raise CannotMeasure(f"{tool}: {ran['error']}")
        found[name] = ran["seconds"]
    return {**found, "peers": found["peer_s"] / found["ours_s"], "loops": found["ours_s"] / found["loop_s"]}


def task_of(setting: Setting, name: str) -> tuple[Any, Path]:
    """A task of `benchmarks.peers`, and the folder with its arrays."""
    (task,) = (task for task in peers.TASKS if task.name == name)
    if setting.size == "quick":
        task = replace(task, rows=1500, k=20)
    folder = setting.shared / f"{name}-{task.rows}"
    if not (folder / "task.json").exists():  # written last
        folder.mkdir(exist_ok=True)
        peers.write(task, folder, 0.0)
    return task, folder


def arguments(setting: Setting) -> argparse.Namespace:
    return argparse.Namespace(peers_python=setting.peers_python, threads=torch.get_num_threads(), time_limit=120.0)
