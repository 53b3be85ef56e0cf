"""What the first vectors of a source say of all: the scale of the pool, and a vector in the midst of the others.

Only ready vectors are looked at, because to read them is cheap. The sample is the first items of the listing, so it
depends on nothing but the source: chunks, processes and stops have no part in it.
"""

from __future__ import annotations

from raysal.embedding.base import Encoder
from raysal.embedding.precomputed import Precomputed
from raysal.embedding.rounding import Floats, Rounding, as_given, choose_scale, middle_row
from raysal.embedding.unit import prepared_items
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


def first_vectors(source: Source, encoder: Encoder) -> Floats | None:
    """The vectors of the first items of a source [n, d]; None if none of them can be embedded."""
    unit = next(source.units(SAMPLE_ITEMS), None)
    if unit is None:
        return None
    ready = [entry.value for entry in prepared_items(source, encoder, unit) if entry.error is None]
    return as_given(ready) if ready else None
