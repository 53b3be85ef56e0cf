"""A trainer turns every label there is into a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from raysal.update.head import Head


class Trainer(Protocol):
    """A way to fit a head from scratch. Constructor fields are its config."""

    def fit(
        self,
        features: NDArray[Any],
        labels: Sequence[str],
        weights: NDArray[Any] | None,
        *,
        classes: Sequence[str],
        encoder: str,
        version: int,
        ledger_seq: int,
        seed: int,
    ) -> Head:
        """The head for these labels: a pure function of its arguments.

        `features` [n, d] are float, in an order the caller fixes (by item id); `weights` [n] scale the
        evidence of each label, and none means 1. `classes` may hold classes without a label yet; the head
        sorts them. `encoder`, `version` and `ledger_seq` are passed through. `labels_seen` and `fitted_on`
        of the head are n.

        Raises:
            LabelError: there is no label, a label is none of `classes`, or a number cannot be used; it
                names the row.
        """
        ...
