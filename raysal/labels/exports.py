"""What other label tools write, read as what it says.

| written | by | is read as |
|---|---|---|
| `["a", "b"]`, also as text of JSON or Python | doccano, Hugging Face, pandas | `a|b` |
| `{"choices": ["a", "b"]}` | Label Studio | `a|b` |
| `[{"rating": 4}]`, `{"number": 4}` | Label Studio | `4` |
| `{"text": ["a"]}`, `{"datetime": "..."}`, `{"selected": "left"}` | Label Studio | the text |
| `{"taxonomy": [["animal", "cat"]]}` | Label Studio | `animal/cat` |
| `[]`, `{}`, `{"choices": []}` | all | no label |
| a list of tasks with `annotations` (.json) | Label Studio | a row for each annotation; a cancelled one is a skip |
| rows with `answer` and `_task_hash` | Prodigy | `accept`: the label or the options; `ignore`: a skip |
| `label.responses` with `.users` and `.status` | Argilla | a row for each user; `discarded` is a skip |
| `labels` where there is no `label` | doccano and others | the label |

Boxes, spans, relations and everything else are refused, row by row: they are no label of the whole item. Text that is
no list and no object stays text, whatever brackets it has.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

from raysal.errors import LabelError
from raysal.types import SKIP

SAID = ("choices", "taxonomy", "rating", "number", "text", "datetime", "selected")
"""What an object may hold by itself, as Label Studio names it."""
RESPONSES = "label.responses"
COLUMNS = (
    "labels", RESPONSES, f"{RESPONSES}.users", f"{RESPONSES}.status", "answer", "accept", "options", "_task_hash",
    "_annotator_id", "_session_id",
)  # fmt: skip
"""Columns of other tools, beside those of a label file."""
SEPARATOR = "|"
NONE = "-"
"""How a text says several labels, or none of them; as in `raysal.models.targets`."""
_FIX = 'write the name of a class, or "a|b" for several'
_SHORT = 60
_NUMPY = re.compile(r"\[\s*[-+.\de]+(?:\s+[-+.\de]+)+\s*\]", re.ASCII)
"""Numbers as numpy prints an array of them."""


def nested_in(where: str, text: str) -> Any:
    """The list or object that a text holds as JSON, or as Python writes it.

    Args:
        where: what the error calls the text.
        text: any text.

    Returns:
        The list or dict; None for any other text.

    Raises:
        LabelError: it is an array as numpy writes it, without commas. `['a' 'b']` would read as `ab`.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    found: Any = None
    if text[1:].lstrip()[:1] in ("'", '"'):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            found = ast.literal_eval(text)
    if not isinstance(found, list | dict):
        found = None
    if _NUMPY.fullmatch(text) or (isinstance(found, list) and _bare(repr(found)) != _bare(text)):
        raise LabelError(where, f"{_short(text)} is a list without commas", _FIX)
    return found


def names_said(where: str, value: Any) -> Iterator[Any]:
    """The names, or numbers, that a list or object of another tool says.

    Args:
        where: what the error calls it.
        value: a list or dict.

    Yields:
        Each name or number as it is written.

    Raises:
        LabelError: it says something else than labels of the whole item.
    """
    if isinstance(value, list | tuple) and sum(isinstance(said, Number) for said in value) > 1:
        problem = f"{_short(str(value))} may be several classes, or a number for each class"
        raise LabelError(where, problem, "write the names of the classes, as a|b")
    for said in value if isinstance(value, list | tuple) else [value]:
        if isinstance(said, Mapping):
            if not said:
                continue
            if len(said) > 1 or next(iter(said)) not in SAID:
                names = ", ".join(map(str, said))
                raise LabelError(where, f"an object of {_short(names)} is no label of the whole item", _FIX)
            ((kind, held),) = said.items()
            for name in held if isinstance(held, list | tuple) else [held]:
                if isinstance(name, list | tuple) and kind == "taxonomy":
                    yield "/".join(map(str, name))
                else:
                    yield _plain_name(where, name)
        else:
            yield _plain_name(where, said)


