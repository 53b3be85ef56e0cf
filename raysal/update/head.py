"""The head: a linear classifier on frozen vectors, with the shared-covariance posterior over its weights."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, UserError
from raysal.store import write_file

FORMAT = 1
"""Version of the file layout; a reader refuses any other."""

Curvature = Literal["gaussian", "categorical"]
_ARRAYS = ("weight", "bias", "covariance")


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Weights, bias and posterior of a linear softmax classifier with C classes on d features.

    The posterior is Gaussian with one covariance shared by all classes (the last-layer Laplace
    approximation of SNGP, as in Huseljic et al., arXiv 2210.06112). The bias counts there as the weight of
    a constant feature 1, which is the last one. Arrays are float64, contiguous and read-only; equality of
    content is `digest()`.

    Raises:
        UserError: shapes disagree, a class appears twice, or a number is not finite.
    """

    classes: tuple[str, ...]
    """Names of the rows of `weight`, sorted by the trainer."""
    weight: NDArray[np.float64]
    """[C, d]"""
    bias: NDArray[np.float64]
    """[C]"""
    covariance: NDArray[np.float64]
    """[d + 1, d + 1], the same for every class; the constant feature comes last."""
    prior: float
    """Precision of the Gaussian prior on every weight, in the units of the summed loss."""
    encoder: str
    """Fingerprint of the encoder whose vectors it takes."""
    version: int
    """One more for each fit or update along a lineage."""
    labels_seen: int
    """Items absorbed, by the last fit and the updates after it."""
    fitted_on: int
    """Items the last full fit saw."""
    ledger_seq: int
    """Offset in the ledger up to which labels are absorbed; the caller's number, kept for it."""
    curvature: Curvature = "gaussian"
    """How much one label counts in the covariance, see `curvature_of`."""

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all():
                raise UserError(f"head.{name}", "holds numbers that are not finite")
        if not (math.isfinite(self.prior) and self.prior > 0):
            raise UserError("head.prior", f"{self.prior!r} is not a finite number above 0")
        if self.weight.ndim != 2 or self.weight.shape[0] != len(self.classes) or not self.classes:
            raise UserError("head.weight", f"shape {self.weight.shape} for {len(self.classes)} classes")
        if len(set(self.classes)) != len(self.classes):
            raise UserError("head.classes", "a class appears twice")
        if self.bias.shape != (len(self.classes),):
            raise UserError("head.bias", f"shape {self.bias.shape} for {len(self.classes)} classes")
        if self.covariance.shape != (self.dim + 1, self.dim + 1):
            raise UserError("head.covariance", f"shape {self.covariance.shape} for {self.dim} features and the bias")

    @property
    def dim(self) -> int:
        """Length d of the vectors it takes."""
        return int(self.weight.shape[1])

    def logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Logits float64 [n, C] of `features` [n, d]. For small n in the driver; a sweep has its own product.

        Raises:
            UserError: features are not [n, d].
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise UserError("features", f"shape {features.shape}", f"this head takes [n, {self.dim}]")
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Class probabilities float64 [n, C] of `features` [n, d]; all 1 where there is one class."""
        return softmax(self.logits(features))

    def digest(self) -> str:
        """Hex sha256 of the whole content: equal digests are equal heads, bit for bit."""
        seal = hashlib.sha256(self._record().encode())
        for name in _ARRAYS:
            array: NDArray[np.float64] = getattr(self, name)
            seal.update(f"{name}{array.shape}".encode())
            seal.update(array.astype("<f8", copy=False).tobytes())
        return seal.hexdigest()

    def save(self, path: Path) -> None:
        """Write the head as one safetensors file, atomically. 8 (d + 1)² bytes and a little."""
        from safetensors.numpy import save

        # One entry: safetensors writes several in random order, and equal heads should be equal files.
        sealed = {"format": FORMAT, "sha256": self.digest(), "record": self._record()}
        content: bytes = save({name: getattr(self, name) for name in _ARRAYS}, {"raysal_head": json.dumps(sealed)})
        write_file(path, lambda temporary: temporary.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> Head:
        """The head that `save` wrote, bit for bit.

        Raises:
            Damaged: the file is missing, cut, altered, or no head of this format.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise Damaged(path, "the file is missing", "restore it from a copy, or refit from the ledger")
        try:
            with safe_open(path, framework="numpy") as file:
                sealed: dict[str, Any] = json.loads((file.metadata() or {}).get("raysal_head", "{}"))
                if sealed.get("format") != FORMAT:
                    found = sealed.get("format")
                    raise Damaged(path, f"head format {found!r}, expected {FORMAT}", "use the raysal that wrote it")
                record: dict[str, Any] = json.loads(sealed["record"])
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
                head = cls(**{**record, "classes": tuple(record["classes"]), **arrays})
                intact = head.digest() == sealed["sha256"]
        except (
            SafetensorError,
            UserError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged(path, f"not a head ({error})", "restore it from a copy, or refit from the ledger") from None
        if not intact:
            raise Damaged(path, "its content does not match its sha256", "restore it, or refit from the ledger")
        return head

    def _record(self) -> str:
        """Everything but the arrays, in its one JSON spelling; floats keep every bit."""
        record = {
            "classes": self.classes,
            "prior": float(self.prior),
            "encoder": self.encoder,
            "version": int(self.version),
            "labels_seen": int(self.labels_seen),
            "fitted_on": int(self.fitted_on),
            "ledger_seq": int(self.ledger_seq),
            "curvature": self.curvature,
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":"))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def curvature_of(kind: Curvature, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each label counts in the covariance, [n], before its weight, given the `logits` [n, C] of
    its item.

    gaussian: 1. categorical: p_max (1 - p_max), at least 1e-9, so that no label is without any effect.
    """
    if kind == "gaussian":
        return np.ones(len(logits))
    confidence = softmax(logits).max(axis=1)
    return np.asarray(np.maximum(confidence * (1 - confidence), 1e-9))


def cross_entropy(
    logits: NDArray[np.float64], targets: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """Summed cross-entropy in nats of `logits` [n, C] against class rows `targets` [n], each times its
    weight [n]."""
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    losses = log_sum - logits[np.arange(len(targets)), targets]
    return float(losses.sum() if weights is None else losses @ weights)
