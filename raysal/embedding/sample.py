"""What the first vectors of a source say of all: the scale of the pool, and a vector in the midst of the others.

Only ready vectors are looked at, because to read them is cheap. The sample is the first items of the listing, so it
depends on nothing but the source: chunks, processes and stops have no part in it.
"""

from __future__ import annotations

import numpy as np

from raysal.embedding.base import Encoder
from raysal.embedding.batches import checked_columns
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.rounding import Floats, Rounding, choose_scale, middle_row
from raysal.sources.base import Source

SAMPLE_ITEMS = 1024
"""Items of the sample at most."""


def rounding_for(source: Source, encoder: Encoder, scale: float | None) -> Rounding:
    """How the vectors of a source are to be rounded.

    Args:
        source: gives the vectors, or items that a model makes vectors of.
        encoder: `precomputed` checks ready vectors. Of the vectors of a model there is no sample; their scale is 1.
        scale: as the user or the pool says; None to choose it.

    Returns:
        The scale, and the reference where there is a sample.
    """
    sample = first_vectors(source, encoder) if isinstance(encoder, Precomputed) else None
    if sample is None:
        return Rounding(scale=scale or 1.0)
    return Rounding(scale=scale or choose_scale(sample), reference=middle_row(sample))


def first_vectors(source: Source, encoder: Precomputed) -> Floats | None:
    """The vectors of the first items of a source [n, d]; None if none of them can be embedded."""
    unit = next(source.units(SAMPLE_ITEMS), None)
    if unit is None:
        return None
    some = []
    for _, columns in checked_columns(source, unit, encoder.dim):
        good = np.delete(columns.vectors, list(encoder.check(columns)), 0)
        some.append(good if good.dtype != np.float16 else good.astype(np.float32))
    found = np.concatenate(some)
    return found if len(found) else None
