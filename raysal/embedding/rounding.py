"""Vectors as a pool holds them, given x scale rounded to float16, and what that loses.

A float16 has 11 significant bits from 2^-14 to 65504; smaller numbers have fewer, and below 2^-25 they are zero. Two
things can be lost. None is lost in silence:

- the direction of a vector whose numbers are too small or too large: the item is quarantined, unless the cosine of what
  is stored with what was given is at least `LEAST_COSINE`;
- the differences between vectors whose common offset is large: 10000, 10001 and 10002 are one float16. Such a vector
  counts as blurred, and a pool of which half is blurred ends its job with an error.

The scale of a pool of ready vectors is chosen from a sample (`raysal.embedding.sample`). It is 1 wherever 1 serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import BadItem
from raysal.real_numbers import finite_rows
from raysal.scale import LARGEST_EXPONENT, scale_words

Floats = NDArray[np.floating[Any]]

LEAST_COSINE = 0.999
"""Cosine of a stored vector with the given one, at least."""
SAMPLE_COSINE = 0.9999
"""The same for every vector of the sample, for the scale to be 1. Rounding of ordinary numbers leaves 1 - 1e-7."""
BLURRED_SHARE = 1e-3
"""Of its squared distance to the pool's reference, the share that rounding may change; beyond, a vector is blurred.
Measured on Gaussian vectors and on clusters with an offset: at this share 5 to 9 % of the 10 nearest neighbours are
others (16 to 25 % with 2 numbers a vector), at ten times the share 15 to 25 % (50 %). See benchmarks/RESULTS.md."""
NOISE_UNITS = 16
"""Distances of so many units in the last place of the given numbers are noise, and none is blurred."""
LEAST_MEAN_SQUARE = 1e-12
"""Mean square of a scaled vector from which on it keeps its direction: the numbers err by 2^-25 at most, or by 2^-11 of
themselves, so 1 - cosine^2 is below 2^-50 / 1e-12 + 2^-22 = 9e-4."""
SAMPLE_ROOT_EXPONENT = -18
"""2 to this is a root of the mean square that keeps a cosine of `SAMPLE_COSINE`, by the same sum."""
HEADROOM = 8
"""Binary orders of magnitude that are left free above the largest vector of the sample."""
FLOAT16_MAX = float(np.finfo(np.float16).max)
"""65504, the largest value that a pool can hold."""
FLOAT16_EXPONENT = 15
"""Numbers below 2 to this fit float16."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """How the vectors of one pool become float16. It travels to the workers."""

    scale: float = 1.0
    reference: Floats | None = None
    """A given vector in the midst of the others [d]. Without one, a chunk takes one from its own first batch."""

    def halves(self, keys: Sequence[str], vectors: Floats) -> tuple[NDArray[np.float16], dict[int, BadItem]]:
        """Round vectors to float16, as the pool holds them.

        Args:
            keys: the items' names [n], for errors.
            vectors: as given, float32 or float64 [n, d].

        Returns:
            float16 [n, d], and for each row that lost too much the reason.
        """
        scaled = times(vectors, self.scale)
        rounded = to_float16(scaled)
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", scaled, scaled)
        dim = vectors.shape[1]
        # Not `squares < ...`: a square may be NaN.
        suspects = np.flatnonzero(~((squares >= LEAST_MEAN_SQUARE * dim) & finite_rows(rounded)))
        bad: dict[int, BadItem] = {}
        for row, cosine in zip(suspects.tolist(), cosines(vectors[suspects], rounded[suspects]).tolist(), strict=True):
            if not cosine >= LEAST_COSINE:
                bad[row] = self._lost(keys[row], vectors[row], cosine)
        return rounded, bad

    def _lost(self, key: str, vector: Floats, cosine: float) -> BadItem:
        """Why a vector cannot be held."""
        largest = float(np.abs(vector).max())
        if not np.isfinite(largest):
            return BadItem(key, "the vector is not finite")
        at = "" if self.scale == 1 else f" at the pool's scale {scale_words(self.scale)}"
        exponent = FLOAT16_EXPONENT - HEADROOM - int(np.frexp(largest)[1])
        fits = abs(exponent) <= LARGEST_EXPONENT
        better = f"embed into another directory with another --scale, as 2^{exponent}" if fits else "scale the vectors"
        if np.isnan(cosine):
            limit = FLOAT16_MAX / self.scale
            return BadItem(key, f"a value of {largest:.6g} does not fit float16 (at most {limit:.6g}{at})", better)
        problem = f"its largest number is {largest:.3g}, too small for float16{at}: a cosine of {cosine:.3f} is left"
        return BadItem(key, problem, better)

    def blurred(self, vectors: Floats, rounded: NDArray[np.float16], reference: Floats) -> int:
        """Count the vectors that rounding makes too like the reference, or unlike it.

        Args:
            vectors: as given [n, d].
            rounded: what `halves` made of them, finite [n, d].
            reference: [d].

        Returns:
            How many of the n have a squared distance to the reference of which rounding is more than `BLURRED_SHARE`.
        """
        scaled = times(vectors, self.scale)
        with np.errstate(over="ignore", invalid="ignore"):
            origin = times(reference.astype(vectors.dtype), self.scale)
            gaps, errors = scaled - origin, rounded - scaled
            errors -= to_float16(origin) - origin
        lost, kept, squares = (np.einsum("ij,ij->i", x, x) for x in (errors, gaps, scaled))
        noise = (NOISE_UNITS * np.finfo(vectors.dtype).eps) ** 2
        return int(((lost > BLURRED_SHARE * kept) & (kept > noise * squares)).sum())


def as_given(rows: Sequence[NDArray[Any]]) -> Floats:
    """Rows of one length as a matrix [n, d], of float64 where one of them needs it, else of float32."""
    matrix = np.stack(rows)
    if matrix.dtype in (np.float32, np.float64):
        return matrix
    return matrix.astype(np.float32 if np.can_cast(matrix.dtype, np.float32) else np.float64)


def times(vectors: Floats, scale: float) -> Floats:
    """Vectors x scale, in their own precision; in float64 where a float32 cannot hold such a scale."""
    if scale == 1:
        return vectors
    with np.errstate(over="ignore"):
        if vectors.dtype == np.float32 and 2.0**-100 < scale < 2.0**100:
            return vectors * np.float32(scale)
        return vectors.astype(np.float64) * scale


def to_float16(scaled: Floats) -> NDArray[np.float16]:
    """Round to float16, by way of float32 as pools always did; infinite where a value is too large."""
    with np.errstate(over="ignore"):
        return scaled.astype(np.float32, copy=False).astype(np.float16)


def cosines(given: Floats, stored: NDArray[np.float16]) -> NDArray[np.float64]:
    """Cosines float64 [n] of rows of two matrices [n, d], at any magnitude.

    Args:
        given: finite or not.
        stored: what was made of it.

    Returns:
        1 for a zero vector that stayed one, 0 for another that became one; NaN where a value is not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = _largest_one(given), _largest_one(stored)
        lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
        found: NDArray[np.float64] = (a * b).sum(1) / np.where(lengths > 0, lengths, 1)
    found[~a.any(1) & ~b.any(1)] = 1.0
    return found


