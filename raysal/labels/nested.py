"""A cell that holds a list or an object of another label tool, read as the label that it says.

| written | by | is read as |
|---|---|---|
| `["a", "b"]`, also as text of JSON or Python | doccano, Hugging Face, pandas | `a|b` |
| `{"choices": ["a", "b"]}` | Label Studio | `a|b` |
| `[{"rating": 4}]`, `{"number": 4}` | Label Studio | `4` |
| `{"text": ["a"]}`, `{"datetime": "..."}`, `{"selected": "left"}` | Label Studio | the text |
| `{"taxonomy": [["animal", "cat"]]}` | Label Studio | `animal/cat` |
| `[]`, `{}`, `{"choices": []}` | all | no label |

Boxes, spans, relations and everything else are refused, row by row: they are no label of the whole item. Text that is
no list and no object stays text, whatever brackets it has. What whole records of a tool say is in
`raysal.labels.formats`.
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
from raysal.types import NONE, SEPARATOR

SAID = ("choices", "taxonomy", "rating", "number", "text", "datetime", "selected")
"""What an object may hold by itself, as Label Studio names it."""
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
        raise LabelError(where, f"{shortened(text)} is a list without commas", _FIX)
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
        problem = f"{shortened(str(value))} may be several classes, or a number for each class"
        raise LabelError(where, problem, "write the names of the classes, as a|b")
    for said in value if isinstance(value, list | tuple) else [value]:
        if isinstance(said, Mapping):
            if not said:
                continue
            if len(said) > 1 or next(iter(said)) not in SAID:
                names = ", ".join(map(str, said))
                raise LabelError(where, f"an object of {shortened(names)} is no label of the whole item", _FIX)
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
        raise LabelError(
            where, f"a name among {shortened(str(distinct))} is {NONE} or has {SEPARATOR} in it", "rename it"
        )
    return SEPARATOR.join(distinct) or None


def _plain_name(where: str, name: Any) -> Any:
    """A name inside a list, which must be text or a number."""
    if isinstance(name, Mapping | list | tuple):
        raise LabelError(where, f"{shortened(str(name))} is no label of the whole item", _FIX)
    return name


def _bare(text: str) -> str:
    return "".join(text.split())


def shortened(text: str) -> str:
    """The beginning of a text, in quotes."""
    return repr(text if len(text) <= _SHORT else text[:_SHORT] + "...")
