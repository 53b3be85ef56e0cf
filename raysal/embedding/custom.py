"""The encoder `torch`: a torch module that the user brings."""

from __future__ import annotations

import copy
import importlib
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
from raysal.embedding.torch_model import RESIZE, fingerprint_of, measured_dim, place_model, run_model
from raysal.errors import ConfigError, EncoderError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Torch(Renders):
    """`torch:<module>:<callable>`: the callable takes no arguments and returns a `torch.nn.Module`.

    The module takes float32 [n, 3, size, size], normalised to (x - mean) / std with x in 0..1, and returns [n, d] or
    [n, d, 1, 1]. The default `mean` and `std` are those of ImageNet. The callable must build the same weights every
    time.
    """

    arg: str
    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ConfigError("encoder.size", f"{self.size} pixels", "use 1 or more")
        if min(self.std) <= 0:
            raise ConfigError("encoder.std", f"{self.std} is not positive")

    @property
    def modality(self) -> Literal["image"]:
        """Always `image`."""
        return "image"

    @property
    def dim(self) -> int:
        """Length of a vector, found by running the model on one grey image."""
        return _dim(self)

    def preprocessing(self) -> Mapping[str, Any]:
        """The resize filter, the size and the normalisation, as JSON-able values."""
        found = {"resize": RESIZE, "size": self.size, "mean": list(self.mean), "std": list(self.std)}
        return {**found, **in_preprocessing(self.precision), **self.rendering.in_preprocessing()}

    def fingerprint(self) -> str:
        """Hex sha256 over the weights and the preprocessing."""
        return _fingerprint(self)

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """Pixels uint8 [size, size, 3]; see `decode.square_pixels`."""
        return square_pixels(key, payload, self.size, self.rendering)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors float32 [n, d] of pixels uint8 [size, size, 3]."""
        mean, std = [255 * value for value in self.mean], [255 * value for value in self.std]
        model = load_model(self.arg, self.device)
        return run_model(model, prepared, mean, std, self.device, precision=self.precision)

    def backbone(self, *, pretrained: bool = True) -> Backbone:
        """The module, to be trained; see `Trainable`. The callable gives the weights in either case."""
        del pretrained
        (r, g, b), (u, v, w) = self.mean, self.std
        return Backbone(
            name=f"torch:{self.arg}",
            module=copy.deepcopy(build_model(self.arg)),  # a callable may return one module to all
            size=self.size,
            mean=(255 * r, 255 * g, 255 * b),
            std=(255 * u, 255 * v, 255 * w),
            rendering=self.rendering,
        )


@PerDevice
def load_model(name: str, device: str) -> torch.nn.Module:
    """Build the user's module and make it ready to run. The last one is kept, on each device.

    Args:
        name: `<module>:<callable>`.
        device: where it runs, in torch's words.

    Returns:
        The module on `device`, in evaluation mode.

    Raises:
        EncoderError: the module or the callable does not exist, or it does not return a torch module.
    """
    return place_model(build_model(name), device)


def build_model(name: str) -> torch.nn.Module:
    """Build the user's module.

    Args:
        name: `<module>:<callable>`.

    Returns:
        What the callable returns.

    Raises:
        EncoderError: the module or the callable does not exist, or it does not return a torch module.
    """
    import torch

    where, _, attribute = name.partition(":")
    if not where or not attribute:
        raise EncoderError(
            f"torch:{name}", "expected torch:<module>:<callable>", "for example torch:my_models:backbone"
        )
    try:
        make = getattr(importlib.import_module(where), attribute)
    except (ImportError, AttributeError) as error:
        raise EncoderError(f"torch:{name}", str(error), "check the name, and that Python finds the module") from error
    model = make()
    if not isinstance(model, torch.nn.Module):
        raise EncoderError(f"torch:{name}", f"returned {type(model).__name__}, not a torch.nn.Module")
    return model


@lru_cache(maxsize=64)
def _dim(encoder: Torch) -> int:
    return measured_dim(f"torch:{encoder.arg}", encoder.encode, encoder.size)


@lru_cache(maxsize=64)
def _fingerprint(encoder: Torch) -> str:
    return fingerprint_of(load_model(encoder.arg, encoder.device), encoder.preprocessing())
