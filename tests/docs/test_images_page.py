"""The examples of docs/images.md do what it says."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from pages import ROOT

from raysal.embedding.decode import MAX_PIXELS, decode_image
from raysal.errors import BadItem

PAGE = (ROOT / "docs" / "images.md").read_text()


def shades(pixels: np.ndarray, extratags: str) -> list[int]:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, extratags=eval(extratags))
    return np.asarray(decode_image("a", buffer.getvalue()))[0, :, 0].tolist()


def test_a_stated_range_is_used() -> None:
    (twelve,) = re.findall(r"extratags=(\[\(.*?\)\])", PAGE)
    assert shades(np.array([[0, 100, 200, 2000, 4095]], np.uint16), twelve) == [0, 6, 12, 125, 255]
    assert shades(np.array([[0, 100, 200, 2000, 4095]], np.uint16), "()") == [0, 0, 1, 8, 16]
    (window,) = re.findall(r"`(\(340, \"h\".*?)`", PAGE)
    assert shades(np.array([[-1000, -500, 0, 40, 400, 3000]], np.int16), f"[{window}]") == [0, 32, 64, 66, 89, 255]


def test_the_limit_is_that_of_the_code() -> None:
    assert f"{MAX_PIXELS:,} pixels" in PAGE


@pytest.mark.parametrize("kind", ["jpeg of 12 bits", "lossless jpeg", "pfm"])
def test_what_the_page_says_is_quarantined(kind: str) -> None:
    import imagecodecs

    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    if kind == "jpeg of 12 bits":
        data = imagecodecs.jpeg_encode(ramp, bitspersample=12)
    elif kind == "lossless jpeg":
        data = imagecodecs.ljpeg_encode(ramp, bitspersample=12)
    else:
        data = b"Pf\n64 64\n-1.0\n" + ramp.astype("<f4").tobytes()
    with pytest.raises(BadItem):
        decode_image("a", data)