def _largest_one(rows: Floats) -> NDArray[np.float64]:
    """Rows divided by their largest numbers, so that no square of them is out of range; zero rows stay zero."""
    wide = rows.astype(np.float64)
    largest = np.abs(wide).max(1, initial=0.0, keepdims=True)
    return wide / np.where(largest == 0, 1.0, largest)


def to_half(key: str, vector: Floats, scale: float = 1.0) -> NDArray[np.float16] | BadItem:
    """Round one vector to float16, as a pool of that scale holds it.

    Args:
        key: the item's name, for the error.
        vector: as given [d].
        scale: of the pool.

    Returns:
        float16 [d], or a `BadItem` where a value is not finite or too large, or the vector loses its direction.
    """
    rounded, bad = Rounding(scale=scale).halves([key], as_given([vector]))
    half: NDArray[np.float16] = rounded[0]
    return bad.get(0, half)


def middle_row(vectors: Floats) -> Floats:
    """The row [d] of some vectors [n, d] nearest to the medians of their coordinates: outliers do not move it."""
    wide = vectors.astype(np.float64) / (np.abs(vectors).max(initial=0.0) or 1.0)  # no square is out of range
    return np.asarray(vectors[((wide - np.median(wide, 0)) ** 2).sum(1).argmin()])


def choose_scale(sample: Floats) -> float:
    """The scale for vectors of which these are a sample.

    It keeps as many of them as any scale, each with a cosine of `SAMPLE_COSINE`. It is 1 if 1 does; otherwise the one
    that leaves `HEADROOM` for larger vectors than those of the sample.

    Args:
        sample: finite [n, d].

    Returns:
        A power of two.
    """
    wide = sample[sample.any(1)].astype(np.float64)
    kept_by_one = int((cosines(wide, to_float16(wide)) >= SAMPLE_COSINE).sum())
    if kept_by_one == len(wide):
        return 1.0
    largest = np.abs(wide).max(1)
    means = np.sqrt((_largest_one(wide) ** 2).mean(1)) * largest  # roots of mean squares
    most = FLOAT16_EXPONENT - np.frexp(largest)[1]
    least = SAMPLE_ROOT_EXPONENT - (np.frexp(means)[1] - 1)
    exponents = np.arange(-LARGEST_EXPONENT, LARGEST_EXPONENT + 1)
    kept = np.searchsorted(np.sort(least), exponents, "right") - np.searchsorted(np.sort(most), exponents, "left")
    if kept_by_one >= kept.max():
        return 1.0
    best = np.flatnonzero(kept == kept.max())
    steps = np.flatnonzero(np.diff(best) > 1)
    run = best[steps[-1] + 1 :] if len(steps) else best  # of neighbours, the one of the largest exponents
    return float(2.0 ** int(exponents[run[-1]] - min(HEADROOM, (len(run) - 1) // 2)))
