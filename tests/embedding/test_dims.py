"""The `dim` of an encoder is the length of what `encode` returns, whatever a model says of itself.

timm and sentence-transformers are not installed where these tests run. Their models are stood in for by torch modules
that say something else of themselves than they return; all of raysal's own code runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raysal.embedding import custom, sentence, timm_model
from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from raysal.embedding.sentence import Sentence
from raysal.embedding.timm_model import Timm
from raysal.embedding.torch_model import place_model
from raysal.errors import EncoderError
from raysal.pool import open_pool
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory

CONFIG = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Net(torch.nn.Module):
    """A model with `num_features` features before the pooling, and a layer of `width` after it, as MobileNetV3 has."""

    def __init__(self, num_features: int, width: int, shape: str) -> None:
        super().__init__()
        self.num_features, self.width, self.shape = num_features, width, shape
        self.head = torch.nn.Linear(3, width)

    def forward(self, x: torch.Tensor) -> Any:
        pooled = self.head(x.mean((2, 3)))
        shapes: dict[str, Callable[[], Any]] = {
            "[n, d]": lambda: pooled,
            "[n, d, 1, 1]": lambda: pooled[:, :, None, None],
            "[n, t, d]": lambda: pooled[:, None].repeat(1, 5, 1),
            "[n, d, h, w]": lambda: pooled[:, :, None, None].repeat(1, 1, 2, 2),
            "tuple": lambda: (pooled, pooled),
            "[d]": lambda: pooled[0],
            "fails": lambda: pooled @ pooled,
        }
        return shapes[self.shape]()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No measure of another test's model, and the same weights each time: some would blur the pictures of a test."""
    torch.manual_seed(0)
    for module in (timm_model, custom, sentence):
        module._dim.cache_clear()
    yield
    for module in (timm_model, custom, sentence):
        module._dim.cache_clear()


def timm_of(monkeypatch: pytest.MonkeyPatch, model: Net) -> Timm:
    placed = place_model(model, "cpu")
    monkeypatch.setattr(timm_model, "load_model", lambda name, device: (placed, CONFIG))
    return Timm(arg="tiny")


@pytest.mark.parametrize("num_features", [1, 4, 9])
@pytest.mark.parametrize("width", [1, 4, 9])
@pytest.mark.parametrize("shape", ["[n, d]", "[n, d, 1, 1]"])
def test_the_output_of_a_timm_model_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_features: int, width: int, shape: str
) -> None:
    encoder = timm_of(monkeypatch, Net(num_features, width, shape))
    pixels = [np.full((8, 8, 3), value, np.uint8) for value in (0, 90, 255)]
    assert encoder.dim == width
    assert encoder.encode(pixels).shape == (3, width)
    (tmp_path / "p").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 7), (number * 90, 200 - number * 60, 30)).save(tmp_path / "p" / f"{number}.png")
    embed(Folder(path=tmp_path / "p"), encoder, tmp_path / "pool")
    pool = open_pool(tmp_path / "pool")
    assert (pool.dim, len(pool)) == (width, 3)


@pytest.mark.parametrize("shape", ["[n, t, d]", "[n, d, h, w]", "tuple", "[d]", "fails"])
def test_a_timm_model_that_does_not_pool_is_refused(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """Without the check, a map of features would be strung together as one long vector."""
    with pytest.raises(EncoderError, match=r"timm:tiny: (returned|fails on a grey image of 8 pixels)"):
        _ = timm_of(monkeypatch, Net(4, 4, shape)).dim


def test_the_fingerprint_of_a_timm_model_says_nothing_of_its_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    """So pools from before the measure, where both agreed, are gone on with."""
    torch.manual_seed(0)
    model = Net(4, 4, "[n, d]")
    before = timm_of(monkeypatch, model).fingerprint()
    model.num_features = 7
    assert timm_of(monkeypatch, model).fingerprint() == before


@pytest.mark.parametrize("width", [1, 5])
def test_the_output_of_a_module_is_measured(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    placed = place_model(Net(3, width, "[n, d]"), "cpu")
    monkeypatch.setattr(custom, "load_model", lambda name, device: placed)
    encoder = Torch(arg="some:model", size=8)
    assert encoder.dim == encoder.encode([np.zeros((8, 8, 3), np.uint8)]).shape[1] == width


class Words:
    """What `sentence-transformers` gives, with a length that it does not know, or is wrong about."""

    max_seq_length = 9

    def __init__(self, said: int | None, width: int) -> None:
        self.said, self.width = said, width

    def get_sentence_embedding_dimension(self) -> int | None:
        return self.said

    def encode(self, texts: list[str], **options: Any) -> Any:
        return np.array([[len(text)] * self.width for text in texts], np.float32)

    def __iter__(self) -> Iterator[Any]:
        return iter([])


@pytest.mark.parametrize("said", [None, 3, 5])
@pytest.mark.parametrize("width", [3, 5])
def test_the_output_of_a_text_model_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int | None, width: int
) -> None:
    model = Words(said, width)
    monkeypatch.setattr(sentence, "load_model", lambda name, device: model)
    monkeypatch.setattr(Sentence, "fingerprint", lambda encoder: "0" * 64)
    encoder = Sentence(arg="words")
    assert encoder.dim == width
    embed(Memory(texts=["a", "bc"], keys=[1, 2]), encoder, tmp_path / "pool")
    assert open_pool(tmp_path / "pool").dim == width


def test_a_text_model_without_vectors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "load_model", lambda name, device: Words(3, 0))
    with pytest.raises(EncoderError, match=r"sentence:words: returned \(1, 0\)"):
        _ = Sentence(arg="words").dim
