"""The head: a linear model on frozen vectors, with a Gaussian posterior over its weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, FingerprintMismatch, UserError
from raysal.features import HiddenLayer, frozen
from raysal.models.evidence import with_constant
from raysal.models.frame import Frame
from raysal.models.likelihood import SOFTMAX, Likelihood, likelihood_of
from raysal.models.posterior import Gaussian, Members, Posterior, Shared, posterior_of
from raysal.scale import other_scale
from raysal.store import write_output

if TYPE_CHECKING:
    from raysal.pool import Pool

SPANNED, FORMAT, OLDER = 4, 3, 2
"""Versions of the file layout: with a posterior in the span of few labels, of all other heads, and of heads which were
fitted otherwise (`Head.mass`). A reader refuses any other."""
OTHERWISE = (
    "an older raysal fitted this head, with a penalty on the bias; the next round of its run fits anew, and a number "
    "given for l2 has another unit then (docs/models.md)"
)
"""What people are told of a head that was fitted otherwise."""
RESTORE = "restore it from a copy, or refit from the ledger"


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Weights and posterior of a linear model with C outputs on d features.

    The bias is the weight of a constant feature 1, the last of D = d + 1 features. Arrays are float64, contiguous and
    read-only. Heads of equal content have equal `digest()`.

    Raises:
        UserError: shapes disagree, a class appears twice, or a number is not finite.
    """

    classes: tuple[str, ...]
    """Names of the rows of `mean`: sorted by the trainer, classes that joined later in the order they came."""
    mean: NDArray[np.float64]
    """[C, D]"""
    posterior: Posterior
    """Over the weights, around `mean`."""
    linearised_at: NDArray[np.float64]
    """[C₀, D], the mean of the last fit, at which the evidence of every label is taken. Its rows are the first C₀ ≤ C
    classes; the others have joined since (`add_classes`)."""
    prior: float
    """Precision of the Gaussian prior on every weight of the posterior's frame, in the units of the summed loss. Where
    labels are numbers it is that of weights of the vectors as they are, the constant apart (`Regression`)."""
    encoder: str
    """Fingerprint of the encoder of the vectors."""
    version: int
    """One more after each fit or update."""
    labels_seen: int
    """Items of the last fit and of the updates after it."""
    fitted_on: int
    """Items of the last fit."""
    ledger_seq: int
    """Offset in the ledger up to which labels are absorbed. The caller gives it, and it is kept for the caller."""
    likelihood: Likelihood = SOFTMAX
    """What labels are; in files, under `link`, its name."""
    temperature: float = 1.0
    """Outputs are divided by it before they become probabilities (Guo et al., ICML 2017)."""
    noise: float = 1.0
    """Variance of a label around the prediction, where labels are numbers."""
    mass: float | None = None
    """Of heads in files of format 2, which were fitted with a penalty on the bias and without a frame. It is kept so
    that their digests stay what they were, and nothing else reads it."""
    hidden_layer: HiddenLayer | None = None
    """What turns the vectors of the pool into the features of the head; None where they are the features."""

    def __post_init__(self) -> None:
        for name in ("mean", "linearised_at"):
            object.__setattr__(self, name, frozen(getattr(self, name), f"head.{name}"))
        for name in ("prior", "temperature", "noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"head.{name}", f"{value!r} is not a finite number above 0")
        if self.mean.ndim != 2 or self.mean.shape[0] != len(self.classes) or not self.classes or self.dim < 1:
            raise UserError("head.mean", f"shape {self.mean.shape} for {len(self.classes)} classes")
        if len(set(self.classes)) != len(self.classes):
            raise UserError("head.classes", "a class appears twice")
        fit, own = self.linearised_at.shape, self.mean.shape
        if len(fit) != 2 or fit[1] != own[1] or not 1 <= fit[0] <= own[0]:
            raise UserError("head.linearised_at", f"shape {fit}, the mean's is {own}", "give the rows of the last fit")
        for field in fields(self.posterior):  # type: ignore[arg-type]  # every structure is a dataclass
            if isinstance(array := getattr(self.posterior, field.name), np.ndarray):
                object.__setattr__(self.posterior, field.name, frozen(array, f"head.posterior.{field.name}"))
        if self.hidden_layer is not None and self.hidden_layer.dim != self.dim:
            raise UserError("head.hidden_layer", f"shows {self.hidden_layer.dim} features, the head takes {self.dim}")
        if self.posterior.dim != self.dim + 1:
            raise UserError("head.posterior", f"is over {self.posterior.dim} features, with the bias {self.dim + 1}")
        if self.frame is not None and len(self.frame.centre) != self.dim:
            raise UserError("head.frame", f"is of {len(self.frame.centre)} features, the head takes {self.dim}")
        outputs = self.posterior.output_count
        if outputs not in (None, len(self.classes)):
            raise UserError("head.posterior", f"is over {outputs} outputs for {len(self.classes)} classes")

    @classmethod
    def of_weights(
        cls,
        weight: NDArray[Any],
        bias: NDArray[Any],
        *,
        classes: Sequence[str] = (),
        covariance: NDArray[Any] | None = None,
        prior: float = 1.0,
        encoder: str = "",
    ) -> Head:
        """A head of weights from elsewhere, with one covariance for all classes.

        Args:
            weight: [C, d]
            bias: [C]
            classes: [C] names; `class-0`, `class-1`, ... unless given.
            covariance: [d + 1, d + 1]; that of the prior unless given.
            prior: precision of the prior on every weight.
            encoder: fingerprint of the encoder of the vectors.

        Returns:
            The head.

        Raises:
            UserError: as the class; or the covariance is not positive definite.
        """
        mean = np.column_stack([np.asarray(weight, np.float64), np.asarray(bias, np.float64)])
        try:
            root = np.eye(mean.shape[1]) / math.sqrt(prior) if covariance is None else np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise UserError("head.covariance", "is not positive definite") from None
        return cls(
            classes=tuple(classes) or tuple(f"class-{c}" for c in range(len(mean))),
            mean=mean,
            posterior=Shared(root=root),
            linearised_at=mean,
            prior=prior,
            encoder=encoder,
            version=0,
            labels_seen=0,
            fitted_on=0,
            ledger_seq=0,
        )

    @property
    def fitted_otherwise(self) -> bool:
        """Whether a raysal fitted it that penalised the bias. The next round of its run fits anew."""
        return self.mass is not None

    @property
    def frame(self) -> Frame | None:
        """The frame that its prior belongs to; None where it is that of the vectors as they are."""
        return self.posterior.frame if isinstance(self.posterior, Gaussian | Members) else None

    @property
    def dim(self) -> int:
        """Length d of the features: the vectors of the pool, or what the hidden layer makes of them."""
        return int(self.mean.shape[1]) - 1

    @property
    def pool_dim(self) -> int:
        """Length of the vectors of the pool."""
        return self.dim if self.hidden_layer is None else self.hidden_layer.pool_dim

    def see(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """The features of vectors of the pool.

        Args:
            vectors: [n, pool_dim]

        Returns:
            What the hidden layer makes of them, [n, d]; without one, the vectors themselves.

        Raises:
            UserError: there is a hidden layer, and vectors are not of its length.
        """
        return vectors if self.hidden_layer is None else self.hidden_layer.see(vectors)

    @property
    def weight(self) -> NDArray[np.float64]:
        """The weights without the bias, [C, d]."""
        return self.mean[:, :-1]

    @property
    def bias(self) -> NDArray[np.float64]:
        """The bias, [C]."""
        return self.mean[:, -1]

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The covariance of the weights of every output, [D, D]. O(D³).

        Raises:
            UserError: outputs do not share one.
        """
        covariance = self.posterior.covariance
        if covariance is None:
            problem = f"has no covariance for all classes ({self.posterior.name})"
            raise UserError("head", problem, 'use structure = "shared"')
        return covariance

    def logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The outputs before the temperature. For few items in the driver; a sweep has its own product.

        Args:
            features: [n, d]

        Returns:
            float64 [n, C]

        Raises:
            UserError: features are not [n, d].
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise UserError("features", f"shape {features.shape}", f"this head takes [n, {self.dim}]")
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """What the mean of the weights predicts.

        Args:
            features: [n, d]

        Returns:
            float64 [n, C]: class probabilities, all 1 where there is one class; a probability for each label; or
            numbers.

        Raises:
            UserError: features are not [n, d].
        """
        return self.likelihood.responses(self.logits(features) / self.temperature)

    def variance(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """The posterior variance of every output before the temperature. O(n D²).

        Args:
            features: [n, d]

        Returns:
            float64 [n, C], or [n, 1] where outputs share it.
        """
        return self.posterior.variance().of(with_constant(features.astype(np.float64)))

    def check(self, pool: Pool, where: Path | str = "head") -> None:
        """Refuse a pool whose vectors are not of the kind that the head was fitted on.

        Args:
            pool: the pool.
            where: names the head in an error.

        Raises:
            FingerprintMismatch: the head was fitted on vectors of another encoder or origin, or of another length.
        """
        encoder, dim = pool.vector_space, pool.dim
        if self.encoder != encoder or self.pool_dim != dim:
            mine, theirs = f"{self.encoder} ({self.pool_dim} numbers)", f"{encoder} ({dim} numbers)"
            fix = "use the pool it was fitted on"
            if pool.manifest.modality == "vector":
                fix += "; if one model made both, embed both pools with the same `--origin NAME`"
            if (own := other_scale(self.encoder, encoder)) is not None and self.pool_dim == dim:
                fix = f"the scales differ: embed the pool again with --scale {own}, or use the pool it was fitted on"
            raise FingerprintMismatch(where, "the head's encoder", theirs, mine, fix)

    def digest(self) -> str:
        """The sha256 of the whole content, in hex: heads of equal digests are equal, bit for bit."""
        seal = hashlib.sha256(self._record().encode())
        for name, array in self._arrays().items():
            seal.update(f"{name}{array.shape}".encode())
            seal.update(array.astype("<f8", copy=False).tobytes())
        return seal.hexdigest()

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the head as one safetensors file, atomically. 8 bytes for each number of its arrays, and a little.

        Args:
            path: the file.
            overwrite: replace the file that is there; it is kept as `NAME.1`, `NAME.2` ...

        Raises:
            OutputExists: another file is there, and `overwrite` is false.
        """
        content = self.content()
        write_output(path, lambda temporary: temporary.write_bytes(content), overwrite=overwrite)

    def content(self) -> bytes:
        """The bytes of the file that `save` writes. Equal heads have equal bytes."""
        from safetensors.numpy import save

        # One entry: safetensors writes several in random order, and equal heads must be equal files.
        layout = OLDER if self.fitted_otherwise else SPANNED if "posterior.axes" in self._arrays() else FORMAT
        sealed = {"format": layout, "sha256": self.digest(), "record": self._record()}
        content: bytes = save(self._arrays(), {"raysal_head": json.dumps(sealed)})
        return content

    @staticmethod
    def was_fitted_otherwise(path: Path) -> bool:
        """`fitted_otherwise` of the head in a file, of which only the first bytes are read; False where none is."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                sealed = json.loads((file.metadata() or {}).get("raysal_head", "{}"))
        except (SafetensorError, OSError, ValueError):
            return False
        return bool(sealed.get("format") == OLDER)

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read the head that `save` wrote, bit for bit.

        Args:
            path: the file.

        Returns:
            The head.

        Raises:
            Damaged: the file is missing, cut, altered, or no head of this format.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise Damaged(path, "the file is missing", RESTORE)
        try:
            with safe_open(path, framework="numpy") as file:
                sealed: dict[str, Any] = json.loads((file.metadata() or {}).get("raysal_head", "{}"))
                found = sealed.get("format")
                if found not in (OLDER, FORMAT, SPANNED):
                    raise Damaged(path, f"head format {found!r}, expected {FORMAT}", "use the raysal that wrote it")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
                head = cls._from(json.loads(sealed["record"]), arrays)
                intact = head.digest() == sealed["sha256"]
        except Damaged:
            raise
        except (SafetensorError, UserError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(path, f"not a head ({error})", RESTORE) from None
        if not intact:
            raise Damaged(path, "its content does not match its sha256", RESTORE)
        return head

    @classmethod
    def _from(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Head:
        structure, likelihood = record.pop("posterior"), likelihood_of(record.pop("link"))
        own: dict[str, dict[str, Any]] = {"": {}, "posterior": {}, "lens": {}}
        for name, array in arrays.items():
            part, _, field = name.rpartition(".")
            own[part][field] = array
        posterior = posterior_of({**structure, **own["posterior"]})
        hidden_layer = HiddenLayer(**own["lens"]) if own["lens"] else None
        return cls(
            **{
                **record,
                "likelihood": likelihood,
                "classes": tuple(record["classes"]),
                "posterior": posterior,
                "hidden_layer": hidden_layer,
                **own[""],
            }
        )

    def _arrays(self) -> dict[str, NDArray[np.float64]]:
        own = {f"posterior.{name}": array for name, array in self.posterior.arrays().items()}
        if self.hidden_layer is not None:
            layer = self.hidden_layer  # the names in files are those of format 2
            own |= {"lens.weight": layer.weight, "lens.bias": layer.bias}
        return {"mean": self.mean, "linearised_at": self.linearised_at, **own}

    def _record(self) -> str:
        """Everything but the arrays, in its one JSON spelling. Floats keep every bit."""
        record = {
            "classes": self.classes,
            "posterior": self.posterior.record(),
            "prior": float(self.prior),
            "encoder": self.encoder,
            "version": int(self.version),
            "labels_seen": int(self.labels_seen),
            "fitted_on": int(self.fitted_on),
            "ledger_seq": int(self.ledger_seq),
            "link": self.likelihood.name,
            "temperature": float(self.temperature),
            "noise": float(self.noise),
        }
        if self.mass is not None:
            record["mass"] = float(self.mass)
        return json.dumps(record, sort_keys=True, separators=(",", ":"))
