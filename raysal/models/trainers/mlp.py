"""A hidden layer trained on the labels, and a linear head with a posterior on the hidden features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import ConfigError
from raysal.features import HiddenLayer
from raysal.models.evidence import Evidence
from raysal.models.likelihood import Weighting
from raysal.models.trainers.base import Context, Fit, Fitter
from raysal.models.trainers.logistic import Logistic
from raysal.models.trainers.mc_dropout import McDropout
from raysal.numerics import one_thread
from raysal.rng import derive, generator

if TYPE_CHECKING:
    import torch

PATIENCE = 20
"""Epochs without progress after which training ends."""
PROGRESS = 1e-3
"""Share by which the training loss must fall to count as progress."""
LEAST_VARIANCE = 1e-6
"""Share of the largest variance. A direction of the labelled vectors with less variance counts as none."""


@dataclass(frozen=True, kw_only=True)
class Mlp(Fitter):
    """One hidden layer of `hidden` rectified units under a softmax, which is then fitted anew, exactly, by `Logistic`.

    It is a neural-linear head (Snoek et al., ICML 2015; Riquelme et al., ICLR 2018). The hidden layer is the
    `HiddenLayer` of the head. Posterior, closed-form updates, scores and strategies work on hidden features as they do
    on vectors. A new fit trains another hidden layer.

    Training minimises the weighted mean cross-entropy + decay / 2 · (‖W1‖² + ‖W2‖²) by Adam (Kingma & Ba, ICLR 2015) in
    float32. Vectors are centred and brought to a mean square length of 1; `decay` and `learning_rate` therefore do not
    depend on their unit. Batches are shuffled in each epoch; few labels are one batch. The step falls to zero as a
    cosine over the `epochs` (Loshchilov & Hutter, ICLR 2017). Training ends early when the training loss has not fallen
    by 0.1 % for 20 epochs; no label is held out for that. Directions in which the labelled vectors do not differ are
    left out.

    With `dropout`, that share of the hidden units is dropped at random during training. The last layer is then
    `McDropout` on hidden features, and its `members` masks are the posterior (MC dropout; Gal & Ghahramani, ICML 2016).

    With few labels a hidden layer learns little: on good vectors `logistic` is often the better head until there are
    dozens of labels for each class.

    The result is a function of the arguments. Another kind of machine rounds sums otherwise and finds another hidden
    layer.

    Cost: O(epochs · n · hidden · min(n, d)) to train, on one thread, then `Logistic` on n x hidden. Each pass over the
    pool costs one product more, O(N · d · hidden).

    Raises:
        ConfigError: a field is out of range.
    """

    hidden_layer: ClassVar[bool] = True
    hidden: int = 128
    decay: float = 1e-4
    epochs: int = 300
    batch: int = 512
    learning_rate: float = 1e-2
    dropout: float = 0.0
    members: int = 32
    """Masks; only with dropout."""
    l2: float | Literal["cv"] = 5e-2
    """Of the last layer, as in `Logistic`; `cv` chooses it on hidden features that were trained on every label, and so
    is too sure of them. The number is near what `cv` chooses for vectors as they are."""
    structure: Literal["diagonal", "full", "kronecker", "shared"] = "shared"
    curvature: Weighting = "gaussian"

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"update.trainer.{name}", f"{getattr(self, name)} is below 1")
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise ConfigError("update.trainer.decay", f"{self.decay!r} is not a finite number of at least 0")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError("update.trainer.learning_rate", f"{self.learning_rate!r} is not a finite number above 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError("update.trainer.dropout", f"{self.dropout!r} is not in [0, 1)")
        self.last_layer()

    def last_layer(self) -> Fitter:
        """The trainer of the last layer.

        Returns:
            `Logistic`, or with dropout `McDropout`.

        Raises:
            ConfigError: a field of the last layer is out of range.
        """
        if not self.dropout:
            return Logistic(l2=self.l2, standardise=False, structure=self.structure, curvature=self.curvature)
        if isinstance(self.l2, str):
            raise ConfigError("update.trainer.l2", "cv is not for dropout", "give a number")
        for name, usual in (("structure", "shared"), ("curvature", "gaussian")):
            if getattr(self, name) != usual:
                problem = f"{getattr(self, name)!r} beside dropout, whose masks are the posterior"
                raise ConfigError(f"update.trainer.{name}", problem, "leave one of them out")
        return McDropout(rate=self.dropout, members=self.members, l2=self.l2)

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` is that of the first weights, of the batches and of the masks."""
        # One thread whatever the size: training would make another hidden layer of what threads round differently.
        with one_thread(numpy=True):
            hidden_layer = self.train_layer(evidence, derive(seed, "update", "mlp"))
        shown = replace(evidence, features=hidden_layer.see(evidence.features).astype(np.float64))
        return replace(self.last_layer().learn(shown, classes, seed, context), hidden_layer=hidden_layer)

    def train_layer(self, evidence: Evidence, seed: int) -> HiddenLayer:
        """Train the hidden layer.

        Args:
            evidence: the labels.
            seed: of the first weights and of the batches.

        Returns:
            The layer, in the unit of the vectors; its features of the labelled items have a mean square of 1.
        """
        shares = evidence.weights / evidence.weights.sum()
        centre = shares @ evidence.features
        apart = evidence.features - centre
        scale = math.sqrt(float(shares @ (apart**2).sum(axis=1))) or 1.0
        apart /= scale
        axes = span_of(apart)
        weight, bias = self._trained(apart @ axes, evidence, seed)
        weight = weight @ axes.T / scale
        bias = bias - weight @ centre
        shown = np.maximum(evidence.features @ weight.T + bias, 0)
        size = math.sqrt(float((shown**2).mean())) or 1.0
        return HiddenLayer(weight=weight / size, bias=bias / size)

    def _trained(
        self, inputs: NDArray[np.float64], evidence: Evidence, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights [hidden, r] and bias [hidden] of the hidden layer for inputs [n, r]."""
        import torch

        random = generator(seed)
        n, width = inputs.shape

        def normal(*shape: int, scale: float) -> torch.Tensor:
            return torch.from_numpy((random.standard_normal(shape) * scale).astype(np.float32)).requires_grad_()

        # Inputs are of length 1, so that what comes out of each layer is of order 1 (He et al., ICCV 2015).
        first, second = (
            normal(self.hidden, width, scale=math.sqrt(2)),
            normal(evidence.targets.shape[1], self.hidden, scale=math.sqrt(1 / self.hidden)),
        )
        offsets = [torch.zeros(size, requires_grad=True) for size in (self.hidden, evidence.targets.shape[1])]
        x, targets = (torch.from_numpy(array.astype(np.float32)) for array in (inputs, evidence.targets))
        weights = torch.from_numpy((evidence.weights / evidence.weights.mean()).astype(np.float32))
        optimizer = torch.optim.Adam([first, second, *offsets], lr=self.learning_rate)
        best, since = math.inf, 0
        for epoch in range(self.epochs):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
            order = torch.from_numpy(random.permutation(n)) if n > self.batch else torch.arange(n)
            total = 0.0
            for some in torch.split(order, self.batch):
                hidden = torch.relu(x[some] @ first.T + offsets[0])
                if self.dropout:
                    kept = torch.from_numpy(random.random(hidden.shape, np.float32)) >= self.dropout
                    hidden = hidden * kept / (1 - self.dropout)
                said = torch.log_softmax(hidden @ second.T + offsets[1], dim=1)
                loss = -((targets[some] * said).sum(1) @ weights[some]) / len(some)
                loss = loss + 0.5 * self.decay * ((first**2).sum() + (second**2).sum())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
                optimizer.step()
                total += loss.item() * len(some) / n
            if total < best * (1 - PROGRESS):
                best, since = total, 0
            elif (since := since + 1) >= PATIENCE:
                break
        return first.detach().double().numpy(), offsets[0].detach().double().numpy()


def span_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal directions in which rows differ from zero. O(n² d), at most O(d³).

    Args:
        rows: [n, d]

    Returns:
        Directions [d, r] with r <= n where there are fewer rows than features, else all d directions.
    """
    n, dim = rows.shape
    if n >= dim:
        return np.eye(dim)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    real = values > LEAST_VARIANCE * max(float(values[-1]), 0.0)
    if not real.any():
        return np.eye(dim)[:, :1]
    return np.asarray(rows.T @ (vectors[:, real] / np.sqrt(values[real])))
