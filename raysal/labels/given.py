"""Labels as Python code passes them: by key in a mapping, a Series or a frame, or as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from reprlib import repr as _short
from typing import Any

import numpy as np

from raysal.arrays import Column, column_of, columns_of, is_missing
from raysal.errors import LabelError
from raysal.labels.files import label_text
from raysal.labels.records import PASS_LABELS, checked
from raysal.types import Label

Labels = Mapping[str, str] | Sequence[Label] | Sized
"""{key: label}, `Label`s, a Series that is indexed by key, or a frame with the columns `key` and `label`."""


def as_labels(labels: Labels) -> list[Label]:
    """Check labels in any form in which callers write them. What they belong to is said by name, never by position.

    - `{key: label}`, or a list of `Label`.
    - A Series of pandas whose index holds the keys.
    - A frame of pandas, Polars or Arrow with the columns `key` and `label`, and optionally `annotator` and `weight`. It
      is read as a label file is: other columns are ignored, and rows without a label are left out.

    Args:
        labels: the labels.

    Returns:
        The labels, each `checked`, in their order.

    Raises:
        LabelError: it is none of these, a label cannot be accepted, or two rows contradict each other.
    """
    given: Any = labels  # it comes from outside, so its type is not certain
    if isinstance(given, Mapping):
        return [checked(Label(key=key, label=label)) for key, label in given.items()]
    if (columns := columns_of("labels", given)) is not None:
        return list(_of_rows(columns))
    if hasattr(type(given), "iloc") and hasattr(type(given), "index"):
        return list(_of_rows({"key": _keys_of_index(given), "label": column_of("labels", given)}))
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        problem = f"{_short(given)} does not say which items the labels are of"
        raise LabelError("labels", problem, f"{PASS_LABELS}, a Series by key, or a frame with key and label")
    return [checked(label) for label in given]


def _keys_of_index(series: Any) -> Column:
    """The index of a Series as keys. Numbers are refused: they are mostly positions that nobody meant as keys."""
    keys = column_of("labels.index", series.index)
    for key in keys:
        if not isinstance(key, str) and not is_missing(key):
            problem = f"the index of the Series holds {_short(key)}, and not the items' keys"
            raise LabelError("labels", problem, "set the keys as its index, as text")
    return keys


def _of_rows(columns: Mapping[str, Column]) -> Iterator[Label]:
    """The labels of rows, without the rows that have none."""
    for name in ("key", "label"):
        if name not in columns:
            raise LabelError("labels", f"no column {name!r}; the columns: {', '.join(columns)}", "rename a column")
    wanted = {name: columns[name] for name in ("key", "label", "annotator", "weight") if name in columns}
    first: dict[tuple[str, str], Label] = {}
    for place, cells in enumerate(zip(*wanted.values(), strict=True)):
        where = f"labels, row {place}"
        label = _label(where, dict(zip(wanted, cells, strict=True)))
        if label is None:
            continue
        if first.setdefault((label.key, label.annotator), label) != label:
            problem = f"{label.key!r} has another label or weight in an earlier row, by the same annotator"
            raise LabelError(where, problem, "keep one of the rows, or name different annotators")
        yield label


def _label(where: str, cells: Mapping[str, Any]) -> Label | None:
    """The label of one row; None if it has none."""
    plain = {name: cell.item() if isinstance(cell, np.generic) else cell for name, cell in cells.items()}
    found = {name: None if is_missing(cell) else cell for name, cell in plain.items()}
    key, weight = found["key"], found.get("weight")
    if key is None or key == "":
        raise LabelError(f"{where}: key", "is missing", "name the item by its key in the pool")
    text = label_text(f"{where}: label", found["label"])
    if text is None:
        return None
    annotator = label_text(f"{where}: annotator", found.get("annotator")) or ""
    whole = isinstance(key, int) and not isinstance(key, bool)
    label = Label(key=str(key) if whole else key, label=text, annotator=annotator, weight=1.0)
    return checked(label if weight is None else Label(key=label.key, label=text, annotator=annotator, weight=weight))
