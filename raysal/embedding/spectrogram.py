"""The encoder `spectrogram`: sounds as pictures of their mel bands, for any encoder of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.config import Inner
from raysal.embedding.base import Encoder
from raysal.embedding.devices import on_device
from raysal.embedding.precision import LATER_FIELD, Precision
from raysal.errors import ConfigError
from raysal.spectrograms import HIGHEST, MEL_BANDS, MEL_COLUMNS, MEL_SECONDS, RANGE_DB, picture_of
from raysal.store import digest_of


@dataclass(frozen=True, kw_only=True)
class Spectrogram:
    """`spectrogram:<encoder of images>`: the encoder gets a picture of each sound, as `raysal.spectrograms.log_mel`.

    The whole of a sound, however long, is one picture of all its channels together. `size`, `precision` and `device`
    are handed on to the encoder inside; 0 pixels is its own size.
    """

    of: Inner[Any]  # an `Encoder`; pydantic would ask a Protocol for `dim`, which loads the model
    highest: int = HIGHEST
    """Frequencies above it, in Hz, are left out."""
    size: int = field(default=0, metadata=LATER_FIELD)
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    def __post_init__(self) -> None:
        if self.highest < 100:
            raise ConfigError("encoder.highest", f"{self.highest} Hz", "use 100 or more")
        if self.of.part.modality != "image":
            problem = f"{self.of.name} takes {self.of.part.modality}s, and a spectrogram is a picture"
            raise ConfigError("encoder.of", problem, "name an encoder of images, as spectrogram:efficientnet_lite0")
        if self.size < 0:
            raise ConfigError("encoder.size", f"{self.size} pixels", "use 1 or more")

    @property
    def modality(self) -> Literal["sound"]:
        """Always `sound`."""
        return "sound"

    @property
    def inside(self) -> Encoder:
        """The encoder of images, with what is handed on to it."""
        part, handed = self.of.part, {"size": self.size, "precision": self.precision}
        own = {one.name for one in dataclasses.fields(part)}
        given = {name: value for name, value in handed.items() if value not in (0, "float32")}
        for name, value in given.items():
            if name not in own:
                raise ConfigError(f"encoder.{name}", f"{value!r}, and {self.of.name} has no such field", "leave it out")
        changed: Encoder = dataclasses.replace(part, **given)
        return on_device(changed, self.device)

    @property
    def dim(self) -> int:
        """Length of a vector of the encoder inside. May load its model."""
        return self.inside.dim

    def preprocessing(self) -> Mapping[str, Any]:
        """How the picture is made, and what the encoder inside does with it, as JSON-able values."""
        return {
            "picture": "log mel, mean of the channels, whole sound",
            "window": f"power of two of samples nearest {MEL_SECONDS} s, Hann, a quarter apart",
            "bands": MEL_BANDS,
            "columns": MEL_COLUMNS,
            "highest": self.highest,
            "range_db": RANGE_DB,
            "of": dict(self.inside.preprocessing()),
        }

    def fingerprint(self) -> str:
        """Hex sha256 over the fingerprint of the encoder inside and the preprocessing."""
        return digest_of({"of": self.inside.fingerprint(), "preprocessing": dict(self.preprocessing())})

    def prepare(self, key: str, payload: Any) -> Any:
        """What the encoder inside makes of the picture of a sound."""
        return self.inside.prepare(key, np.asarray(picture_of(key, payload, self.highest)))

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.floating[Any]]:
        """Vectors [n, d] of the encoder inside."""
        return self.inside.encode(prepared)
