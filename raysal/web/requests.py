"""What requests say, read and checked; and answers that are no JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from raysal.errors import LabelError, UserError
from raysal.web.answers import Answer
from raysal.web.desk import PAGE
from raysal.web.media import Packed

MOST_TAB = 64
"""Letters of a tab's name that count."""


def who(request: Request) -> str:
    """The annotator that a request names; empty for none."""
    return unquote(request.headers.get("x-annotator", ""))


def tab_of(request: Request) -> str:
    """The tab of a browser that a request comes from; empty for none."""
    return request.headers.get("x-tab", "")[:MOST_TAB]


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number among the arguments of a request, brought between two limits."""
    given = request.query_params.get(name)
    if given is None or given == "":
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 18):
        raise UserError(name, f"{given!r} is not a whole number", f"give one from {least} to {most}")
    return min(max(int(given), least), most)


def whole(body: Mapping[str, Any], name: str, default: int | None) -> int | None:
    """A whole number in a body."""
    value = body.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 53):
        raise UserError(name, "is not a whole number", "send a number")
    return value


def text_in(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text in a body."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise UserError(name, "is not text", "send a text")
    return value


def ids_in(body: Mapping[str, Any], name: str = "ids", most: int = PAGE * 10) -> list[int]:
    """The ids in a body."""
    given = body.get(name)
    if not isinstance(given, list) or len(given) > most:
        raise UserError(name, "is no list of ids", f"send at most {most}")
    return [id_of(one) for one in given]


def id_of(value: Any) -> int:
    """An id as JSON has it: digits in a text, because numbers of JavaScript have 53 bits."""
    text = str(value) if not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 1 << 63):
        raise LabelError(f"id {str(value)[:40]!r}", "is no id", "send ids as they were sent to you")
    return int(text)


def answer_of(given: Mapping[str, Any]) -> Answer:
    """An answer as JSON has it.

    Args:
        given: its object.

    Returns:
        The answer.

    Raises:
        LabelError: a field is of the wrong type, or several kinds of answer are given at once.
    """
    fields: dict[str, Any] = {}
    for name, kind in {"key": str, "label": str, "note": str, "rating": int}.items():
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise LabelError(f"answer: {name}", f"{str(value)[:40]!r} is of another type", f"send {kind.__name__}")
        fields[name] = value
    for name in ("skip", "dispute", "withdraw"):
        fields[name] = given.get(name) is True
    answer = Answer(id=id_of(given.get("id")), **fields)
    said = sum((answer.label is not None, answer.skip, answer.dispute, answer.withdraw))
    if said > 1:
        raise LabelError("answer", "says several things at once", "send a label, a skip, a dispute or a withdrawal")
    if said == 0 and answer.note is None and answer.rating is None:
        raise LabelError("answer", "says nothing", "send a label, a skip, a note or a rating")
    return answer


def packed(request: Request, picture: Packed) -> Response:
    """A picture, or the word that the browser has it already."""
    headers = {"etag": picture.etag, "cache-control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == picture.etag:
        return Response(status_code=304, headers=headers)
    return Response(picture.data, media_type=picture.media_type, headers=headers)
