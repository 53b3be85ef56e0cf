"""The network that is trained: where its classifier begins, and what batch norms do."""

from __future__ import annotations

import numpy as np
import pytest

from raysal.embedding.custom import Torch
from raysal.embedding.torch_model import place_model
from raysal.finetuning.network import Network, first_classifier
from raysal.models.trainers.base import TrainingData
from raysal.models.trainers.logistic import Logistic

torch = pytest.importorskip("torch")

ENCODER = Torch(arg="tiny_models:with_norms", size=16)
PICTURES = list(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))
ANSWERS = ["a", "b", {"a": 0.25, "c": 0.75}] * 4


def started(batch_norm: float) -> Network:
    backbone = ENCODER.backbone()
    place_model(backbone.module, "cpu")
    mean, _ = first_classifier(backbone, PICTURES, ANSWERS, np.ones(12), ["a", "b", "c"], "cpu")
    return Network(backbone, mean, "cpu", batch_norm)


def test_the_classifier_begins_at_the_logistic_solution_on_the_encoders_vectors() -> None:
    vectors = ENCODER.encode(PICTURES)
    data = TrainingData(features=vectors, labels=ANSWERS, weights=np.ones(12), classes=["a", "b", "c"])
    expected = Logistic().fit(data).logits(vectors)
    network = started(0.0)
    network.backbone.module.eval()
    np.testing.assert_allclose(network.logits(PICTURES).detach().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_shares_of_annotators_are_the_targets() -> None:
    backbone = ENCODER.backbone()
    place_model(backbone.module, "cpu")
    _, evidence = first_classifier(backbone, PICTURES, ANSWERS, np.arange(1.0, 13), ["a", "b", "c"], "cpu")
    assert evidence.targets[:3].tolist() == [[1, 0, 0], [0, 1, 0], [0.25, 0, 0.75]]
    assert evidence.weights.tolist() == list(range(1, 13))


def test_the_momentum_of_batch_norms_is_the_one_that_is_asked_for() -> None:
    network = started(0.2)
    norm = network.backbone.module.norm
    network.train()
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    network.logits(PICTURES)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.2 * seen[0].detach().numpy(), rtol=1e-5, atol=1e-7)


def test_batch_norms_that_stay_normalise_as_they_will_when_the_model_embeds() -> None:
    network = started(0.0)
    network.backbone.module.drop.p = 0.0
    before = network.state()["backbone.norm.running_var"].clone()
    network.train()
    trained = network.logits(PICTURES).detach()
    assert torch.equal(network.state()["backbone.norm.running_var"], before)
    network.backbone.module.eval()
    assert torch.equal(network.logits(PICTURES).detach(), trained)
    assert network.backbone.module.norm.weight.requires_grad
