"""What an encoder is: a frozen model that turns items into vectors and owns their preprocessing.

How it is used: the embed job calls `prepare` for every item, in several threads, while the model works on an earlier
batch. It then calls `encode` with the prepared items of one batch. `encode` is the one method that runs the model.
Everything else describes the vectors, so that vectors of two encoders are never mixed.

To add an encoder:

1. Write one file in `raysal/embedding/` with one frozen, keyword-only dataclass that has the members of `Encoder`.
   Its fields are its config: TOML files, the pool's manifest and Python use the same names. A field `arg` takes what
   follows a colon in the name, as in `timm:resnet18`.
2. Add one line to `raysal/embedding/registry.py`. The config, `raysal embed --help` and the contract tests read it.
3. Add one example to `tests/embedding/test_encoder_contract.py`. The tests there hold every encoder to this page.

Pitfalls:

- Load weights where a method first needs them, never in the constructor, and keep them out of the instance (a module
  function with `functools.lru_cache`). Encoders are pickled to the workers, and configs are checked without weights.
- An encoder of pictures that hands the square of a picture to a model inherits `raysal.embedding.rendering.Renders`,
  so that it can be told channels and a stretch.
- Everything that changes a vector belongs in the fingerprint: the weights, the preprocessing, the size of an image.
  A field that changes no vector, such as a device, is marked `field(metadata={"record": False})`. A field that came
  later, as `precision`, is not recorded where it has its default, so that older pools stay what they are.
- Never repair an item in silence. A `BadItem` quarantines the item with its reason. Any other error that is not
  raysal's own does the same, unless all items of a batch (two or more) fail with the same type of error: then the
  encoder counts as broken, and the job ends.
- Let an error that says that memory ran out pass through: the batch is then halved (`raysal.embedding.encoding`).
- A vector that is not finite, or does not fit float16 (at most 65504, and not so small that it loses its direction),
  is quarantined. It is never clipped. `raysal.embedding.rounding` says what is kept; `--scale` moves these limits.
- Import an optional package inside the function that needs it, and raise `MissingExtra` where it is absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raysal.types import Modality


class Encoder(Protocol):
    """A frozen model. Its constructor fields are its config; it loads its weights where they are first used."""

    @property
    def modality(self) -> Modality:
        """The kind of item it takes. Known without weights."""
        ...

    @property
    def dim(self) -> int:
        """Length d of a vector. May load the model."""
        ...

    def preprocessing(self) -> Mapping[str, Any]:
        """Describe what happens to an item before the model.

        Returns:
            Values that JSON can hold. The pool's manifest records them, and the fingerprint covers them.
        """
        ...

    def fingerprint(self) -> str:
        """Identify the vectors: equal fingerprints mean comparable vectors. May load the model.

        Returns:
            Hex sha256 over weights, preprocessing and size; the same in every process.
        """
        ...

    def prepare(self, key: str, payload: Any) -> Any:
        """Decode and preprocess one item. Several threads call it at once.

        Args:
            key: the item's name, for the error.
            payload: the item as its source gives it; see `raysal.types.Item`.

        Returns:
            What `encode` takes. The job holds up to `LOOK_AHEAD_BATCHES` batches of it.

        Raises:
            BadItem: the item cannot be decoded. The item is quarantined with this reason.
        """
        ...

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.floating[Any]]:
        """Run the model on one batch.

        Deterministic: the same batch gives the same bits. The other items of a batch change a vector by rounding at
        most.

        Args:
            prepared: what `prepare` returned for each item, n of them, at least one.

        Returns:
            Vectors [n, dim] in the same order: float32, or float64 where digits beyond it are known.
        """
        ...
