"""The fields of FixMatch on pictures, with their limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from raysal.errors import ConfigError

Symmetry = Literal["none", "mirror", "turns"]
"""What leaves the class of a picture as it is, beside a small shift: nothing; left and right changed; or that and
quarter turns, for pictures without an up (sky, microscope, aerial)."""
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class FixMatch:
    """FixMatch (Sohn et al., NeurIPS 2020) as `raysal finetune` does it; docs/models.md explains it.

    Raises:
        ConfigError: a field is of another type or out of range.
    """

    steps: int = 200
    """Steps of the network."""
    batch_size: int = 16
    """Labelled pictures of a step. Every class that has labels gives equally many."""
    ratio: int = 5
    """Unlabelled pictures of a step for each labelled one; each is seen in a weak and a strong distortion."""
    cutoff: float = 0.95
    """Probability (tau) from which the class of the weak view is the pseudo-label of the strong one."""
    floor: float | None = None
    """Least threshold of any class: those that are learnt later have lower ones, as in FlexMatch. None is `cutoff`."""
    weight: float = 1.0
    """Of the loss of unlabelled pictures (lambda). With 0 only labels train."""
    balance: bool = True
    """Whether pseudo-labels of one class count at most 1/C of the unlabelled pictures of a step."""
    sample: int = 10_000
    """Unlabelled pictures that are drawn, uniformly, to be trained on."""
    learning_rate: float = 3e-4
    """Of Adam's first step; it falls along a cosine, to a fifth."""
    decay: float = 0.01
    """Pull of weights to zero, times the learning rate. Biases and batch norms have none."""
    average_steps: float = 0.0
    """Steps over which weights and buffers are averaged into the model that is kept; 0 = a tenth of `steps`."""
    batch_norm: float = 0.0
    """How fast the buffers of batch norms follow a batch (momentum). With 0 they stay, and normalise in training."""
    symmetry: Symmetry = "mirror"
    """What leaves the class of a picture as it is: none, mirror or turns."""
    distortions: int = 2
    """Operations of a strong view, beside a weak one's and a patch that is covered."""
    precision: Precision = "auto"
    """auto is bfloat16 on a GPU, where only products are computed in it, and float32 on a CPU."""
    seed: int = 0
    """Of all that is drawn."""

    def __post_init__(self) -> None:
        whole = {"steps": 1, "batch_size": 2, "ratio": 1, "sample": 0, "distortions": 0, "seed": 0}
        real: dict[str, tuple[float, float]] = {
            "cutoff": (0, 1),
            **({} if self.floor is None else {"floor": (0, 1)}),
            "weight": (-1, 1e6),
            "learning_rate": (0, 1e3),
            "decay": (-1, 1),
            "average_steps": (-1, 1e9),
            "batch_norm": (-1, 1),
        }
        for name, least in whole.items():
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(name, f"{value!r} is not a whole number from {least}", f"use {least} or more")
        for name, (low, high) in real.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not (value >= 0 if low < 0 else value > low) or value >= high:
                least_words = "0 or more" if low < 0 else "above 0"
                raise ConfigError(name, f"{value!r} is not a number {least_words} and below {high:g}")
        for name, known in (("symmetry", get_args(Symmetry)), ("precision", get_args(Precision))):
            if getattr(self, name) not in known:
                raise ConfigError(name, f"{getattr(self, name)!r} is none of them", f"use one of: {', '.join(known)}")
        if not isinstance(self.balance, bool):
            raise ConfigError("balance", f"{self.balance!r} is neither true nor false")
        if self.floor is not None and self.floor > self.cutoff:
            raise ConfigError("floor", f"{self.floor} is above the cutoff of {self.cutoff}", "give a lower one")
        if self.average_steps and not 1 <= self.average_steps <= max(1, self.steps / 2):
            problem = f"{self.average_steps:g} of {self.steps} steps: the average would still hold the start"
            raise ConfigError("average_steps", problem, f"use 1 to {max(1, self.steps // 2)}, or 0")

    @property
    def unlabelled_size(self) -> int:
        """Unlabelled pictures of a step."""
        return self.batch_size * self.ratio if self.weight else 0

    @property
    def keep(self) -> float:
        """What the average keeps of itself in one step."""
        return 1 - 1 / (self.average_steps or max(1.0, self.steps / 10))

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
