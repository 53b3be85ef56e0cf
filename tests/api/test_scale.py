"""A pool's scale changes nothing that people see but what could not be held: picks, heads, distances, queries."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from given_vectors import Given, columns_of, exported, stored
from numpy.typing import NDArray
from pools import mixture

import raysal
from raysal.config import parse_config
from raysal.errors import FingerprintMismatch
from raysal.pool import Pool, open_pool
from raysal.rounds.loop import run
from raysal.sources.memory import Memory
from raysal.strategies import SELECTORS

N, DIM = 400, 8
FACTORS = (-60, 40)
"""Exponents of two: of values of 1e-18 and of 1e12."""
BY_DIRECTION_OR_GEOMETRY = ("coreset", "kmeans_plus_plus", "lcmd", "max_herding", "probcover", "random", "typiclust")
"""Strategies whose picks no factor of all vectors changes."""


def grid(n: int = N) -> tuple[NDArray[np.float64], list[str]]:
    """Vectors that float16 holds exactly, with digits to spare: any scale holds the same digits."""
    x, names = mixture(n, DIM, classes=4, seed=3)
    return np.rint(x.astype(np.float64) * 64) / 64, names


def pool_of(path: Path, x: Given, names: list[str], **options: Any) -> Pool:
    keys = [f"k{i}" for i in range(len(x))]
    return raysal.embed(Memory(keys=keys, vectors=x, carry={"label": names}), out=path, **options)


@pytest.fixture(scope="module", params=["cosine", "l2"])
def pools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Pool]:
    """The same vectors as they are, and times powers of two, {exponent: pool}."""
    root, (x, names) = tmp_path_factory.mktemp("scales"), grid()
    return {e: pool_of(root / str(e), x * 2.0**e, names, metric=request.param) for e in (0, *FACTORS)}


def test_the_pools_differ_by_their_scale_alone(pools: dict[int, Pool]) -> None:
    assert pools[0].scale == 1
    for exponent in FACTORS:
        scale = pools[exponent].scale
        assert scale != 1
        ratio = scale * 2.0**exponent
        assert np.array_equal(stored(pools[exponent]), stored(pools[0]) * np.float16(ratio))


@pytest.mark.parametrize("strategy", [name for name in BY_DIRECTION_OR_GEOMETRY if name in SELECTORS])
def test_picks_are_the_same_to_the_last_one(strategy: str, pools: dict[int, Pool]) -> None:
    _, names = grid()
    labels = {f"k{i}": names[i] for i in range(0, N, 40)}
    tables = {e: raysal.select(pool, k=12, strategy=strategy, labels=labels) for e, pool in pools.items()}
    cold = {e: raysal.select(pool, k=12) for e, pool in pools.items()}
    for exponent in FACTORS:
        assert tables[exponent]["key"].to_pylist() == tables[0]["key"].to_pylist()
        assert cold[exponent]["key"].to_pylist() == cold[0]["key"].to_pylist()


@pytest.mark.parametrize("strategy", ["coreset", "kmeans_plus_plus", {"name": "lcmd", "space": "vectors"}], ids=str)
def test_distances_of_picks_are_those_of_the_given_vectors(strategy: Any, pools: dict[int, Pool]) -> None:
    labels = {"k0": "a", "k1": "b"}
    for exponent, pool in pools.items():
        table = raysal.select(pool, k=9, strategy=strategy, labels=labels)
        scores, reasons = table["score"].to_numpy(), table["reason"].to_pylist()
        one = raysal.select(pools[0], k=9, strategy=strategy, labels=labels)["score"].to_numpy()
        assert np.array_equal(scores, one * 4.0**exponent)
        assert float(reasons[0].split()[0]) == pytest.approx(scores[0] ** 0.5, rel=1e-3)


def test_directions_have_no_unit(pools: dict[int, Pool]) -> None:
    tables = [
        raysal.select(pool, k=9, strategy={"name": "coreset", "unit": True}, labels={"k0": "a"})
        for pool in pools.values()
    ]
    for table in tables[1:]:
        assert table["score"].to_pylist() == pytest.approx(tables[0]["score"].to_pylist(), rel=1e-6)


@pytest.mark.parametrize("indexed", [False, True])
def test_a_search_takes_and_tells_what_was_given(indexed: bool, pools: dict[int, Pool]) -> None:
    if indexed:
        if importlib.util.find_spec("faiss") is None:
            pytest.skip("needs faiss")
        for pool in pools.values():
            assert cli("index", "build", pool.path, "--kind", "flat", "--backend", "local").code == 0
    x, _ = grid()
    query = x[7:9] + 0.125
    for exponent, pool in pools.items():
        factor = 2.0**exponent
        by_vector = raysal.search(pool, vector=query * factor, k=6)
        by_key = raysal.search(pool, key="k5", k=6, exact=True)
        for table, wanted, skip in ((by_vector, query, ()), (by_key, x[5:6], (5,))):
            keys = [int(key[1:]) for key in table["key"].to_pylist()]
            got = table["similarity"].to_numpy()
            if pool.metric == "l2":
                expected = -((x[:, None] - wanted[None]) ** 2).sum(2).min(1) * factor**2
            else:
                lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(wanted, axis=1)
                expected = (x @ wanted.T / lengths).max(1)
            expected[list(skip)] = -np.inf
            assert got == pytest.approx(expected[keys], rel=1e-4)
            assert keys[:3] == np.argsort(-expected, kind="stable")[:3].tolist()
    if indexed:
        assert b"index" in raysal.search(pool, vector=query * factor, k=6).schema.metadata[b"found"]


def test_the_distance_of_near_duplicates_is_that_of_the_given_vectors(pools: dict[int, Pool]) -> None:
    _, names = grid()
    labels = {f"k{i}": names[i] for i in range(0, N, 20)}
    notes = set()
    for exponent, pool in pools.items():
        radius = 1.5 * 2.0**exponent if pool.metric == "l2" else 0.9
        narrow = {"name": "filter", "duplicates": radius}
        table = raysal.select(pool, k=5, strategy="random", labels=labels, narrow=narrow)
        notes.add((table.schema.metadata[b"narrow"], tuple(table["key"].to_pylist())))
    assert len(notes) == 1
    assert b"dropped 0" not in notes.pop()[0]


def test_heads_learn_the_same(pools: dict[int, Pool], tmp_path: Path) -> None:
    reached = []
    for exponent, pool in pools.items():
        rounds = {"count": 3, "k": 12, "holdout": 0.3}
        config = {"pool": pool.path, "fleet": {"backend": "local"}, "oracle": "simulated", "rounds": rounds}
        result = run(parse_config(config), tmp_path / str(exponent))
        assert result.accuracy is not None
        reached.append(result.accuracy)
        raysal.predict(pool, run=tmp_path / str(exponent), out=tmp_path / f"{exponent}-scores")
    assert min(reached) > 0.5
    assert max(reached) - min(reached) <= 0.02


def test_a_head_of_another_scale_is_refused_and_the_scale_named(tmp_path: Path) -> None:
    x, names = grid()
    named = {"name": "precomputed", "origin": "mine"}
    one = pool_of(tmp_path / "one", x * 2.0**-60, names, scale="2^61", encoder=named)
    other = pool_of(tmp_path / "other", x * 2.0**-60, names, scale="2^60", encoder=named)
    config = {"pool": one.path, "fleet": {"backend": "local"}, "oracle": "simulated", "rounds": {"count": 2, "k": 8}}
    run(parse_config(config), tmp_path / "run")
    head = sorted((tmp_path / "run").rglob("head.safetensors"))[-1]
    with pytest.raises(FingerprintMismatch, match=r"the scales differ: embed the pool again with --scale 2\^61"):
        raysal.predict(other, head=head, out=tmp_path / "scores")
    same = pool_of(tmp_path / "same", x[:50] * 2.0**-60, names[:50], scale=2.0**61, encoder=named)
    raysal.predict(same, head=head, out=tmp_path / "scores")


def test_a_run_embeds_with_its_scale_and_refuses_a_pool_of_another(tmp_path: Path) -> None:
    x, names = grid(80)
    pq.write_table(columns_of(x * 2.0**-60, fixed=True).append_column("label", [names]), tmp_path / "items.parquet")
    config: dict[str, Any] = {
        "pool": tmp_path / "pool",
        "source": {"name": "table", "path": str(tmp_path / "items.parquet"), "carry": ["label"]},
        "encoder": "precomputed",
        "embed": {"scale": "2^61"},
        "fleet": {"backend": "local"},
        "oracle": "simulated",
        "rounds": {"count": 1, "k": 8},
    }
    run(parse_config(config), tmp_path / "run")
    assert open_pool(tmp_path / "pool").scale == 2.0**61
    run(parse_config({**config, "embed": {}}), tmp_path / "again")  # auto: that of the pool
    with pytest.raises(FingerprintMismatch, match=r"its scale is 2\^3, expected 2\^61; .*embed.scale = \"2\^61\""):
        run(parse_config({**config, "embed": {"scale": 8}}), tmp_path / "third")


def test_on_the_command_line(tmp_path: Path) -> None:
    x, _ = grid(60)
    items, pool = tmp_path / "items.parquet", tmp_path / "pool"
    pq.write_table(columns_of(x * 2.0**-60, fixed=True), items)
    refused(cli("embed", items, "--out", pool, "--scale", "1e9"), "embed.scale", "the nearest is 2^30")
    lost = cli("embed", items, "--out", tmp_path / "lost", "--scale", "1")
    assert lost.code == 3
    done = cli("embed", items, "--out", pool, "--json")
    scale = done.json["scale"]
    assert scale == open_pool(pool).scale == cli("pool", "info", pool, "--json").json["scale"] != 1
    assert "stored at the scale 2^" in cli("embed", items, "--out", pool).out
    refused(cli("embed", items, "--out", pool, "--scale", "2^3"), "was begun with the scale", "pass --scale 2^")
    assert cli("pool", "export", pool, "-o", tmp_path / "out.parquet").code == 0
    _, out = exported(open_pool(pool), tmp_path / "again.parquet")
    assert out.dtype == np.float32
    assert np.array_equal(out, x * 2.0**-60)
    offset = tmp_path / "offset.parquet"
    pq.write_table(columns_of(x * 0.01 + 10000, fixed=True), offset)
    blurred = cli("embed", offset, "--out", tmp_path / "blurred", "--json")
    assert blurred.code == 3
    assert json.loads(blurred.out or blurred.err)["type"] == "VectorsBlurred"
    again = cli("embed", offset, "--out", tmp_path / "blurred")
    assert again.code == 3, "every time"
    assert "subtract the mean" in again.err
    assert len(open_pool(tmp_path / "blurred")) == 60
