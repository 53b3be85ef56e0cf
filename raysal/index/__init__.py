"""An index of a pool: neighbours without a pass over every vector, with the recall it was measured to have."""

from __future__ import annotations

from raysal.index.files import Index, drop_index, generations, open_index

__all__ = ["Index", "drop_index", "generations", "open_index"]
