"""The encoder `sentence`: text models of the sentence-transformers library."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.decode import check_text
from raysal.embedding.devices import PerDevice
from raysal.embedding.precision import LATER_FIELD, Precision, computing_in, in_preprocessing
from raysal.embedding.torch_model import fingerprint_of
from raysal.errors import EncoderError, MissingExtra


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """`sentence:<name or path>`: a text model. A path to a saved model needs no network; a name is fetched once."""

    arg: str
    precision: Precision = field(default="float32", metadata=LATER_FIELD)
    device: str = field(default="cpu", metadata={"record": False})

    @property
    def modality(self) -> Literal["text"]:
        """Always `text`."""
        return "text"

    @property
    def dim(self) -> int:
        """Length of a vector, found by encoding one word. Loads the model."""
        return _dim(self)

    def preprocessing(self) -> Mapping[str, Any]:
        """The longest text in tokens (null: any), the model's steps with their settings, and the precision."""
        model = load_model(self.arg, self.device)
        steps = [[type(step).__name__, settings_of(step)] for step in model]  # pooling and normalising have no weights
        longest = model.max_seq_length
        if isinstance(longest, float):  # a model that takes any text says `inf`
            longest = int(longest) if math.isfinite(longest) else None
        found = {"tokenizer": "the model's own", "longest": longest, "steps": steps}
        return {**found, **in_preprocessing(self.precision)}

    def fingerprint(self) -> str:
        """Hex sha256 over the weights and the preprocessing."""
        return _fingerprint(self)

    def prepare(self, key: str, payload: Any) -> str:
        """The text, unchanged. The model cuts a text that is longer than it can read."""
        return check_text(key, payload)

    def encode(self, prepared: Sequence[str]) -> NDArray[np.float32]:
        """Vectors float32 [n, d] of n texts."""
        with computing_in(self.precision, self.device):
            vectors = load_model(self.arg, self.device).encode(
                list(prepared), batch_size=len(prepared), convert_to_numpy=True, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


@PerDevice
def load_model(name: str, device: str) -> Any:
    """Load a model. The last one is kept, on each device.

    Args:
        name: a name on the model hub, or the path of a saved model.
        device: where it runs, in torch's words.

    Returns:
        The model, ready to run.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        EncoderError: there is no such model, or it cannot be fetched.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise MissingExtra(f"sentence:{name}", error.name or "sentence_transformers", "text") from None
    with contextlib.suppress(ImportError):  # its bars of files that are there say nothing, and raysal has its own
        from transformers.utils import logging

        logging.disable_progress_bar()
    try:
        return SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"sentence:{name}", str(error), "check the name, or pass the path of a saved model"
        ) from error


def settings_of(step: Any) -> dict[str, Any]:
    """The settings of a step of the model, by name: those that are plain JSON values."""
    settings: Mapping[str, Any] = step.get_config_dict() if hasattr(step, "get_config_dict") else {}
    plain = (str, int, float, bool, type(None))
    return {name: value for name, value in sorted(settings.items()) if isinstance(value, plain)}


@lru_cache(maxsize=64)
def _dim(encoder: Sentence) -> int:
    vectors = encoder.encode(["word"])
    if vectors.ndim != 2 or len(vectors) != 1 or vectors.shape[1] == 0:
        raise EncoderError(f"sentence:{encoder.arg}", f"returned {vectors.shape} for one text, expected (1, d)")
    return int(vectors.shape[1])


@lru_cache(maxsize=64)
def _fingerprint(encoder: Sentence) -> str:
    model = load_model(encoder.arg, encoder.device)
    # With the model's own word for "any", which is how pools older than `null` know it.
    return fingerprint_of(model, {**encoder.preprocessing(), "longest": model.max_seq_length})
