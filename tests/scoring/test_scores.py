"""Every score of the best guess alone: in [0, 1], as the slow version has it, blind to the order of the classes."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from raysal.models.likelihood import SOFTMAX
from raysal.scoring.base import Predicted
from raysal.scoring.registry import SCORES

every_score = pytest.mark.parametrize("name", sorted(name for name in SCORES if not SCORES[name].needs(SOFTMAX)))


def value(name: str, p: np.ndarray) -> torch.Tensor:
    """A score of rows of probabilities [n, C]."""
    predicted = Predicted(likelihood=SOFTMAX, logits=torch.from_numpy(np.log(np.maximum(p.T, 1e-45))))
    predicted.__dict__["probabilities"] = torch.from_numpy(p.T.copy())
    return SCORES[name](predicted)


def some_probabilities(classes: int) -> np.ndarray:
    """Random, uniform, certain, tied and nearly certain rows [n, classes]."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(300, classes)) * rng.choice([0.1, 1, 10, 80], size=(300, 1))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    tied = np.zeros((1, classes))
    tied[0, : min(2, classes)] = 1 / min(2, classes)
    return np.concatenate([p, np.full((1, classes), 1 / classes), np.eye(classes), tied]).astype(np.float32)


@every_score
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 10, 257])
def test_a_score_is_in_0_1_and_as_the_slow_version_has_it(name, classes):
    p = some_probabilities(classes)
    values = value(name, p)
    assert values.shape == (len(p),)
    assert float(values.min()) >= 0
    assert float(values.max()) <= 1
    np.testing.assert_allclose(values, reference.score(name, p.astype(np.float64)), atol=2e-6)


@every_score
def test_the_order_of_the_classes_does_not_matter(name):
    p = some_probabilities(7).T
    order = np.random.default_rng(0).permutation(7)
    np.testing.assert_allclose(value(name, p.T), value(name, p[order].T), atol=1e-6)


@every_score
def test_the_surest_item_is_wanted_least_and_the_uniform_one_most(name):
    p = some_probabilities(5)
    values = value(name, p).numpy()
    assert values[301:306].max() == values.min() == 0
    assert values[300] == pytest.approx(values.max())
