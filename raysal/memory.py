"""What a narrower that accumulates remembers of a round, as one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a narrower that accumulates carries from round to round."""

    found: NDArray[np.int64]
    """ids of the items found so far, ascending"""
    searched: NDArray[np.int64]
    """ids of the labelled items whose neighbours they are, ascending"""

    def dump(self) -> bytes:
        """One safetensors file; equal memories are equal bytes. 8 bytes an item."""
        from safetensors.numpy import save

        # One entry: safetensors writes several in random order.
        content: bytes = save({"ids": np.concatenate([[len(self.found)], self.found, self.searched]).astype("<i8")})
        return content

    @classmethod
    def load(cls, content: bytes) -> Memory:
        """What `dump` made."""
        from safetensors.numpy import load

        ids: NDArray[np.int64] = load(content)["ids"]
        count = int(ids[0])
        return cls(found=ids[1 : 1 + count], searched=ids[1 + count :])
