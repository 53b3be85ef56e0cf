"""Tensors of torch and rows of sparse matrices as NumPy arrays. Neither torch nor SciPy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_dense(tensor: Any) -> bool:
    """Whether a torch tensor holds all its values."""
    return str(tensor.layout) == "torch.strided"


def tensor_values(tensor: Any) -> NDArray[Any]:
    """The values of a torch tensor of any kind and device; bfloat16 and float8, which NumPy lacks, as float32."""
    tensor = tensor.detach()
    if not is_dense(tensor):
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
        tensor = tensor.float()
    values: NDArray[Any] = tensor.cpu().numpy(force=True)
    return values


@dataclass(frozen=True)
class SparseRows(Sequence[Any]):
    """Rows of a sparse matrix; each becomes dense when it is asked for."""

    borders: NDArray[Any]
    """[n + 1]: where the elements of each row begin."""
    places: NDArray[Any]
    """The column of each element."""
    values: NDArray[Any]
    length: int
    """Length of a row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __getitem__(self, place: Any) -> Any:
        if place >= len(self):
            raise IndexError(place)
        low, high = self.borders[place], self.borders[place + 1]
        row = np.zeros(self.length, self.values.dtype)
        np.add.at(row, self.places[low:high], self.values[low:high])  # an element that is there twice is a sum
        return row
