"""The encoder `finetuned`: a network that `raysal finetune` has trained on the labels of a run.

The directory of a model:

    model.json            what it is: the network, its pixels, the classes, how it was trained (sealed)
    weights.safetensors   the weights and buffers of the network
    head.safetensors      the classifier that was trained with it, as a head of pools that this encoder makes

The record is the only source of the size and the normalisation of pictures. A model exists if and only if its
record does; `raysal.finetuning.checkpoint` writes it last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.config import Choice
from raysal.embedding.backbone import Backbone, Scale
from raysal.embedding.decode import fast_square_pixels, square_pixels
from raysal.embedding.devices import PerDevice
from raysal.embedding.precision import LATER_FIELD, Precision, in_preprocessing
from raysal.embedding.rendering import PLAIN, Rendering, rendering_in
from raysal.embedding.torch_model import FAST_RESIZE, RESIZE, place_model, run_model
from raysal.embedding.trainable import BACKBONES
from raysal.errors import Damaged, EncoderError
from raysal.store import check_bytes, check_size, digest_of, read_sealed

if TYPE_CHECKING:
    import torch

MODEL, WEIGHTS, HEAD = "model.json", "weights.safetensors", "head.safetensors"
VERSION = 2
"""Of the layout of a model's directory. 1 has no rendering; a model without one is still written so."""
RESTORE = "restore it from a copy, or train the model again"


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What is known of a fine-tuned model without its weights."""

    path: Path
    backbone: Mapping[str, Any]
    """Name and config of the encoder whose network it is."""
    size: int
    mean: Scale
    std: Scale
    fast: bool
    """How pictures are read; see `Backbone`."""
    rendering: Rendering = PLAIN
    """What is seen of them."""
    dim: int
    """Length of a vector."""
    classes: tuple[str, ...]
    weights: Mapping[str, Any]
    """Bytes and sha256 of the file, and the digest of the weights in it."""
    training: Mapping[str, Any]
    """How it was trained, for people."""

    @classmethod
    def read(cls, path: Path) -> ModelRecord:
        """Read the record of a model.

        Args:
            path: the directory.

        Returns:
            The record.

        Raises:
            EncoderError: no model is there, or it is not finished, or is of another version.
            Damaged: the record was altered.
        """
        if not (path / MODEL).exists():
            problem, fix = "no model is there", "make one with `raysal finetune RUN --out MODEL`"
            if (path / "finetune.json").exists():
                problem, fix = "its training has not finished", "run the same `raysal finetune` again to finish it"
            raise EncoderError(f"finetuned:{path}", problem, fix)
        record = read_sealed(path / MODEL, RESTORE)
        if record.get("version") not in range(1, VERSION + 1):
            problem = f"version {record.get('version')}, this raysal reads 1 to {VERSION}"
            raise EncoderError(f"finetuned:{path}", problem, "update raysal")
        names = ("size", "fast", "dim", "backbone", "weights", "training")
        mean, std, classes = (tuple(record[name]) for name in ("mean", "std", "classes"))
        rest = {name: record[name] for name in names}
        return cls(path=path, mean=mean, std=std, classes=classes, rendering=rendering_in(record), **rest)

    def to_json(self) -> dict[str, Any]:
        """The record as `read` takes it."""
        names = ("size", "mean", "std", "fast", "dim", "classes", "backbone", "weights", "training")
        version = VERSION if self.rendering else 1
        return {
            "version": version,
            **{name: getattr(self, name) for name in names},
            **self.rendering.in_preprocessing(),
        }

    def preprocessing(self) -> dict[str, Any]:
        """What becomes of a picture, and the normalisation, as JSON-able values."""
        resize = FAST_RESIZE if self.fast else RESIZE
        return {
            "resize": resize,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "range": "0..255",
            **self.rendering.in_preprocessing(),
        }

    @property
    def fingerprint(self) -> str:
        """Identifies the vectors: hex sha256 over the weights and the preprocessing."""
        return digest_of({"weights": self.weights["content"], "preprocessing": self.preprocessing()})

    def load(self) -> Backbone:
        """Build the network with the trained weights, on the CPU.

        Returns:
            The network, which nothing else shares.

        Raises:
            Damaged: the file of the weights is missing or was altered.
            EncoderError: the network is built otherwise now than when it was trained.
        """
        from safetensors.torch import load_file

        file = self.path / WEIGHTS
        check_size(file, self.weights["bytes"], RESTORE)
        check_bytes(file, self.weights["sha256"], RESTORE)
        encoder = Choice(name=self.backbone["name"], **self.backbone["config"]).build("backbone", BACKBONES)
        built = encoder.backbone(pretrained=False)
        try:
            built.module.load_state_dict(load_file(file))
        except RuntimeError as error:
            problem = f"its weights do not fit {self.backbone['name']} ({' '.join(str(error).split())[:200]})"
            fix = "build the network as it was built when it was trained"
            raise EncoderError(f"finetuned:{self.path}", problem, fix) from None
        pixels = {"size": self.size, "mean": self.mean, "std": self.std, "fast": self.fast, "rendering": self.rendering}
        return type(built)(name=f"finetuned:{self.path}", module=built.module, **pixels)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """`finetuned:<directory>`: what `raysal finetune` made of an image encoder (docs/models.md).

    A vector is what the network shows its classifier. Pictures have the channels, the stretch, the size and the
    normalisation of the training; all are in the model's record.
    """

    arg: Path
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    def __post_init__(self) -> None:
        object.__setattr__(self, "arg", Path(self.arg).absolute())  # workers have another working directory

    @property
    def modality(self) -> Literal["image"]:
        """Always `image`."""
        return "image"

    @property
    def record(self) -> ModelRecord:
        """What the model's directory says."""
        try:
            state = (self.arg / MODEL).stat()
        except OSError:
            return ModelRecord.read(self.arg)  # which says what is missing
        return _record(self.arg, state.st_mtime_ns, state.st_ino)

    @property
    def dim(self) -> int:
        """Length of a vector, as recorded."""
        return self.record.dim

    def preprocessing(self) -> Mapping[str, Any]:
        """The resize filter, the size and the normalisation, as JSON-able values."""
        return {**self.record.preprocessing(), **in_preprocessing(self.precision)}

    def fingerprint(self) -> str:
        """Hex sha256 over the weights and the preprocessing, from the record. Loads no weights."""
        return digest_of({"weights": self.record.weights["content"], "preprocessing": self.preprocessing()})

    def prepare(self, key: str, payload: Any) -> NDArray[np.uint8]:
        """Pixels uint8 [size, size, 3]; see `decode.square_pixels` and `decode.fast_square_pixels`."""
        record = self.record
        return (fast_square_pixels if record.fast else square_pixels)(key, payload, record.size, record.rendering)

    def encode(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors float32 [n, d] of pixels uint8 [size, size, 3]."""
        record = self.record
        backbone, features = _network(self.arg, record.weights["sha256"], self.device)
        return encode_with(backbone, features, prepared, self.device, self.precision)

    def backbone(self, *, pretrained: bool = True) -> Backbone:
        """The network, to be trained on; see `Trainable`."""
        del pretrained
        return self.record.load()


def encode_with(
    backbone: Backbone,
    features: Callable[[torch.Tensor], torch.Tensor],
    prepared: Sequence[NDArray[np.uint8]],
    device: str,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """Vectors of pictures by a network that is done with training.

    Args:
        backbone: the network; it says what the pixels become.
        features: its `quickest`.
        prepared: n pictures uint8 [size, size, 3].
        device: where the network is.
        precision: of its products.

    Returns:
        float32 [n, d]
    """
    parts = backbone.passes(len(prepared)) if device.startswith("cpu") else 1
    return run_model(features, prepared, backbone.mean, backbone.std, device, parts, precision)


@lru_cache(maxsize=8)
def _record(path: Path, changed_ns: int, inode: int) -> ModelRecord:
    """The record of a model, as it was when its file was last written."""
    del changed_ns, inode
    return ModelRecord.read(path)


@PerDevice
def _network(path: Path, sha256: str, device: str) -> tuple[Backbone, Callable[[torch.Tensor], torch.Tensor]]:
    """The network of a model, ready to run, and what runs it. The last one is kept, on each device."""
    record = ModelRecord.read(path)
    if record.weights["sha256"] != sha256:
        raise Damaged(path / MODEL, "was replaced while it was read", "run it again")
    backbone = record.load()
    place_model(backbone.module, device)
    return backbone, backbone.quickest()
