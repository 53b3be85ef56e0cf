"""The text of JSON records: the numbers that JSON lacks, and indented text that takes no time to make."""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring as _text
from typing import Any

NOT_JSON = "$float"
"""JSON has no infinity and no NaN. Such a number is written as `{"$float": "inf"}`, and read as the number again."""
_encode = json.JSONEncoder(ensure_ascii=False).encode
compact = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""The shortest text of a value, with names in order."""


def to_json(value: Any) -> Any:
    """A value without the numbers that JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return {NOT_JSON: str(value)}
    if isinstance(value, dict):
        return {name: to_json(inner) for name, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    """A value with the numbers that JSON lacks, as it was before `to_json`."""
    if isinstance(value, dict):
        if value.keys() == {NOT_JSON} and value[NOT_JSON] in ("inf", "-inf", "nan"):
            return float(value[NOT_JSON])
        return {name: from_json(inner) for name, inner in value.items()}
    return [from_json(inner) for inner in value] if isinstance(value, list) else value


def indented(value: Any, line: str = "\n") -> str:
    """The text that `json.dumps` makes with `indent=1, sort_keys=True, ensure_ascii=False`, in a fifth of the time.

    With an indent, `json.dumps` takes no part of its C code: for the 10,000 records of a pool that is half a second.

    Args:
        value: what `json.loads` returns; the names of a dict are texts.
        line: the line break before the value, with its indent.

    Returns:
        The text.
    """
    if type(value) is str:
        return _text(value)
    if type(value) is int:
        return repr(value)
    if isinstance(value, dict) and value:
        inner = line + " "
        rows = [f"{inner}{_text(name)}: {indented(value[name], inner)}" for name in sorted(value)]
        return "{" + ",".join(rows) + line + "}"
    if isinstance(value, list) and value:
        inner = line + " "
        return "[" + ",".join([inner + indented(row, inner) for row in value]) + line + "]"
    return _encode(value)
