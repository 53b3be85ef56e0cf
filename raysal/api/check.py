"""`raysal.check`: the labels of a pool that look wrong, the worst first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raysal.arguments import Backend
from raysal.pool import Pool

if TYPE_CHECKING:
    from raysal.curation.label_check import LabelCheck
    from raysal.types import Report


def check(
    pool: str | Path | Pool,
    labels: str | Path = "label",
    *,
    several: bool = False,
    probabilities: str | Path | None = None,
    folds: int = 5,
    sample: int = 20_000,
    fewest: int = 5,
    method: Literal["class", "noise_rate", "confident"] = "class",
    score: Literal["transitions", "self_confidence", "normalized_margin", "entropy"] | None = None,
    share: float | None = None,
    most: int | None = None,
    near: float | None = None,
    seed: int = 0,
    partitions: int | None = None,
    backend: Backend = "local",
    address: str | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> LabelCheck:
    """Find labels that look wrong, by confident learning and by copies that are labelled otherwise.

    Heads on the vectors predict each item without its own label and those of its copies; what they say of the item is
    compared with its label. Nothing is changed, and the result does not depend on partitions, chunks and backend. What
    was found is kept in the pool: the same call again computes nothing.

    Args:
        pool: an embedded pool, its path or its URL.
        labels: a column that the pool carries, a label file, or a run directory.
        several: an item has several labels, `a|b`, or `-` for none.
        probabilities: a file or a folder of predictions in place of heads. They must have been made without the items'
            own labels.
        folds: heads; each predicts the items that it was not fitted to.
        sample: labelled items that heads are fitted to, about.
        fewest: labels of a class from which on its items are judged.
        method: which items are suspects: as many as are estimated to be wrong for each class (`class`), or for each
            pair of classes (`noise_rate`); or those that are confidently of another class (`confident`).
        score: how labels are ranked; `transitions` by default, and of several labels `self_confidence`.
        share: list this share of the judged items, those of lowest score, in place of `method`.
        most: list so many items at most.
        near: the similarity from which on items count as copies (`raysal.dedup`); by default only equal vectors.
        seed: of the folds.
        partitions: parts that the pool is cut into; by default one, and with Ray one per CPU.
        backend: this process, or Ray.
        address: a Ray cluster; by default one is started on this machine.
        device: `cpu`, or `cuda`, `cuda:1` ... where heads predict.
        report: called with the stage, what of it is done, and its total.

    Returns:
        What was found: `.table()` with the ranked suspects, `.error_rate`, `.facts` and `.write("suspects.csv")`.

    Raises:
        ConfigError: the labels are no column and no file, or an argument is of the wrong type or out of range.
        UnknownName: there is no such method, score or backend.
        LabelError: a label cannot be read, or names an item that the pool does not have.
        PoolError: the pool cannot be opened.
        NotNow: another process curates this pool.
        Damaged: a file is not as it was written.
    """
    from raysal.api.curate import run_step
    from raysal.curation.label_check import LabelCheck

    fields: dict[str, Any] = {
        "labels": str(labels),
        "several": several,
        "probabilities": None if probabilities is None else str(probabilities),
        "folds": folds,
        "sample": sample,
        "fewest": fewest,
        "method": method,
        "score": score,
        "share": share,
        "most": most,
        "near": near,
    }
    done = run_step(
        pool, {"name": "check", **fields}, seed=seed, partitions=partitions, backend=backend, address=address,
        device=device, report=report,
    )  # fmt: skip
    return LabelCheck.of(done)
