"""Vectors become float16 without a silent loss: directions, differences, the scale, and what does not decide it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_vectors import CONTAINERS, GIVEN, Given, cosines_of, exported, gaussians, in_memory, keys_of, nearest, stored
from pool_files import bytes_of, quarantined
from tiers import deep, deep_unless

from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.rounding import Rounding, choose_scale, middle_row, to_half
from raysal.embedding.sample import SAMPLE_ITEMS
from raysal.errors import BadItem, ConfigError, FingerprintMismatch, PoolError, QuarantineExceeded, VectorsBlurred
from raysal.pool import Pool, open_pool
from raysal.scale import SCALED_BY, parse_scale, scale_words
from raysal.sources.memory import Memory
from raysal.store import read_sealed, write_sealed

N, DIM = 120, 16
PROMISED = 0.999
"""Cosine of what is stored with what was given."""
WITNESSES = [
    ("memory", "float32", 1e-17, 0.0),
    ("lists", "float64", 1e50, 1.0),
    ("parquet", "float32", 1e-44, 0.0),
    ("arrow", "float32", 1e9, 1e4),
    ("memory", "float16", 1e-6, 1.0),
    ("parquet", "float64", 1e-140, 1e2),
    ("parquet", "int8", 30.0, 0.0),
    ("tensor", "float64", 1e-17, 1.0),
]


def embedded(source: Any, out: Path, **options: Any) -> tuple[Pool, bool]:
    """The pool, and whether its job said that the vectors are blurred."""
    try:
        embed(source, Precomputed(), out, max_quarantine=1.0, **options)
    except VectorsBlurred:
        return open_pool(out), True
    return open_pool(out), False


@pytest.mark.parametrize(
    ("container", "dtype", "magnitude", "offset"),
    deep_unless(WITNESSES, [(container, *given) for container in CONTAINERS for given in GIVEN]),
)
def test_what_is_kept_is_what_was_given(
    container: str, dtype: str, magnitude: float, offset: float, tmp_path: Path
) -> None:
    """Over magnitudes, offsets, types and containers: right to the stated precision, or named."""
    x = gaussians(N, DIM, dtype, magnitude, offset)
    pool, blurred = embedded(CONTAINERS[container](x, tmp_path), tmp_path / "pool")
    ids, out = exported(pool, tmp_path / "out.parquet")
    given = x[ids].astype(np.float64)
    assert (cosines_of(given, out) >= PROMISED).all()
    error = np.abs(out.astype(np.float64) - given)
    assert (error <= np.abs(given) * 2.0**-11 + 2.0**-25 / pool.scale).all()
    lost = quarantined(tmp_path / "pool")
    assert set(lost) == {key for i, key in enumerate(keys_of(N)) if i not in ids}
    finite = np.isfinite(x).all(1)
    assert set(np.flatnonzero(~finite)) == set(range(N)) - set(ids.tolist()), "one magnitude needs no quarantine"
    if not len(ids):  # all were infinite as given
        return
    right = np.mean([len({*a} & {*b}) for a, b in zip(nearest(given), nearest(out), strict=True)]) / 10
    assert right < 0.99 if blurred else right > 0.85
    assert blurred or offset < 1e4 or dtype in ("float16", "int8"), "of these nothing is lost that was there"


@pytest.mark.parametrize("dim", [1, 3, 64, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-60, -3, 0, 25])
def test_a_vector_is_held_if_and_only_if_its_cosine_allows(dim: int, dtype: Any, exponent: int) -> None:
    """Of rows of every magnitude and sparsity, exactly those are refused that a slow check refuses."""
    random = np.random.default_rng(dim)
    sizes = 2.0 ** random.uniform(-40, 20, size=(3000, 1))
    x = random.normal(size=(3000, dim)) * 2.0 ** random.uniform(-20, 0, size=(3000, dim)) * sizes
    x[random.random(size=x.shape) < 0.3] = 0
    x = (x * 2.0**-exponent).astype(dtype)
    rounded, bad = Rounding(scale=2.0**exponent).halves(keys_of(3000), x)
    with np.errstate(over="ignore"):
        expected = (x.astype(np.float64) * 2.0**exponent).astype(np.float32).astype(np.float16)
    assert rounded.tobytes() == expected.tobytes()
    fits = np.isfinite(expected).all(1)
    good = fits & (cosines_of(x, np.where(fits[:, None], expected, 0)) >= PROMISED)
    assert set(bad) == set(np.flatnonzero(~good).tolist())
    assert 0 < len(bad) < 3000
    assert all("--scale, as 2^" in str(error) for error in bad.values())
    assert all(("cosine of 0." if fits[row] else "does not fit float16") in str(bad[row]) for row in bad)


@pytest.mark.parametrize("exponent", [-100, -20, -14, 3, 15, 60])
def test_following_the_advice_of_a_quarantine_keeps_the_vector(exponent: int) -> None:
    x = np.random.default_rng(0).normal(size=5).astype(np.float32) * np.float32(2.0**exponent)
    scale = 1.0
    if isinstance(found := to_half("k", x), BadItem):
        scale = float(parse_scale(found.fix.rpartition(" ")[2]))
    half = to_half("k", x, scale)
    assert not isinstance(half, BadItem)
    assert np.allclose(half.astype(np.float64) / scale, x, rtol=2.0**-11, atol=2.0**-25 / scale)


def test_the_scale_is_1_wherever_1_serves() -> None:
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    for magnitude in (1e-5, 1e-3, 1, 100, 1e4):
        assert choose_scale(x * np.float32(magnitude)) == 1
    assert choose_scale(np.zeros((5, 3), np.float32)) == 1
    assert choose_scale(np.empty((0, 3), np.float32)) == 1
    x[7] = 1e30
    assert choose_scale(x) == 1, "no scale keeps this outlier and the others"
    x[8] = 0
    assert choose_scale(x * np.float32(1e-12)) == choose_scale(np.delete(x, [7, 8], 0) * np.float32(1e-12)) != 1


def test_a_scale_leaves_room_for_larger_vectors_and_keeps_the_most(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(SAMPLE_ITEMS + 40, 8)) * 1e-20
    x[SAMPLE_ITEMS:] *= 2.0 ** np.arange(-15, 5).repeat(2)[:, None]
    pool, _ = embedded(in_memory(x, tmp_path), tmp_path / "pool")
    assert len(pool) == len(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_magnitudes_in_one_pool(dtype: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 8)) * 10.0 ** np.random.default_rng(1).integers(-30, 30, (300, 1))
    pool, _ = embedded(in_memory(x.astype(dtype), tmp_path), tmp_path / "pool")
    ids, out = exported(pool, tmp_path / "out.parquet")
    assert (cosines_of(x[ids], out) >= PROMISED).all()
    lost = quarantined(tmp_path / "pool")
    assert len(lost) + len(ids) == 300
    assert len(ids) > 300 * 8 / 60, "as many as one scale can hold: eight of sixty decades at the least"
    for stage, reason in lost.values():
        assert stage == "encode"
        assert "--scale" in reason
    assert {"cosine" in reason for _, reason in lost.values()} == {True, False}  # too small, and too large


def test_zeros_are_zeros_and_nothing_else_becomes_zero(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    x[[0, 5, 1500]] = 0
    x[1700] *= np.float32(1e-12)  # beyond the sample
    x[1800] *= np.float32(1e12)
    out = tmp_path / "pool"
    with pytest.raises(QuarantineExceeded):
        embed(in_memory(x, tmp_path), Precomputed(), out, max_quarantine=0.0001)
    lost = quarantined(out)
    assert list(lost) == ["k1700", "k1800"]
    assert "a cosine of 0.000 is left" in lost["k1700"][1]
    assert "does not fit float16" in lost["k1800"][1]
    held = np.delete(x, [1700, 1800], 0)
    assert np.array_equal(held.any(1), stored(open_pool(out)).any(1))
    assert np.array_equal(stored(open_pool(out)), held.astype(np.float16)), "the scale is 1, and the bits as ever"


def test_a_pool_of_ordinary_vectors_has_the_files_it_always_had(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    pool, _ = embedded(in_memory(x, tmp_path), tmp_path / "pool", chunk_rows=20)
    assert "scale" not in json.loads((pool.path / "pool.json").read_text())
    assert all("blurred" not in read_sealed(file) for file in (pool.path / "commits").iterdir())
    assert pool.scale == 1
    assert SCALED_BY not in pool.vector_space


SMALL = np.random.default_rng(0).normal(size=(1500, 3)).astype(np.float32) * np.float32(1e-12)


@pytest.mark.parametrize("offset", [0, 1e-8])
def test_neither_chunks_nor_batches_nor_stops_decide_the_scale(offset: float, tmp_path: Path) -> None:
    x = SMALL + np.float32(offset)
    made = []
    for number, options in enumerate(({"chunk_rows": 37}, {"chunk_rows": 400, "batch_size": 3}, {})):
        pool, blurred = embedded(in_memory(x, tmp_path), tmp_path / str(number), **options)
        counts = sum(read_sealed(file).get("blurred", 0) for file in (pool.path / "commits").iterdir())
        made.append((pool.scale, pool.fingerprint, stored(pool).tobytes(), counts, blurred))
    assert made[0] == made[1] == made[2]
    assert made[0][0] != 1
    assert made[0][4] == (offset > 0)


def test_a_stopped_job_goes_on_with_its_scale(tmp_path: Path) -> None:
    whole, _ = embedded(in_memory(SMALL, tmp_path), tmp_path / "whole", chunk_rows=400)
    source, out = in_memory(SMALL, tmp_path), tmp_path / "pool"

    def stop(done: int, total: int) -> None:
        del total
        if done == 800:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(source, Precomputed(), out, chunk_rows=400, report=stop)
    own = scale_words(whole.scale)
    with pytest.raises(PoolError, match=f"begun with the scale .*{own[2:]}, now .*; pass --scale"):
        embed(source, Precomputed(), out, chunk_rows=400, scale="2^5")
    embed(source, Precomputed(), out, chunk_rows=400)
    assert bytes_of(out) == bytes_of(whole.path)
    assert embed(source, Precomputed(), out, chunk_rows=400, scale=own).embedded == 0


def test_a_pool_begun_before_there_were_scales_keeps_1(tmp_path: Path) -> None:
    """Its committed chunks hold zeros; what is still to come is quarantined, and the way out is in the reason."""
    embed(in_memory(SMALL[:800], tmp_path), Precomputed(), tmp_path / "pool", chunk_rows=400, scale=2.0**40)
    record = read_sealed(tmp_path / "pool" / "pool.json")
    del record["scale"]
    write_sealed(tmp_path / "pool" / "pool.json", record)
    (tmp_path / "pool" / "commits" / "00001.json").unlink()
    pool, _ = embedded(in_memory(SMALL[:800], tmp_path), tmp_path / "pool", chunk_rows=400)
    assert pool.scale == 1
    assert len(pool) == 400
    assert {reason.partition("--scale, as ")[2] for _, reason in quarantined(pool.path).values()} > {"2^46"}


@deep
@pytest.mark.usefixtures("ray_session")
def test_ray_stores_the_same_halves(tmp_path: Path) -> None:
    here, _ = embedded(in_memory(SMALL, tmp_path), tmp_path / "here", chunk_rows=400)
    there, _ = embedded(in_memory(SMALL, tmp_path), tmp_path / "ray", chunk_rows=400, backend="ray", workers=2)
    assert bytes_of(there.path) == bytes_of(here.path)


def test_the_vectors_of_a_model_have_the_scale_1_unless_asked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (40, 6, 6, 3), dtype=np.uint8)
    source = Memory(images=list(pixels), keys=range(40))
    tiny = Torch(arg="tiny_models:mean_colour", size=6, mean=(0, 0, 0), std=(1e9, 1e9, 1e9))
    with pytest.raises(QuarantineExceeded) as caught:
        embed(source, tiny, tmp_path / "lost", threads=1)
    assert caught.value.quarantined == 40
    assert all("cosine of" in reason for _, reason in quarantined(tmp_path / "lost").values())
    report = embed(source, tiny, tmp_path / "pool", threads=1, scale="2^36")
    assert (report.quarantined, report.scale) == (0, 2.0**36)
    plain = Torch(arg="tiny_models:mean_colour", size=6, mean=(0, 0, 0), std=(1, 1, 1))
    embed(source, plain, tmp_path / "plain", threads=1)
    ratio = stored(open_pool(tmp_path / "pool")).astype(float) / 2**36 * 1e9 / stored(open_pool(tmp_path / "plain"))
    assert np.allclose(ratio, 1, rtol=2e-3)


# What float16 tells apart.


def shares(x: Given, scale: float) -> float:
    """Squared error of the differences of rows, as a share of their squares, on average over all pairs."""
    given = x.astype(np.float64) * scale
    half = given.astype(np.float32).astype(np.float16).astype(np.float64)
    error = half - given
    return float(error.var(0).sum() / given.var(0).sum())


@pytest.mark.parametrize("magnitude", [1.0, 2.0**-40, 1e12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pool_is_refused_where_rounding_takes_its_share_of_the_differences(
    dtype: str, magnitude: float, tmp_path: Path
) -> None:
    answers = []
    for number, offset in enumerate((0, 1, 10, 30, 60, 200, 1000, 1e4)):
        x = ((np.random.default_rng(0).normal(size=(200, 12)) + offset) * magnitude).astype(dtype)
        pool, blurred = embedded(in_memory(x, tmp_path), tmp_path / str(number))
        assert len(pool) == 200
        share = shares(x, pool.scale)
        assert not blurred if share < 3e-4 else blurred if share > 1.5e-3 else True
        answers.append(blurred)
    assert answers == sorted(answers)
    assert {*answers} == {True, False}


def test_differences_beyond_float32_are_not_lost_in_silence(tmp_path: Path) -> None:
    """Times of a float64: a float32 has already lost their seconds."""
    times = 1.7e9 + np.arange(200.0)[:, None]
    _, blurred = embedded(in_memory(times, tmp_path), tmp_path / "pool")
    assert blurred
    _, blurred = embedded(in_memory(times - times.mean(), tmp_path), tmp_path / "centred")
    assert not blurred


@pytest.mark.parametrize("n", [2, 3, 4, 50])
def test_neighbouring_numbers_that_become_one_are_refused_and_differences_of_float16_are_not(
    n: int, tmp_path: Path
) -> None:
    steps = np.arange(n, dtype=np.float32)[:, None]
    for number, (x, expected) in enumerate(((10000 + steps / n, True), (10000 + 8 * steps, False), (steps, False))):
        pool, blurred = embedded(in_memory(x, tmp_path), tmp_path / str(number))
        assert blurred == expected
        assert len(pool) == n, "the pool is committed"


NOISY = np.full((300, 6), 0.1, np.float32) * (1 + np.random.default_rng(0).integers(-2, 3, (300, 1)) * np.float32(6e-8))


@pytest.mark.parametrize(
    "x",
    [
        np.full((300, 6), 0.1, np.float32),  # constant, and no float16 is 0.1
        NOISY.astype(np.float32),  # the same but for float32's last digit
        np.linspace(1, 2, 3000, dtype=np.float32)[:, None],  # finer than float16, but float16 tells where each is
        np.zeros((20, 3), np.float32),
        np.repeat(np.random.default_rng(0).normal(size=(30, 6)) + 10, 10, 0),  # copies
    ],
    ids=["constant", "noise", "fine grid", "zeros", "copies"],
)
def test_pools_that_lose_nothing_by_rounding_are_not_refused(x: Given, tmp_path: Path) -> None:
    _, blurred = embedded(in_memory(x, tmp_path), tmp_path / "pool")
    assert not blurred


@pytest.mark.parametrize("outlier", [0.0, -9999.0, 1e30, np.nan])
@pytest.mark.parametrize("places", [[0], [3, 50, 170], list(range(60))])
def test_outliers_hide_no_blurred_vectors(outlier: float, places: list[int], tmp_path: Path) -> None:
    x = 10000 + np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    x[places] = outlier
    _, blurred = embedded(in_memory(x, tmp_path), tmp_path / "pool")
    assert blurred


def test_the_middle_row_is_a_row_in_the_midst() -> None:
    x = np.random.default_rng(0).normal(size=(101, 3))
    x[:40] = 1e300
    row = middle_row(x)
    assert (x == row).all(1).any()
    assert np.abs(row).max() < 3


# What people write.


def test_scales_as_people_write_them() -> None:
    for value, expected in {"auto": "auto", "2^30": 2.0**30, "2^-3": 0.125, 8: 8.0, "0.25": 0.25, " 1 ": 1.0}.items():
        assert parse_scale(value) == expected
    for exponent in (-500, -31, 0, 7, 500):
        assert parse_scale(scale_words(2.0**exponent)) == 2.0**exponent
    for value in ("", "x", "2^x", 0, -2, "nan", "inf", True, None, 3, 1e9, "2^501", "2^99999", [1]):
        with pytest.raises(ValueError, match=r"no scale|power of two"):
            parse_scale(value)
    with pytest.raises(ConfigError, match=r"embed.scale: 1000000000.0 is no power of two; the nearest is 2\^30"):
        embed(in_memory(SMALL, Path()), Precomputed(), "nowhere", scale=1e9)
    assert not Path("nowhere").exists()


def test_pools_of_two_scales_are_two_pools(tmp_path: Path) -> None:
    made = [embedded(in_memory(SMALL, tmp_path), tmp_path / f"{e}", scale=2.0**e)[0] for e in (40, 41, 42)]
    for one, other in pairwise(made):
        assert one.fingerprint != other.fingerprint
        assert one.vector_space != other.vector_space
        assert np.array_equal(2 * stored(one), stored(other))
    with pytest.raises(FingerprintMismatch):
        embed(in_memory(SMALL + 1, tmp_path), Precomputed(), made[0].path)


@deep
def test_the_law_holds_at_the_edge_of_the_sample(tmp_path: Path) -> None:
    for n in (SAMPLE_ITEMS - 1, SAMPLE_ITEMS, SAMPLE_ITEMS + 1):
        x = np.random.default_rng(n).normal(size=(n, 4)) * 1e-30
        pool, _ = embedded(in_memory(x, tmp_path), tmp_path / str(n), chunk_rows=100)
        assert len(pool) == n
        assert (cosines_of(x, stored(pool)) > 1 - 1e-6).all()
