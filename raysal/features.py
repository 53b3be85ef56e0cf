"""A hidden layer that a linear head stands on, as a frozen record: the head takes what the layer makes of a vector.

Every reading of vectors of the pool goes through it (`raysal.fleet.partition.use_features`), so that narrowers and
strategies work on hidden features without knowing of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import UserError
from raysal.numerics import LAYER_ROWS, AlignedMatrix, padded, round_up, tiles

if TYPE_CHECKING:
    import torch

LARGEST = 65504.0
"""The largest float16. Hidden features are cut there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HiddenLayer:
    """The function min(max(weight · x + bias, 0), 65504), rounded to float16 as the vectors of a pool are.

    Arrays are float64, contiguous and read-only. Weight and bias times a positive number give features times that
    number, so the layer has no scale of its own. All features of a vector that is not finite are NaN.

    Raises:
        UserError: Shapes disagree, or a number is not finite.
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
        """m, the number of hidden features."""
        return len(self.bias)

    @property
    def pool_dim(self) -> int:
        """d, the length of the vectors that it takes."""
        return int(self.weight.shape[1])

    def see(self, vectors: NDArray[Any]) -> NDArray[np.float16]:
        """Compute hidden features, bit for bit those that a partition on a CPU yields. O(n m d).

        Args:
            vectors: [n, d].

        Returns:
            float16 [n, m].

        Raises:
            UserError: `vectors` are not [n, d].
        """
        import torch

        if vectors.ndim != 2 or vectors.shape[1] != self.pool_dim:
            raise UserError("vectors", f"shape {vectors.shape}", f"this hidden layer takes [n, {self.pool_dim}]")
        layer = DeviceLayer(self, torch.device("cpu"))
        out = np.empty((len(vectors), self.dim), np.float16)
        for own, tile in tiles(vectors, LAYER_ROWS, layer.width_in, torch.float32):
            out[own] = layer.see(tile)[: own.stop - own.start, : self.dim].half().numpy()
        return out


class DeviceLayer:
    """A hidden layer on a device, for tiles of LAYER_ROWS rows: its features keep the law of `raysal.numerics`."""

    def __init__(self, layer: HiddenLayer, device: torch.device) -> None:
        import torch

        self.layer = layer
        self.width_in = round_up(layer.pool_dim)
        """columns of a tile of vectors"""
        self.width = round_up(layer.dim)
        """columns of a tile of features"""
        self._weight = AlignedMatrix(layer.weight, torch.float32, device, width=self.width_in)
        self._bias = padded(layer.bias[None], self.width, torch.float32, device)[0]

    def see(self, tile: torch.Tensor) -> torch.Tensor:
        """Compute the hidden features of a tile. O(LAYER_ROWS width_in width).

        Args:
            tile: float32 [LAYER_ROWS, width_in], zero beyond d.

        Returns:
            float32 [LAYER_ROWS, width] that hold float16 values, zero beyond m.
        """
        features = self._weight.padded_products(tile).add_(self._bias).clamp_(0.0, LARGEST)
        # Infinity times a negative weight would be cut to a sound-looking 0.
        features += (tile * 0.0).sum(1, keepdim=True)
        return features.half().float()


def same_layer(one: HiddenLayer | None, other: HiddenLayer | None) -> bool:
    """Whether two hidden layers are equal to the bit, or both are None. O(m d)."""
    if one is None or other is None:
        return one is other
    return one is other or (np.array_equal(one.weight, other.weight) and np.array_equal(one.bias, other.bias))


def frozen(value: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Make an array float64, contiguous and read-only.

    Args:
        value: Any numbers.
        name: Of the array, for the error.

    Returns:
        `value` itself if it is all that already, else a copy.

    Raises:
        UserError: A number in it is not finite.
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
