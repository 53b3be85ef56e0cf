"""The labels of the items of a pool: of a column that it carries, of a label file, or of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import numbers_of
from raysal.errors import ConfigError, LabelError
from raysal.labels.spelling import label_text
from raysal.models.likelihood import SIGMOID
from raysal.paths import with_home
from raysal.pool import Pool
from raysal.rounds.known_labels import GivenLabels, LabelsOfRun, known_labels
from raysal.rounds.training_labels import TrainingLabels
from raysal.types import POOL_COLUMNS, SKIP

MISSING = -1
"""The code of an item without a label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolLabels:
    """What the items of a pool are labelled. 4 bytes an item, and the distinct labels."""

    codes: NDArray[np.int32]
    """[n] of all items, in order of id: which of the `texts`, or `MISSING`"""
    texts: tuple[str, ...]
    """distinct labels, sorted; of several labels in their one spelling, as `a|b`"""

    @property
    def digest(self) -> str:
        """Of all of them."""
        found = hashlib.sha256("\x1f".join(self.texts).encode("utf-8", "surrogatepass"))
        found.update(self.codes.astype("<i4").tobytes())
        return found.hexdigest()

    def members(self) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
        """Of several labels: their names, sorted, and which of them each text has, [texts, names]."""
        sets = [SIGMOID.names_in(text) for text in self.texts]
        names = sorted({name for own in sets for name in own})
        place = {name: at for at, name in enumerate(names)}
        found = np.zeros((len(sets), len(names)), bool)
        for row, own in enumerate(sets):
            found[row, [place[name] for name in own]] = True
        return tuple(names), found


def names_of(labels: PoolLabels, codes: NDArray[np.int64], *, several: bool) -> list[str]:
    """The classes that some items have.

    Args:
        labels: of the pool.
        codes: [n] of the items.
        several: an item has several labels.

    Returns:
        Their names, sorted.
    """
    texts = [labels.texts[code] for code in np.unique(codes).tolist()]
    return sorted({name for text in texts for name in SIGMOID.names_in(text)}) if several else texts


def is_column(pool: Pool, labels: str) -> bool:
    """Whether labels are those of a column of the pool, and not those of a file or run.

    Args:
        pool: the items.
        labels: a column, a label file or a run directory.

    Returns:
        True for a column.

    Raises:
        ConfigError: it is none of them.
    """
    known = [name for name in pool.columns if name not in POOL_COLUMNS]
    if labels in known:
        return True
    if with_home(labels).exists():
        return False
    columns = f"the columns: {', '.join(known)}" if known else "the pool carries no column"
    raise ConfigError("labels", f"{labels!r} is no column of the pool and no file; {columns}", "name a column or file")


def read_pool_labels(pool: Pool, labels: str, *, several: bool = False) -> PoolLabels:
    """Read the labels of a pool.

    One pass over the column, or over the ids. Memory: 4 bytes an item (12 while it reads a file), and the distinct
    labels.

    Args:
        pool: the items.
        labels: a column that the pool carries, a label file, or a run directory; of a run, the labels that train. Where
            annotators disagree, the label of most weight counts.
        several: an item has several labels: its label is `a|b`, or `-` for none.

    Returns:
        The labels. Empty cells and skips are no label.

    Raises:
        ConfigError: it is no column and no file.
        LabelError: a label cannot be read, or names an item that the pool does not have.
        RunError: a directory holds no run.
        FingerprintMismatch: a file or a run is of another pool.
    """
    codes, names = _of_column(pool, labels) if is_column(pool, labels) else _of_file(pool, labels)
    plain = [SIGMOID.plain(name, f"label {name!r}") if several else name for name in names]
    texts = sorted(set(plain))
    place = {text: at for at, text in enumerate(texts)}
    order = np.array([*(place[text] for text in plain), MISSING], np.int32)
    return PoolLabels(codes=order[codes], texts=tuple(texts))


def _of_column(pool: Pool, column: str) -> tuple[NDArray[np.int32], list[str]]:
    """Codes of all items, and what they stand for; the last place of a lookup, -1, is no label."""
    codes: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    names: dict[str, int] = {}
    for table in pool.items(["id", column]):
        values = table[column].combine_chunks()
        if pa.types.is_nested(values.type):
            said = values.to_pylist()
            place = np.arange(len(said))
        else:
            plain = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
            encoded = plain.dictionary_encode(null_encoding="encode")
            said, place = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        known = np.full(len(said) + 1, MISSING, np.int32)
        for at, value in enumerate(said):
            text = label_text(f"column {column}", value)
            if text is not None and text != SKIP:
                known[at] = names.setdefault(text, len(names))
        codes.append(known[place])
    return np.concatenate(codes), list(names)


def _of_file(pool: Pool, labels: str) -> tuple[NDArray[np.int32], list[str]]:
    with known_labels(pool, Path(with_home(labels))) as known:
        if isinstance(known, LabelsOfRun):
            if known.ledger is None:
                raise LabelError(labels, "the run has no labels yet", "label some items first")
            training = TrainingLabels.of(known.ledger, known.config, known.pool)
            items = training.labels(upto=training.head_seq)
        else:
            assert isinstance(known, GivenLabels)
            items = list(known.items)
    ids = np.concatenate([np.empty(0, np.int64), *(numbers_of(table["id"]) for table in pool.items(["id"]))])
    codes, names = np.full(len(ids), MISSING, np.int32), dict[str, int]()
    wanted = np.array([item.id for item in items], np.int64)
    place = np.searchsorted(ids, wanted).clip(max=max(len(ids) - 1, 0))
    for at, id, item in zip(place.tolist(), wanted.tolist(), items, strict=True):
        if len(ids) and ids[at] == id:  # a run may have labels of items that were removed
            codes[at] = names.setdefault(item.label, len(names))
    return codes, list(names)