def joined(where: str, names: Sequence[str]) -> str | None:
    """One text for several labels.

    Args:
        where: what the error calls the cell.
        names: the labels in any order.

    Returns:
        The name of a single one; sorted with | between them for several; None for none.

    Raises:
        LabelError: several are given, and one has a | in it.
    """
    distinct = sorted(set(names))
    if len(distinct) > 1 and any(SEPARATOR in name or name == NONE for name in distinct):
        raise LabelError(where, f"a name among {_short(str(distinct))} is {NONE} or has {SEPARATOR} in it", "rename it")
    return SEPARATOR.join(distinct) or None


def label_rows(where: str, cells: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rows of key, label, annotator and weight that one row of a file means.

    Args:
        where: what the error calls the row.
        cells: the row, by column.

    Yields:
        Each answer that the row holds; the row itself unless it is of another tool.

    Raises:
        LabelError: it is of another tool, and says nothing that can be read.
    """
    if cells.get("answer") is not None and cells.get("_task_hash") is not None:
        yield _of_prodigy(where, cells)
    elif RESPONSES in cells:
        yield from _of_argilla(cells)
    elif "label" not in cells and "labels" in cells:
        yield {**cells, "label": cells["labels"]}
    else:
        yield cells


def is_task(cells: Mapping[str, Any]) -> bool:
    """Whether an object of a .json file is a task of Label Studio with all that annotators said of it."""
    return isinstance(cells.get("annotations"), list) and isinstance(cells.get("data"), Mapping)


def task_rows(where: str, task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rows of a Label Studio task: one for each annotation, or one without a label.

    Args:
        where: what the error calls the task.
        task: the task, as Label Studio exports it. Its `data` holds the `key`.

    Yields:
        Rows of key, label and annotator.

    Raises:
        LabelError: an annotation has several controls, and none of them is called `label`.
    """
    key = {"key": task["data"]["key"]} if "key" in task["data"] else {}
    for annotation in task["annotations"] or [{}]:
        by = annotation.get("completed_by")
        who = (by.get("email") or by.get("id")) if isinstance(by, Mapping) else by
        results = annotation.get("result") or []
        controls = sorted({str(result.get("from_name")) for result in results})
        if len(controls) > 1 and "label" not in controls:
            problem = f"is answered by the controls {', '.join(controls)}"
            raise LabelError(f"{where}: label", problem, "name the one to learn from `label`")
        chosen = [result for result in results if len(controls) == 1 or result.get("from_name") == "label"]
        label: Any = SKIP if annotation.get("was_cancelled") else [result.get("value") for result in chosen]
        yield {**key, "label": label, "annotator": who}


def _of_prodigy(where: str, cells: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of Prodigy in the words of a label file."""
    row = {**cells, "annotator": cells.get("annotator") or cells.get("_annotator_id") or cells.get("_session_id")}
    accepted = cells.get("accept")
    if cells["answer"] == "ignore" or (cells["answer"] == "reject" and accepted is not None):
        row["label"] = SKIP
    elif cells["answer"] == "reject":
        problem = f"{_short(str(cells.get('label')))} was rejected, which names no label"
        raise LabelError(f"{where}: label", problem, "write the label, or leave the row out")
    elif accepted is not None:
        row["label"] = [str(option) for option in accepted] or NONE
    return row


def _of_argilla(cells: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The answers in a row of Argilla: one for each user."""
    values = cells[RESPONSES] or []
    users, states = (cells.get(f"{RESPONSES}.{name}") or [None] * len(values) for name in ("users", "status"))
    if not len(values):
        yield {**cells, "label": None}
    for value, user, state in zip(values, users, states, strict=True):
        label = SKIP if state == "discarded" else None if state == "draft" else value
        yield {**cells, "label": label, "annotator": user}


def _plain_name(where: str, name: Any) -> Any:
    """A name inside a list, which must be text or a number."""
    if isinstance(name, Mapping | list | tuple):
        raise LabelError(where, f"{_short(str(name))} is no label of the whole item", _FIX)
    return name


def _bare(text: str) -> str:
    return "".join(text.split())


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHORT else text[:_SHORT] + "...")
