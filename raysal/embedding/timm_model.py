"""The encoder `timm`: image models of the timm library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.backbone import Backbone
from raysal.embedding.decode import square_pixels
from raysal.embedding.devices import PerDevice
from raysal.embedding.precision import LATER_FIELD, Precision, in_preprocessing
from raysal.embedding.rendering import Renders
from raysal.embedding.torch_model import (
    RESIZE,
    fingerprint_of,
    measured_dim,
    one_vector_each,
    place_model,
    run_model,
)
from raysal.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Timm(Renders):
    """`timm:<name>`: a pretrained image model without its classifier, normalised as its own config says.

    timm fetches the weights on first use. `size` 0 is the model's own size. The project's continuous integration has
    neither timm nor torchvision, so it does not run this encoder.
    """

    arg: str
    size: int = 0
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    @property
    def modality(self) -> Literal["image"]:
        """Always `image`."""
        return "image"

    @property
    def dim(self) -> int:
        """Length of a vector, found by running the model on one grey image. Loads the model.

        The `num_features` of a model is another number where layers follow the pooling, as in MobileNetV3.
        """
        return _dim(self)

    def _size_and_scale(self) -> tuple[int, list[float], list[float]]:
        """(side in pixels, mean, standard deviation), the last two in units of 0..255, one for each channel."""
        config = load_model(self.arg, self.device)[1]
        mean, std = ([255.0 * value for value in config[name]] for name in ("mean", "std"))
        return self.size or int(config["input_size"][-1]), mean, std

    def preprocessing(self) -> Mapping[str, Any]:
        """The resize filter, the size and the normalisation, as JSON-able values. Loads the model."""
        size, mean, std = self._size_and_scale()
        found = {"resize": RESIZE, "size": size, "mean": mean, "std": std, "range": "0..255"}
        return {**found, **in_preprocessing(self.precision), **self.rendering.in_preprocessing()}

    def fingerprint(self) -> str:
        """Hex sha256 over the weights and the preprocessing."""
        return fingerprint_of(load_model(self.arg, self.device)[0], self.preprocessing())

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """Pixels uint8 [size, size, 3]; see `decode.square_pixels`."""
        return square_pixels(key, payload, self._size_and_scale()[0], self.rendering)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors float32 [n, d] of pixels uint8 [size, size, 3]."""
        _, mean, std = self._size_and_scale()
        model = load_model(self.arg, self.device)[0]
        return run_model(
            lambda batch: one_vector_each(f"timm:{self.arg}", model(batch)),
            prepared,
            mean,
            std,
            self.device,
            precision=self.precision,
        )

    def backbone(self, *, pretrained: bool = True) -> Backbone:
        """The network, to be trained; see `Trainable`."""
        model, config = build_model(self.arg, pretrained=pretrained)
        mean, std = (tuple(255.0 * value for value in config[name]) for name in ("mean", "std"))
        size = self.size or int(config["input_size"][-1])
        return Backbone(name=f"timm:{self.arg}", module=model, size=size, mean=mean, std=std, rendering=self.rendering)


@lru_cache(maxsize=64)
def _dim(encoder: Timm) -> int:
    return measured_dim(f"timm:{encoder.arg}", encoder.encode, encoder._size_and_scale()[0])


@PerDevice
def load_model(name: str, device: str) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    """Load a pretrained model, ready to run. The last one is kept, on each device.

    Args:
        name: a model of timm.
        device: where it runs, in torch's words.

    Returns:
        The model on `device`, in evaluation mode, and its data config.

    Raises:
        MissingExtra: timm is not installed.
        EncoderError: timm knows no such model, or cannot get its weights.
    """
    model, config = build_model(name)
    return place_model(model, device), config


def build_model(name: str, *, pretrained: bool = True) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    """Build a model of timm.

    Args:
        name: a model of timm.
        pretrained: with its weights, which timm fetches; else with random ones.

    Returns:
        The model on the CPU, which nothing else shares, and its data config.

    Raises:
        MissingExtra: timm is not installed.
        EncoderError: timm knows no such model, or cannot get its weights.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingExtra(f"timm:{name}", error.name or "timm", "timm") from None
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (RuntimeError, OSError) as error:
        raise EncoderError(f"timm:{name}", str(error), "see timm.list_models(pretrained=True)") from error
    return model, timm.data.resolve_model_data_config(model)
