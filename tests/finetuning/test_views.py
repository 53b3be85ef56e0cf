"""Views of a picture: what a weak one may do, that a strong one is a function of its place, and every operation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from PIL import Image

from raysal.finetuning.options import FixMatch
from raysal.finetuning.views import OPERATIONS, strong_view, views, weak_view
from raysal.rng import generator

GREY = (128, 128, 128)
PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def padded(pixels: np.ndarray, most: int) -> np.ndarray:
    return np.pad(pixels, ((most, most), (most, most), (0, 0)), mode="reflect")


def place_of(view: np.ndarray, pixels: np.ndarray) -> tuple[int, int] | None:
    """The shift (down, right) of a view, found by trying all of them; None if it is no shift."""
    wide = padded(pixels, 2)
    for down in range(-2, 3):
        for right in range(-2, 3):
            if np.array_equal(wide[2 + down : 18 + down, 2 + right : 18 + right], view):
                return down, right
    return None


def test_a_weak_view_is_a_shift_both_ways_with_mirrored_borders() -> None:
    found = {place_of(weak_view(PICTURE, generator(key), "none"), PICTURE) for key in range(300)}
    assert found == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


@pytest.mark.parametrize(("symmetry", "looks"), [("none", 1), ("mirror", 2), ("turns", 8)])
def test_symmetry_says_what_else_a_weak_view_may_do(symmetry: str, looks: int) -> None:
    allowed = [
        np.rot90(PICTURE if not mirror else PICTURE[:, ::-1], turn)
        for mirror in range(2)
        for turn in range(4 if symmetry == "turns" else 1)
    ][: looks if symmetry != "none" else 1]
    seen = set()
    for key in range(60):
        view = weak_view(PICTURE, generator(key), symmetry)  # type: ignore[arg-type]
        (look,) = [at for at, pixels in enumerate(allowed) if any(
            np.array_equal(np.rot90(padded(PICTURE, 2)[2 + d : 18 + d, 2 + r : 18 + r][:, :: -1 if m else 1], t), view)
            for d in range(-2, 3) for r in range(-2, 3)
            for m, t in [divmod(at, 4 if symmetry == "turns" else 1)]
        )]  # fmt: skip
        seen.add(look)
    assert len(allowed) == looks
    assert seen == set(range(looks))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_gives_a_picture_of_the_same_size_at_every_strength(operation) -> None:
    image = Image.fromarray(PICTURE)
    for strength in (0.0, 0.37, 0.999999):
        found = operation(image, strength, GREY)
        assert (found.size, found.mode) == ((16, 16), "RGB")
    assert np.array_equal(np.asarray(image), PICTURE)


def test_the_middle_of_a_shear_and_the_zero_of_a_shift_change_nothing() -> None:
    image = Image.fromarray(PICTURE)
    for operation in (OPERATIONS[7], *OPERATIONS[9:11], *OPERATIONS[12:]):
        assert np.array_equal(np.asarray(operation(image, 0.5, GREY)), PICTURE)


def test_views_depend_on_their_place_and_not_on_what_is_beside_them() -> None:
    pictures = [np.roll(PICTURE, at, 0) for at in range(6)]
    make = partial(strong_view, symmetry="turns", distortions=2, fill=GREY)
    whole = views(pictures, make, 5, "strong", 9)
    pieces = [*views(pictures[:2], make, 5, "strong", 9), *views(pictures[2:], make, 5, "strong", 9, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(whole, pieces, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(whole, views(pictures, make, 6, "strong", 9), strict=True))
    again = views(pictures, make, 5, "strong", 10)
    assert not all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def test_a_strong_view_covers_up_to_a_quarter() -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    fill = (1, 2, 3)
    shares = [(strong_view(white, generator(key), "none", 0, fill) == fill).all(2).mean() for key in range(200)]
    assert max(shares) <= 0.25
    assert max(shares) > 0.15
    assert min(shares) < 0.01


def test_a_picture_of_one_pixel_has_views() -> None:
    one = np.full((1, 1, 3), 7, np.uint8)
    assert strong_view(one, generator(1), "turns", FixMatch().distortions, GREY).shape == (1, 1, 3)
