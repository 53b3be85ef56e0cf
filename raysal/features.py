"""A hidden layer that a linear head stands on, as a frozen record: what it makes of a vector is what the head takes.

It is looked through wherever vectors of the pool are read (`raysal.fleet.partition.use_features`), so that narrowers
and selectors work on hidden features without knowing of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError

if TYPE_CHECKING:
    import torch

TILE = 256
"""Rows that go through a hidden layer together, always: the bits of a row then depend on nothing but the row."""
ALIGN = 16
"""Widths are multiples of this, as those of a partition's blocks are, for the same reason."""
LARGEST = 65504.0
"""The largest float16; what a hidden layer makes of a vector is cut there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HiddenLayer:
    """min(max(weight · x + bias, 0), 65504), rounded to float16 as the vectors of a pool are.

    Arrays are float64, contiguous and read-only. Scaling both by a positive number scales what is seen, so there is no
    scale of its own. A vector that is not finite is seen as NaN throughout.

    Raises:
        UserError: shapes disagree, or a number is not finite.
    """

    weight: NDArray[np.float64]
    """[m, d]"""
    bias: NDArray[np.float64]
    """[m]"""

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            object.__setattr__(self, name, frozen(getattr(self, name), f"hidden_layer.{name}"))
        if self.weight.ndim != 2 or 0 in self.weight.shape or self.bias.shape != self.weight.shape[:1]:
            raise UserError("hidden_layer.weight", f"shape {self.weight.shape} with a bias of shape {self.bias.shape}")

    @property
    def dim(self) -> int:
        """m, the length of what is seen."""
        return len(self.bias)

    @property
    def pool_dim(self) -> int:
        """d, the length of the vectors it is held over."""
        return int(self.weight.shape[1])

    def see(self, vectors: NDArray[Any]) -> NDArray[np.float16]:
        """Hidden features [n, m] of vectors [n, d], bit for bit what a partition on a CPU yields. O(n m d).

        Raises:
            UserError: vectors are not [n, d].
        """
        import torch

        if vectors.ndim != 2 or vectors.shape[1] != self.pool_dim:
            raise UserError("vectors", f"shape {vectors.shape}", f"this hidden layer takes [n, {self.pool_dim}]")
        through = DeviceLayer(self, torch.device("cpu"))
        out = np.empty((len(vectors), self.dim), np.float16)
        tile = torch.zeros(TILE, through.width_in)
        for start in range(0, len(vectors), TILE):
            some = vectors[start : start + TILE]
            tile[: len(some), : self.pool_dim] = torch.from_numpy(np.array(some, np.float32))
            out[start : start + len(some)] = through.see(tile)[: len(some), : self.dim].half().numpy()
        return out


class DeviceLayer:
    """A hidden layer on a device, padded to the widths of blocks: `width_in` and `width`, both multiples of ALIGN."""

    def __init__(self, layer: HiddenLayer, device: torch.device) -> None:
        import torch

        self.layer = layer
        self.width_in, self.width = (-(-size // ALIGN) * ALIGN for size in (layer.pool_dim, layer.dim))
        weight = torch.zeros(self.width_in, self.width, device=device)
        weight[: layer.pool_dim, : layer.dim] = torch.from_numpy(layer.weight.astype(np.float32).T.copy())
        bias = torch.zeros(self.width, device=device)
        bias[: layer.dim] = torch.from_numpy(layer.bias.astype(np.float32))
        self._weight, self._bias = weight, bias

    def see(self, tile: torch.Tensor) -> torch.Tensor:
        """What is seen of a tile float32 [TILE, width_in]: float32 [TILE, width] of float16 values, zero beyond the
        layer's own."""
        seen = (tile @ self._weight).add_(self._bias).clamp_(0.0, LARGEST)
        # Infinity times a negative weight would be cut to a sound-looking 0.
        seen += (tile * 0.0).sum(1, keepdim=True)
        return seen.half().float()


def same_layer(one: HiddenLayer | None, other: HiddenLayer | None) -> bool:
    """Whether two lenses, or none, show everything alike, to the bit. O(m d)."""
    if one is None or other is None:
        return one is other
    return one is other or (np.array_equal(one.weight, other.weight) and np.array_equal(one.bias, other.bias))


def has_hidden_layer(trainer: object) -> bool:
    """Whether heads of a trainer see vectors through a hidden layer; one that does not say so makes none."""
    return bool(getattr(trainer, "hidden_layer", False))


def frozen(value: NDArray[Any], name: str) -> NDArray[np.float64]:
    """The array as float64, contiguous and read-only: itself, if it is all that, else a copy.

    Raises:
        UserError: a number in it is not finite.
    """
    ready = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.flags.c_contiguous
    array: NDArray[np.float64] = (
        value if ready and not value.flags.writeable else np.array(value, np.float64, order="C")
    )
    array.flags.writeable = False
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()  # one reading, and finite only if all are: a look at each takes thrice as long
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise UserError(name, "holds numbers that are not finite")
    return array
