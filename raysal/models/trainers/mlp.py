"""A hidden layer trained on the labels, and a linear head with its posterior on what it shows."""

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
"""Epochs without progress after which the hidden layer is taken as it is."""
PROGRESS = 1e-3
"""Share by which the training loss must fall to count as progress."""
FLAT = 1e-6
"""Share of the largest variance below which a direction of the labelled vectors counts as none."""


@dataclass(frozen=True, kw_only=True)
class Mlp(Fitter):
    """One hidden layer of `hidden` rectified units under a softmax, and then the softmax fitted anew, exactly, by
    `Logistic` on what the hidden layer shows: a neural-linear head (Snoek et al., ICML 2015; Riquelme et al., ICLR
    2018). The hidden layer is the head's `HiddenLayer`. Posterior, closed-form updates, scores and strategies then work
    on hidden features as they would on vectors; a new fit trains another hidden layer.

    Training minimises the weighted mean cross-entropy + decay / 2 · (|W1|² + |W2|²) by Adam (Kingma & Ba, ICLR 2015) in
    float32, over vectors centred and brought to a mean square length of 1, so `decay` and `learning_rate` do not depend
    on their units. Batches are dealt anew each epoch, or all labels are one. It ends after `epochs`, the step falling
    to zero as a cosine (Loshchilov & Hutter, ICLR 2017), or when the training loss has not fallen by 0.1 % for 20 of
    them; no label is held out for that. Directions in which the labelled vectors do not differ are not looked at.

    With `dropout` that share of the hidden units is dropped at random while training, the last layer is `McDropout` on
    hidden features, and its `members` masks are the posterior: MC dropout (Gal & Ghahramani, ICML 2016).

    With few labels a hidden layer has little to go by: on good vectors `logistic` is often the better head until there
    are dozens of labels for each class.

    The result is a function of the arguments; on another kind of machine, where sums are rounded otherwise, it is
    another hidden layer.

    Cost: O(epochs · n · hidden · min(n, d)) to train, on one thread, then `Logistic` on n x hidden. Whatever reads the
    pool pays one product more, O(N · d · hidden), each time.

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
    l2: float | Literal["cv"] = 1e-2
    """Of the last layer, as in `Logistic`; `cv` chooses it on hidden features that have seen every label."""
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
        self.last()

    def last(self) -> Fitter:
        """The trainer of the last layer.

        Raises:
            ConfigError: a field of it is out of range.
        """
        if not self.dropout:
            return Logistic(l2=self.l2, structure=self.structure, curvature=self.curvature)
        if isinstance(self.l2, str):
            raise ConfigError("update.trainer.l2", "cv is not for dropout", "give a number")
        for name, usual in (("structure", "shared"), ("curvature", "gaussian")):
            if getattr(self, name) != usual:
                problem = f"{getattr(self, name)!r} beside dropout, whose masks are the posterior"
                raise ConfigError(f"update.trainer.{name}", problem, "leave one of them out")
        return McDropout(rate=self.dropout, members=self.members, l2=self.l2)

    def learn(self, evidence: Evidence, classes: Sequence[str], seed: int, context: Context) -> Fit:
        """See `Fitter.learn`. `seed` starts the weights and deals the batches; it also draws the masks."""
        # One thread whatever the size: what threads round differently, training would make another hidden layer of.
        with one_thread(numpy=True):
            hidden_layer = self.ground(evidence, derive(seed, "update", "mlp"))
        shown = replace(evidence, features=hidden_layer.see(evidence.features).astype(np.float64))
        return replace(self.last().learn(shown, classes, seed, context), hidden_layer=hidden_layer)

    def ground(self, evidence: Evidence, seed: int) -> HiddenLayer:
        """The hidden layer for these labels, in the units of the vectors, and scaled so that what it shows of them has
        a mean square of 1."""
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

        draw = generator(seed)
        n, width = inputs.shape

        def normal(*shape: int, scale: float) -> torch.Tensor:
            return torch.from_numpy((draw.standard_normal(shape) * scale).astype(np.float32)).requires_grad_()

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
            order = torch.from_numpy(draw.permutation(n)) if n > self.batch else torch.arange(n)
            total = 0.0
            for some in torch.split(order, self.batch):
                hidden = torch.relu(x[some] @ first.T + offsets[0])
                if self.dropout:
                    kept = torch.from_numpy(draw.random(hidden.shape, np.float32)) >= self.dropout
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
    """Orthonormal directions [d, r] in which fewer rows [n, d] than features differ from zero; all d of them for more
    rows. O(n² d), at most O(d³)."""
    n, dim = rows.shape
    if n >= dim:
        return np.eye(dim)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    real = values > FLAT * max(float(values[-1]), 0.0)
    if not real.any():
        return np.eye(dim)[:, :1]
    return np.asarray(rows.T @ (vectors[:, real] / np.sqrt(values[real])))
