"""What the Fisher information of an item is: from what the head predicts of it to the factor R of V = R (x) h.

The Fisher matrix of a softmax head's weights is E_y[g g'], g = (e_y - p) (x) h the gradient of the loss for class y
(Ash et al., NeurIPS 2021). V has one row sqrt(p_y) g a class, so that V'V is that matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.fleet import Partition
from raysal.models.likelihood.classes import class_residuals
from raysal.numerics import one_thread
from raysal.scoring.linear import Linear
from raysal.strategies.information.fisher import Information

Name = Literal["binary", "top_c", "exact"]
MATRIX_BYTES = 8 * 2**30
"""Memory that the driver's matrices may take."""
ROW_BYTES = 8 * 2**30
"""Memory that what is known of the candidates may take, over all partitions, beside their features."""
MATRICES = 5
"""Matrices of F's size that the driver holds at once."""


@dataclass(frozen=True, eq=False)
class Form:
    """A form of the Fisher information, as it travels to partitions.

    The rows e_y - p add up to 0 over the classes. So they are written in an orthonormal basis of the C - 1 directions
    that do, Helmert's: a prior in proportion to the identity and all traces stay what they are, and m d numbers take
    the place of C d.
    """

    head: Linear
    """for features less the centre, over the sizes of a standardised head"""
    top: int
    """classes of the expectation, the most probable ones; 0 for the binary form"""

    @classmethod
    def of(cls, name: Name, head: Linear, top_classes: int) -> Form:
        """A form by its name.

        Args:
            name: as the config has it.
            head: what predicts one class of several, or a number.
            top_classes: classes of the expectation of `top_c`.

        Returns:
            The form; for numbers, and for a head of one class, all names give the same.
        """
        classes, head = len(head.bias), head.over_sizes()
        if head.likelihood.quadratic or classes == 1 or name == "binary":
            return cls(head, 0)
        return cls(head, classes if name == "exact" else min(top_classes, classes))

    @property
    def rank(self) -> int:
        """r, the rows of V."""
        return self.top or 1

    @property
    def outputs(self) -> int:
        """m, the outputs that V has a block of columns for."""
        return len(self.head.bias) - 1 if self.top else 1

    @property
    def rank_one(self) -> bool:
        """Whether the information of an item is v v', for a v of d numbers."""
        return self.rank == self.outputs == 1

    def roots(self, outputs: torch.Tensor) -> torch.Tensor:
        """R of some items. For one thread.

        Args:
            outputs: the head's, float64 [C, n].

        Returns:
            float64 [r, m, n]: 1 for numbers; sqrt(p (1 - p)), p the probability of the predicted class, in the binary
            form; else sqrt(q_y) (e_y - p) of the most probable classes y, q their probabilities, made to add up to 1.
        """
        if self.head.likelihood.quadratic:
            return torch.ones(1, 1, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        p = torch.softmax(outputs, 0)
        # The predicted class's residual is 1 - p, with its digits also where the head is sure.
        residuals = class_residuals(p)
        if not self.top:
            return (p.amax(0) * residuals.amax(0)).sqrt()[None, None]
        best = p.sort(dim=0, descending=True, stable=True).indices[: self.top]
        shares = p.gather(0, best)
        total = shares[0].clone()
        for share in shares[1:]:
            total += share
        rows = [residuals, *(alone_less(p, place) for place in best[1:])]
        return (shares / total).sqrt()[:, None] * torch.stack([in_helmert_basis(row) for row in rows])

    def features(self, block: torch.Tensor) -> torch.Tensor:
        """A block of vectors [n, width] less the centre, in float64; over the sizes of a standardised head."""
        centred = block.double() - self.head.centre(block.shape[1], block.device, torch.float64)
        size = self.head.relative_size(block.shape[1], block.device, torch.float64)
        return centred if size is None else centred / size

    def of_items(self, vectors: NDArray[np.floating]) -> Information:
        """V of a few items in the driver, the same bits for any number of threads.

        Args:
            vectors: [n, d].

        Returns:
            The information of each.
        """
        wide = self.features(torch.from_numpy(vectors.astype(np.float64)))
        with one_thread():
            outputs = torch.from_numpy(self.head.weight) @ wide.T + torch.from_numpy(self.head.bias)[:, None]
            return Information(self.roots(outputs), wide)

    def bind(self, partition: Partition) -> Callable[[torch.Tensor], torch.Tensor]:
        """Prepare the form for blocks of a partition, all of one size.

        Args:
            partition: whose blocks.

        Returns:
            A function from features of a block (`features`), float64 [block, width], to R of its rows, [r, m, block].
        """
        weight = partition.aligned(self.head.weight, torch.float64)
        bias = torch.tensor(self.head.bias, device=partition.device)[:, None]

        def roots(features: torch.Tensor) -> torch.Tensor:
            logits = weight.products(features).T + bias
            with one_thread():
                return self.roots(logits)

        return roots

    def check_size(self, dim: int, candidates: int) -> None:
        """Refuse a form whose numbers do not fit into memory.

        Args:
            dim: d, the length of the features.
            candidates: how many items may be picked.

        Raises:
            ConfigError: the matrices, or what is kept of each candidate, would take more than the limits.
        """
        if not self.top:
            return
        width, gib = self.outputs * dim, 2.0**30
        matrices = 8 * MATRICES * width**2
        rows = 8 * candidates * self.rank * (self.outputs + 2 * self.rank)
        what = f"with {len(self.head.bias)} classes and {dim} features"
        if matrices > MATRIX_BYTES:
            problem = f"{what} this takes {MATRICES} matrices of {width:,} x {width:,}, {matrices / gib:,.0f} GiB"
            raise ConfigError("select.fisher", problem, 'use fisher = "binary", or shorter vectors')
        if rows > ROW_BYTES:
            problem = f"{what} this takes {rows / gib:,.0f} GiB for {candidates:,} candidates"
            raise ConfigError("select.fisher", problem, 'narrow the pool, or use fisher = "top_c" or "binary"')


def alone_less(p: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """e_y - p [C, n] for one class y = place [n] an item."""
    return (-p).scatter_add_(0, place[None], torch.ones_like(p[:1]))


def in_helmert_basis(rows: torch.Tensor) -> torch.Tensor:
    """Write vectors that add up to 0 in an orthonormal basis of all such vectors.

    Vector a of the basis, a = 1 ... C - 1, has a times 1, once -a, and zeros, over sqrt(a (a + 1)).

    Args:
        rows: [C, n]

    Returns:
        [C - 1, n]
    """
    out = torch.empty_like(rows[1:])
    before = rows[0].clone()
    for a in range(1, len(rows)):
        out[a - 1] = (before - rows[a] * a) / math.sqrt(a * (a + 1))
        before += rows[a]
    return out
