"""Image models of the timm library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.decode import square_pixels
from raysal.embedding.torch_model import RESIZE, fingerprint_of, ready, run
from raysal.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Timm:
    """`timm:<name>`: pretrained, without its classifier; normalisation as the model's own config says.

    Weights are fetched by timm on first use. `size` 0 is the model's own. This path has not been run
    in the project's continuous integration, which has neither timm nor torchvision.
    """

    arg: str
    size: int = 0
    device: str = field(default="cpu", metadata={"record": False})

    @property
    def modality(self) -> Literal["image"]:
        return "image"

    @property
    def dim(self) -> int:
        features: Any = load_model(self.arg, self.device)[0].num_features
        return int(features)

    def _shape(self) -> tuple[int, list[float], list[float]]:
        config = load_model(self.arg, self.device)[1]
        mean, std = ([255.0 * value for value in config[name]] for name in ("mean", "std"))
        return self.size or int(config["input_size"][-1]), mean, std

    def preprocessing(self) -> Mapping[str, Any]:
        size, mean, std = self._shape()
        return {"resize": RESIZE, "size": size, "mean": mean, "std": std, "range": "0..255"}

    def fingerprint(self) -> str:
        return fingerprint_of(load_model(self.arg, self.device)[0], self.preprocessing())

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """uint8 [size, size, 3]."""
        return square_pixels(key, payload, self._shape()[0])

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        _, mean, std = self._shape()
        return run(load_model(self.arg, self.device)[0], prepared, mean, std, self.device)


@lru_cache(maxsize=1)
def load_model(name: str, device: str) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    """The model, ready to run, and its data config.

    Raises:
        MissingExtra: timm is not installed.
        EncoderError: timm knows no such model, or cannot get its weights.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingExtra(f"timm:{name}", error.name or "timm", "timm") from None
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except (RuntimeError, OSError) as error:
        raise EncoderError(f"timm:{name}", str(error), "see timm.list_models(pretrained=True)") from error
    return ready(model, device), timm.data.resolve_model_data_config(model)
