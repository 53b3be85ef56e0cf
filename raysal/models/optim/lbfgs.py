"""Linear models with an L2 penalty, fitted by L-BFGS in coordinates where few iterations are enough.

Rows are rotated into the eigenbasis of their second moment (first into their own span, where there are fewer rows than
features). Each coordinate is scaled by the square root of its expected curvature. A rotation does not change the
penalty; only the number of iterations changes. Raw features with a large common mean or a few dominant directions take
tens of iterations instead of thousands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysal.models.likelihood import SOFTMAX, Likelihood

if TYPE_CHECKING:
    import torch

CURVATURE = 0.02
"""Mean p (1 - p) that is expected at the solution. It only scales coordinates. Of 0.5 (the bound), 0.1, 0.02 and 0.004,
0.02 took the fewest iterations on digits and on three synthetic sets with 10 and 50 classes: 7 to 112 for 1e-6."""


class Design:
    """Rows [n, D] with weights [n], rotated once. `solve` may then be called for several penalties or other weights.

    Building costs O(n D min(n, D)), memory O(n D). r = min(n, D) coordinates remain.
    """

    def __init__(self, rows: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        import torch

        self._shares = torch.from_numpy(weights / weights.sum())
        full = torch.from_numpy(rows)
        # Rotations keep the lengths and angles of rows: first into their span, then onto its principal axes.
        span = None
        if full.shape[0] < full.shape[1]:
            span, triangle = torch.linalg.qr(full.T)
            full = triangle.T
        moment = (full.T * self._shares) @ full
        values, axes = torch.linalg.eigh(moment)
        self._values = values.clamp(min=0.0)
        self._rows = full @ axes
        self._back = axes.T if span is None else axes.T @ span.T  # [r, D]

    def solve(
        self,
        targets: NDArray[np.float64],
        penalty: float,
        *,
        max_iter: int,
        tol: float,
        likelihood: Likelihood = SOFTMAX,
        weights: NDArray[np.float64] | None = None,
        start: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The weights W that minimise mean loss + penalty / 2 · ‖W‖².

        The problem is strictly convex, and there is one answer. L-BFGS with strong Wolfe conditions stops once no
        coordinate of the scaled gradient exceeds `tol`, when no step lowers the loss, or after `max_iter` iterations.
        An iteration costs O(n r C).

        Args:
            targets: [n, C]; where answers exclude each other, those of an item add up to 1.
            penalty: above 0.
            max_iter: iterations at most.
            tol: largest coordinate of the scaled gradient at which it stops.
            likelihood: what the labels are.
            weights: [n] by which the loss is averaged, some perhaps 0; those of the rows unless given. Other weights
                cost iterations only.
            start: weights [C, D] to begin at; zero unless given.

        Returns:
            W [C, D]
        """
        import torch

        scale = torch.rsqrt(penalty + CURVATURE * self._values)
        rows = self._rows * scale
        damping = penalty * scale**2
        wanted = torch.from_numpy(targets)
        shares = self._shares if weights is None else torch.from_numpy(weights / weights.sum())
        solution = torch.zeros((targets.shape[1], rows.shape[1]), dtype=torch.float64)
        if start is not None:
            solution += (torch.from_numpy(start) @ self._back.T) / scale
        optimizer = torch.optim.LBFGS(
            [solution],
            max_iter=max_iter,
            max_eval=2 * max_iter,
            tolerance_grad=tol,
            tolerance_change=tol * tol,  # a change of the loss is of the order of the squared gradient
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def loss_and_gradient() -> torch.Tensor:
            logits = rows @ solution.T
            predicted, costs = likelihood.torch_losses(logits, wanted)
            solution.grad = ((predicted - wanted).T * shares) @ rows + damping * solution
            fit = (shares[:, None] * costs).sum()
            loss: torch.Tensor = fit + 0.5 * (damping * solution**2).sum()
            return loss

        with torch.no_grad():
            optimizer.step(loss_and_gradient)  # type: ignore[no-untyped-call, arg-type, unused-ignore]
            found: NDArray[np.float64] = ((solution * scale) @ self._back).numpy()
        return found
