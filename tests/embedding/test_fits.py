"""A FITS file made from numbers becomes these numbers by the stated rule, or is refused with the reason."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from image_files import fits
from tiers import deep_unless

from raysal.embedding import decode
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem

BITS = (8, 16, 32, 64, -32, -64)
SCALES = {"as stored": (0, 1), "unsigned": (None, 1), "shifted": (100, 1), "halved": (-7, 0.5)}
"""BZERO and BSCALE. For 16, 32 and 64 bits, BZERO of half the range makes the numbers unsigned; for 8, signed."""


def decoded(data: bytes) -> np.ndarray | BadItem:
    try:
        return np.asarray(decode_image("some/key", data)).astype(int)
    except BadItem as error:
        return error


def stored(bits: int, size: tuple[int, int] = (5, 7)) -> np.ndarray:
    rng = np.random.default_rng(abs(bits))
    if bits < 0:
        return rng.uniform(-1000, 1000, size).astype(f"f{-bits // 8}")
    low, high = (0, 255) if bits == 8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = rng.integers(low, high, size, endpoint=True, dtype=np.int64)
    values[0, :2] = low, high
    return values


def cards_of(bits: int, scale: str) -> tuple[dict[str, Any], float, float]:
    zero, factor = SCALES[scale]
    if zero is None:
        zero = -128 if bits == 8 else 0 if bits < 0 else 2 ** (bits - 1)
    return ({} if (zero, factor) == (0, 1) else {"BZERO": zero, "BSCALE": factor}), zero, factor


@pytest.mark.parametrize("extension", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bits", BITS)
def test_a_fits_is_its_numbers_or_refused(bits: int, scale: str, extension: bool) -> None:
    cards, zero, factor = cards_of(bits, scale)
    values = stored(bits)
    real = zero + factor * values.astype(float)
    got = decoded(fits(values, bits, extension=extension, **cards))
    full = {(8, "as stored"): 255, (16, "unsigned"): 65535}.get((bits, scale))
    if full is None:
        assert isinstance(got, BadItem)
        assert "no fixed range" in got.problem
        assert "DATAMIN and DATAMAX" in got.fix
    else:
        assert np.array_equal(got, np.stack([np.rint(real * (255 / full))[::-1]] * 3, 2))
    if (bits, scale) == (8, "as stored"):
        return
    low, high = np.quantile(real, [0.1, 0.8])  # the ends are cut off
    got = decoded(fits(values, bits, extension=extension, **cards, DATAMIN=repr(float(low)), DATAMAX=repr(float(high))))
    expected = np.clip((real - low) * (255 / (high - low)), 0, 255)[::-1, :, None]
    assert np.abs(got - expected).max() <= 0.501


@pytest.mark.parametrize("scale", ["as stored", "unsigned", "shifted", "halved"])
@pytest.mark.parametrize("bits", BITS)
def test_pixels_without_a_value_are_refused(bits: int, scale: str) -> None:
    cards, _, _ = cards_of(bits, scale)
    ends = {"DATAMIN": -100000, "DATAMAX": 1e20}
    values = stored(bits)
    if bits > 0:
        cards["BLANK"] = values[2, 2]
        without = fits(np.where(values == values[2, 2], values[0, 0], values), bits, **cards, **ends)
    else:
        without = fits(values, bits, **cards, **ends)
        values[2, 2] = np.nan
    got = decoded(fits(values, bits, **cards, **ends))
    assert isinstance(got, BadItem)
    assert any(reason in got.problem for reason in ("no value", "not finite", "NaN")), got
    if (bits, scale) != (8, "unsigned"):  # astropy does not read signed bytes that may have no value
        assert not isinstance(decoded(without), BadItem)


@pytest.mark.parametrize("kind", deep_unless(["RICE_1", "GZIP_1"], ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"]))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_images_are_read(kind: str, dtype: Any) -> None:
    from astropy.io import fits as astropy_fits

    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 50), endpoint=True).astype(dtype)
    parts = [astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(values, compression_type=kind)]
    buffer = io.BytesIO()
    astropy_fits.HDUList(parts).writeto(buffer)
    got = decoded(buffer.getvalue())
    assert np.array_equal(got[..., 0], np.rint(values[::-1] * (255 / np.iinfo(dtype).max)))


def test_the_first_image_is_taken_wherever_it_is() -> None:
    from astropy.io import fits as astropy_fits

    table = astropy_fits.BinTableHDU.from_columns([astropy_fits.Column("a", "J", array=[1, 2])])
    images = [astropy_fits.ImageHDU(np.full((2, 3), value, np.uint8)) for value in (7, 9)]
    buffer = io.BytesIO()
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), table, *images]).writeto(buffer)
    assert (decoded(buffer.getvalue()) == 7).all()
    buffer = io.BytesIO()
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), table]).writeto(buffer)
    assert "no image" in decoded(buffer.getvalue()).problem


@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 1, 4, 5)])
def test_axes_of_length_one_are_nothing(shape: tuple[int, ...]) -> None:
    values = np.arange(20, dtype=np.uint8).reshape(shape)
    assert np.array_equal(decoded(fits(values, 8))[..., 0], values.reshape(4, 5)[::-1])


@pytest.mark.parametrize("shape", [(9,), (2, 4, 5), (3, 4, 5), (2, 1, 4, 5), (0, 4)])
def test_what_is_not_flat_is_refused(shape: tuple[int, ...]) -> None:
    got = decoded(fits(np.zeros(shape, np.uint8), 8))
    assert isinstance(got, BadItem)
    assert "axes" in got.problem or "no pixels" in got.problem


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.filterwarnings("default")
def test_a_file_that_ends_early_is_refused(share: float) -> None:
    data = fits(np.full((90, 100), 5, np.uint8), 8)
    assert isinstance(decoded(data[: int(share * len(data))]), BadItem)


def test_the_limit_of_pixels_holds_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 1000)
    got = decoded(fits(np.zeros((30, 40), np.uint8), 8))
    assert "too large: 40 x 30" in got.problem


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [fits(stored(bits), bits) for bits in BITS]
    for name in [name for name in sys.modules if name.partition(".")[0] == "astropy"] + ["astropy"]:
        monkeypatch.setitem(sys.modules, name, None)
    for data in files:
        assert decoded(data).fix == "pip install 'raysal[fits]'"
