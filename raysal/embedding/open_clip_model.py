"""The encoder `open_clip`: pictures and texts in one space, by models of the OpenCLIP library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.decode import check_text, square_pixels
from raysal.embedding.devices import PerDevice
from raysal.embedding.precision import LATER_FIELD, Precision, computing_in, in_preprocessing
from raysal.embedding.rendering import Renders
from raysal.embedding.torch_model import RESIZE, fingerprint_of, measured_dim, place_model, run_model
from raysal.errors import ConfigError, EncoderError, MissingExtra

if TYPE_CHECKING:
    import torch


class Loaded(NamedTuple):
    """A model, ready to run, and what its texts and pictures are made into."""

    model: torch.nn.Module
    tokenizer: Any
    """texts to numbers [n, length]"""
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """of each channel, in units of 0..255"""


@dataclass(frozen=True, kw_only=True)
class OpenClip(Renders):
    """`open_clip:<model>/<weights>`, as `open_clip:ViT-B-32/laion2b_s34b_b79k`: a model of pictures and of texts.

    A pool holds pictures, and is searched by pictures and by texts: both become vectors of length 1 in one space. After
    the slash stands a tag of `open_clip.list_pretrained()`, or the path of a file of weights; `hf-hub:ORG/NAME` and
    `local-dir:FOLDER` name a model with its weights. OpenCLIP fetches weights on first use.

    The whole picture is stretched to the model's square, as every encoder of raysal does it; OpenCLIP's own cuts off
    what is beyond a square in the middle. A text that is longer than the model reads (mostly 77 tokens) is cut.

    OpenCLIP needs torchvision, which the project's continuous integration does not have: it does not run this encoder.
    """

    arg: str
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.arg.startswith(("hf-hub:", "local-dir:")) and not all(self.arg.partition("/")):
            fix = "for example open_clip:ViT-B-32/laion2b_s34b_b79k"
            raise ConfigError("encoder.name", f"'open_clip:{self.arg}' names no weights", fix)

    @property
    def modality(self) -> Literal["image"]:
        """Always `image`: what a pool holds."""
        return "image"

    @property
    def dim(self) -> int:
        """Length of a vector, found by running the model on one grey image. Loads the model."""
        return _dim(self)

    def preprocessing(self) -> Mapping[str, Any]:
        """The resize filter, the size and the normalisation of pictures and of vectors. Loads the model."""
        found = load_model(self.arg, self.device)
        pixels = {"resize": RESIZE, "size": found.size, "mean": list(found.mean), "std": list(found.std)}
        more = {**in_preprocessing(self.precision), **self.rendering.in_preprocessing()}
        return {**pixels, "range": "0..255", "vectors": "of length 1", **more}

    def fingerprint(self) -> str:
        """Hex sha256 over the weights of both halves and the preprocessing."""
        return _fingerprint(self)

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """Pixels uint8 [size, size, 3]; see `decode.square_pixels`."""
        return square_pixels(key, payload, load_model(self.arg, self.device).size, self.rendering)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors float32 [n, d], of length 1, of pixels uint8 [size, size, 3]."""
        found = load_model(self.arg, self.device)
        model: Any = found.model
        return run_model(
            lambda batch: model.encode_image(batch, normalize=True),
            prepared,
            found.mean,
            found.std,
            self.device,
            precision=self.precision,
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors float32 [n, d], of length 1, of texts, in the space of the pictures; see `queries.EncodesTexts`."""
        import torch

        found = load_model(self.arg, self.device)
        model: Any = found.model
        tokens = found.tokenizer([check_text("the text", text) for text in texts]).to(torch.device(self.device))
        with torch.inference_mode(), computing_in(self.precision, self.device):
            vectors: NDArray[np.float32] = model.encode_text(tokens, normalize=True).float().cpu().numpy()
        return vectors


@PerDevice
def load_model(name: str, device: str) -> Loaded:
    """Load a model with its weights. The last one is kept, on each device.

    Args:
        name: what follows `open_clip:`.
        device: where it runs, in torch's words.

    Returns:
        The model on `device`, in evaluation mode, and its preprocessing.

    Raises:
        MissingExtra: open_clip_torch is not installed.
        EncoderError: it, or torchvision, cannot be imported; it knows no such model, or cannot get its weights.
    """
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise MissingExtra(f"open_clip:{name}", error.name or "open_clip", "clip") from None
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch
        fix = "install torchvision for this torch"
        raise EncoderError(f"open_clip:{name}", f"cannot be imported ({error})", fix) from error
    architecture, weights = (name, None) if ":" in name.partition("/")[0] else name.split("/", 1)
    try:
        model = open_clip.create_model(architecture, pretrained=weights, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except (RuntimeError, OSError, ValueError) as error:
        fix = "see open_clip.list_pretrained()"
        raise EncoderError(f"open_clip:{name}", str(error), fix) from error
    settings = model.visual.preprocess_cfg
    sides = settings["size"]
    side = {sides} if isinstance(sides, int) else set(sides)
    if len(side) != 1:
        raise EncoderError(f"open_clip:{name}", f"takes pictures of {sides} pixels, not squares", "choose another one")
    mean, std = (tuple(255.0 * value for value in settings[which]) for which in ("mean", "std"))
    return Loaded(place_model(model, device), tokenizer, side.pop(), mean, std)


@lru_cache(maxsize=64)
def _dim(encoder: OpenClip) -> int:
    return measured_dim(f"open_clip:{encoder.arg}", encoder.encode, load_model(encoder.arg, encoder.device).size)


@lru_cache(maxsize=64)
def _fingerprint(encoder: OpenClip) -> str:
    return fingerprint_of(load_model(encoder.arg, encoder.device).model, encoder.preprocessing())
