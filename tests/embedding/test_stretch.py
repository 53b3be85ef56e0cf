"""Stretches are those of astropy, know what is no number, and look at one picture alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import visualization
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from raysal.cli.embed import with_fields
from raysal.embedding import stretch as module
from raysal.embedding.stretch import STRETCHES, Asinh, Linear, Percentile, Stretch, ZScale, stretch_of, stretched
from raysal.errors import BadItem, ConfigError, UnknownName

PAIRS: list[tuple[Stretch, Any, Any]] = [
    (Linear(), visualization.MinMaxInterval(), visualization.LinearStretch()),
    (Percentile(), visualization.PercentileInterval(99.5), visualization.LinearStretch()),
    (Percentile(low=1, high=98), visualization.AsymmetricPercentileInterval(1, 98), visualization.LinearStretch()),
    (ZScale(), visualization.ZScaleInterval(), visualization.LinearStretch()),
    (
        ZScale(contrast=0.6, samples=300),
        visualization.ZScaleInterval(n_samples=300, contrast=0.6),
        visualization.LinearStretch(),
    ),
    (Asinh(), visualization.PercentileInterval(99.5), visualization.AsinhStretch(0.1)),
    (
        Asinh(softening=0.02, low=5, high=99),
        visualization.AsymmetricPercentileInterval(5, 99),
        visualization.AsinhStretch(0.02),
    ),
]


def pictures() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    sky = rng.normal(100, 5, (120, 90))
    sky[50:60, 50:60] += rng.exponential(2000, (10, 10))
    holes = sky.copy()
    holes[::7, ::3], holes[3, 4], holes[5, 5] = np.nan, np.inf, -np.inf
    china, flower = (load_sample_image(name)[::2, ::2, 1] for name in ("china.jpg", "flower.jpg"))
    return {
        "china": china,
        "flower": flower.astype(np.float64) ** 3,
        "sky": sky,
        "holes": holes,
        "float32": sky.astype(np.float32),
        "float16": (sky / 10).astype(np.float16),
        "uint16": np.clip(sky * 10, 0, 65535).astype(np.uint16),
        "int32": (sky * 1000 - 90_000).astype(np.int32),
        "int64": (sky * 1e9).astype(np.int64),
        "big endian": sky.astype(">f4"),
        "truth": sky > 100,
        "few": np.array([[1.0, 2.0], [3.0, 9.0]]),
    }


def by_astropy(values: NDArray[Any], interval: Any, curve: Any) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """(limits, 255 x what astropy makes of a picture), NaN being black."""
    with np.errstate(all="ignore"):
        # float16 and truth values have no percentiles there; of the lowest row first, as in a FITS file
        wide = values.astype(np.float64) if values.dtype.kind == "b" or values.dtype.itemsize == 2 else values
        black, white = (float(end) for end in interval.get_limits(wide[::-1]))
        shares = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    return (black, white), 255 * curve(np.nan_to_num(shares, nan=0.0))


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize(("stretch", "interval", "curve"), PAIRS, ids=lambda one: type(one).__name__)
def test_a_stretch_is_that_of_astropy(name: str, stretch: Stretch, interval: Any, curve: Any) -> None:
    values = pictures()[name]
    (black, white), expected = by_astropy(values, interval, curve)
    flat = values[::-1].ravel().astype(np.float64)
    mine = stretch.limits(flat[np.isfinite(flat)])
    exact = values.dtype == np.float64 and not isinstance(stretch, ZScale)
    assert np.abs(np.subtract(mine, (black, white))).max() <= (0 if exact else 1e-6 * (white - black))
    grey = stretched("x", values, stretch)
    assert grey.dtype == np.uint8
    assert np.abs(grey - expected).max() < 0.5 + 1e-3
    assert np.array_equal(grey, np.rint(expected)) or not exact


def test_of_what_is_no_number_limits_know_nothing() -> None:
    values = np.array([[np.nan, 1.0, np.inf], [3.0, -np.inf, 2.0]])
    assert stretched("x", values, Linear()).tolist() == [[0, 0, 255], [255, 0, 128]]
    for nothing in (np.full((2, 2), np.nan), np.full((2, 2), np.inf)):
        with pytest.raises(BadItem, match="no pixel of it is a finite number"):
            stretched("x", nothing, Asinh())
    one = np.stack([values, np.full((2, 3), np.nan)], -1)
    with pytest.raises(BadItem, match="no pixel"):
        stretched("x", one, Linear())
    assert stretched("x", one, Linear(together=True))[..., 1].tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("stretch", [one for one, _, _ in PAIRS], ids=lambda one: type(one).__name__)
def test_a_picture_of_one_number_is_black(stretch: Stretch) -> None:
    for value in (0, 0.1, -7.5, 1e300, 65535):
        assert not stretched("x", np.full((9, 9), value), stretch).any()


def test_where_black_is_white_what_is_above_is_white() -> None:
    values = np.zeros((40, 40), np.float32)
    values[3, 3], values[4, 4] = 1e-3, -1
    grey = stretched("x", values, Percentile(low=1, high=99))
    assert (grey[3, 3], grey[4, 4], int(grey.sum())) == (255, 0, 255)


@pytest.mark.parametrize("stretch", [Linear(), Percentile(low=2, high=98), Asinh()], ids=lambda one: type(one).__name__)
def test_whole_numbers_are_exact(stretch: Stretch) -> None:
    """As far as float64 tells them apart; beyond, nothing is rounded in silence."""
    small = np.random.default_rng(1).integers(0, 1000, (30, 30))
    expected = stretched("x", small, stretch)
    for kind in (np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float64):
        assert np.array_equal(stretched("x", small.astype(kind), stretch), expected)
    far = small.astype(np.int64) + (1 << 53) - 1000  # in float32 all of them would be one
    assert np.array_equal(stretched("x", far, Linear()), stretched("x", small, Linear()))
    for beyond in (small.astype(np.int64) + (1 << 53), small.astype(np.uint64) + (1 << 63)):
        with pytest.raises(BadItem, match="beyond 2\\^53"):
            stretched("x", beyond, stretch)
    with pytest.raises(BadItem, match="too far apart"):
        stretched("x", np.array([[-1.7e308, 1.7e308]]), stretch)


def test_channels_have_their_own_limits_or_the_same_together() -> None:
    rng = np.random.default_rng(2)
    planes = rng.normal(0, 1, (20, 30, 3)) * (1, 10, 100)
    alone = stretched("x", planes, Percentile())
    for at in range(3):
        assert np.array_equal(alone[..., at], stretched("x", planes[..., at], Percentile()))
    together = stretched("x", planes, Percentile(together=True))
    side_by_side = np.concatenate([planes[..., at] for at in range(3)], axis=1)
    assert np.array_equal(
        np.concatenate([together[..., at] for at in range(3)], 1), stretched("x", side_by_side, Percentile())
    )
    assert not np.array_equal(alone, together)


@pytest.mark.parametrize("name", ["sky", "holes", "uint16"])
def test_blocks_and_layout_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = pictures()[name]
    for stretch, _, _ in PAIRS:
        expected = stretched("x", values, stretch)
        assert np.array_equal(stretched("x", np.asfortranarray(values), stretch), expected)
        assert np.array_equal(stretched("x", values[..., None], stretch), expected[..., None])
        monkeypatch.setattr(module, "_BLOCK_VALUES", 100)
        assert np.array_equal(stretched("x", values, stretch), expected)
        monkeypatch.undo()


@pytest.mark.parametrize("stretch", [one for one, _, _ in PAIRS], ids=lambda one: type(one).__name__)
def test_units_do_not_matter(stretch: Stretch) -> None:
    """Twice the exposure is the same picture; so is another zero point, of numbers that stay exact."""
    counts = np.random.default_rng(3).integers(0, 4096, (40, 50)).astype(np.float64)
    expected = stretched("x", counts, stretch)
    assert np.array_equal(stretched("x", counts * 2, stretch), expected)
    assert np.abs(stretched("x", counts + 4096, stretch).astype(int) - expected).max() <= 1


def test_a_stretch_is_a_name_or_a_name_and_fields() -> None:
    assert stretch_of("asinh") == Asinh() == stretch_of(Asinh()) == stretch_of({"name": "asinh"})
    for name, kind in STRETCHES.items():
        made = stretch_of(name)
        assert made == kind()
        assert made is not None
        assert stretch_of(made.record()) == made
        assert made.record()["name"] == name
    assert with_fields("zscale") == "zscale"
    assert stretch_of(with_fields("asinh:softening=0.05,high=99.9,together=true")) == Asinh(
        softening=0.05, high=99.9, together=True
    )
    with pytest.raises(UnknownName, match="use one of: asinh, linear, percentile, zscale"):
        stretch_of("log")
    for wrong, problem in (
        ({"name": "asinh", "contrast": 1}, "no such field"),
        ({"name": "asinh", "softening": 0}, "above 0"),
        ({"name": "percentile", "low": 60, "high": 40}, "low < high"),
        ({"name": "percentile", "high": 101}, "low < high"),
        ({"name": "zscale", "contrast": 0}, "above 0"),
        ({"name": "zscale", "samples": 0}, "1 or more"),
        ({"name": "linear", "together": "perhaps"}, "encoder.stretch.together"),
    ):
        with pytest.raises(ConfigError, match=problem):
            stretch_of(wrong)
    with pytest.raises(ConfigError, match="for example"):
        with_fields("asinh:softening")
