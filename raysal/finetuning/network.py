"""The network that is trained: a backbone and a linear classifier, which begins at the logistic solution.

The classifier begins where logistic regression on the untouched features ends. From a random start the first steps
would bend the features to a classifier that knows nothing (Kumar et al., ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.backbone import Backbone
from raysal.embedding.finetuned import encode_with
from raysal.errors import EncoderError
from raysal.models.evidence import Evidence, gather_evidence
from raysal.models.targets import Answer
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

if TYPE_CHECKING:
    import torch

ENCODED = 64
"""Pictures that are encoded at a time for the start of the classifier."""


class Network:
    """A backbone and its classifier, as tensors by name: `backbone.*`, `head.weight` [C, d] and `head.bias` [C]."""

    def __init__(self, backbone: Backbone, mean: NDArray[np.float64], device: str, batch_norm: float) -> None:
        """Put both on a device.

        Args:
            backbone: the network; it is trained from now on.
            mean: the classifier to begin with, [C, d + 1].
            device: where to train.
            batch_norm: how fast the buffers of batch norms follow a batch; with 0 they stay, and are what normalises.

        Raises:
            EncoderError: the device cannot be used, or the backbone has no weights.
        """
        import torch

        self.backbone, self.device = backbone, torch.device(device)
        module = backbone.module.requires_grad_(True)
        if not any(True for _ in module.parameters()):
            raise EncoderError(backbone.name, "has no weights to train", "name another network")
        self._norms = [part for part in module.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
        self._batch_norm = batch_norm
        self.head = {
            "head.weight": torch.tensor(mean[:, :-1], dtype=torch.float32, device=self.device, requires_grad=True),
            "head.bias": torch.tensor(mean[:, -1], dtype=torch.float32, device=self.device, requires_grad=True),
        }
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device) for values in (backbone.mean, backbone.std)
        )

    def train(self) -> None:
        """Go into training mode. Where batch norms keep their buffers, they stay in evaluation mode."""
        self.backbone.module.train()
        for norm in self._norms:
            norm.momentum = self._batch_norm
            norm.train(self._batch_norm > 0)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What gradients move."""
        own = {f"backbone.{name}": value for name, value in self.backbone.module.named_parameters()}
        return {**own, **self.head}

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers; they share memory with the network."""
        own = {f"backbone.{name}": value.detach() for name, value in self.backbone.module.state_dict().items()}
        return {**own, **{name: value.detach() for name, value in self.head.items()}}

    def logits(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """The outputs of the classifier, with gradients.

        Args:
            pictures: n of them, uint8 [size, size, 3].

        Returns:
            float32 [n, C]
        """
        import torch

        batch = torch.from_numpy(np.stack(pictures)).to(self.device).float()
        batch = ((batch - self._mean) / self._std).permute(0, 3, 1, 2)
        features = self.backbone.features(batch).float()
        return torch.nn.functional.linear(features, self.head["head.weight"], self.head["head.bias"])


def first_classifier(
    backbone: Backbone,
    pictures: Sequence[NDArray[np.uint8]],
    answers: Sequence[Answer],
    weights: NDArray[np.float64],
    classes: Sequence[str],
    device: str,
) -> tuple[NDArray[np.float64], Evidence]:
    """Fit logistic regression to what the backbone shows of labelled pictures before it is trained.

    Args:
        backbone: the network on its device, in evaluation mode.
        pictures: n labelled pictures.
        answers: their labels, or shares of several.
        weights: [n] of the labels.
        classes: C names, sorted.
        device: where the network is.

    Returns:
        Weights and bias [C, d + 1]; and the labels as targets [n, C] and weights [n].

    Raises:
        EncoderError: the backbone does not give finite vectors.
        LabelError: a label is not usable.
    """
    features = backbone.quickest()
    rows: list[Any] = [
        encode_with(backbone, features, pictures[at : at + ENCODED], device) for at in range(0, len(pictures), ENCODED)
    ]
    vectors = np.concatenate(rows)
    if not np.isfinite(vectors).all():
        raise EncoderError(backbone.name, "gives vectors that are not finite", "choose another network or size")
    data = TrainingData(features=vectors, labels=answers, weights=weights, classes=classes)
    return np.asarray(Logistic().fit(data).mean), gather_evidence(vectors, answers, weights, classes)
