"""Argilla 2: records as `dataset.records.to_json` writes them, and rows as `to_datasets` and `to_list` write them.

The id of a record is the item's key, which Argilla keeps and never changes. Answers name their user by an id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from raysal.errors import LabelError
from raysal.labels.formats.base import (
    KEY,
    POOL,
    PREDICTION,
    QUESTION,
    Format,
    Record,
    Sheet,
    grouped,
    is_skip,
)  # fmt: skip
from raysal.labels.rows import write_objects
from raysal.types import SKIP

RESPONSES = f"{QUESTION}.responses"


class Argilla(Format):
    """Records of Argilla: a question `label`, whose discarded answer is a skip."""

    title: ClassVar[str] = "Argilla"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    columns: ClassVar[tuple[str, ...]] = (RESPONSES, f"{RESPONSES}.users", f"{RESPONSES}.status")

    def claims(self, record: Record) -> bool:
        """A record with its parts inside, or a row with a column of responses."""
        return RESPONSES in record or _is_whole(record)

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """One answer for each user."""
        if _is_whole(record):
            yield from _of_record(where, record)
            return
        values = record[RESPONSES] if record[RESPONSES] is not None else []
        if not len(values):
            yield {**record, QUESTION: None}
            return
        users, states = (record.get(f"{RESPONSES}.{name}") or [None] * len(values) for name in ("users", "status"))
        if not len(values) == len(users) == len(states):
            problem = f"{len(values)} responses of {len(users)} users, with the status of {len(states)}"
            raise LabelError(f"{where}: label", problem, "export the records again")
        for value, user, state in zip(values, users, states, strict=True):
            yield {**record, QUESTION: _answered(value, state), "annotator": user}

    def write(self, path: Path, sheet: Sheet) -> None:
        """Records for `dataset.records.from_json`."""
        write_objects(path, (_record(sheet, row) for row in sheet.rows()))

    def setup(self, out: Path, sheet: Sheet) -> str:
        """The settings of a data set that takes the records."""
        kind = "LabelQuestion" if not sheet.several else "MultiLabelQuestion"
        media = "ImageField" if sheet.modality == "image" else "TextField"
        classes = list(sheet.classes) or ["..."]
        return (
            f'settings = rg.Settings(fields=[rg.{media}(name="{_media(sheet)}")], '
            f'questions=[rg.{kind}(name="{QUESTION}", labels={classes!r})])\n'
            f'dataset = rg.Dataset(name={sheet.name!r}, settings=settings).create()\ndataset.records.from_json("{out}")'
        )


def _is_whole(record: Record) -> bool:
    return isinstance(record.get("fields"), Mapping) and isinstance(record.get("responses"), Mapping)


def _of_record(where: str, record: Record) -> Iterator[Record]:
    metadata = record.get("metadata") or {}
    item = {KEY: metadata.get(KEY, record.get("id")), POOL: metadata.get(POOL)}
    responses: Mapping[str, Sequence[Mapping[str, Any]]] = record["responses"]
    if QUESTION not in responses and len(responses) > 1:
        problem = f"is answered by the questions {', '.join(sorted(responses))}"
        raise LabelError(f"{where}: label", problem, f"name the one to learn from `{QUESTION}`")
    said = responses.get(QUESTION) or next(iter(responses.values()), [])
    if not said:
        yield {**item, QUESTION: None}
    for one in said:
        yield {**item, QUESTION: _answered(one.get("value"), one.get("status")), "annotator": one.get("user_id")}


def _answered(value: Any, state: object) -> Any:
    """What a response says; a draft says nothing yet."""
    return SKIP if state == "discarded" else None if state == "draft" else value


def _media(sheet: Sheet) -> str:
    return "image" if sheet.modality == "image" else "text"


def _record(sheet: Sheet, row: Mapping[str, Any]) -> dict[str, Any]:
    facts = sheet.facts(row)
    shown = row.get("uri") if sheet.modality == "image" else row.get("text")
    answers = grouped(sheet, row["key"])
    for answer in answers:
        if answer.weight != 1:
            problem = f"has the weight {answer.weight:g}, and Argilla has no weights"
            raise LabelError(f"{row['key']!r}: weight", problem, "export to a table, or to Label Studio")
    return {
        "id": row["key"],
        "fields": {_media(sheet): row["key"] if shown is None else shown},
        "metadata": {name: value for name, value in facts.items() if name not in (PREDICTION, "probability")},
        "suggestions": _suggestion(sheet, row),
        "responses": {
            QUESTION: [
                {
                    "value": None if is_skip(answer) else _value(sheet, answer.label),
                    "user_id": answer.annotator,
                    "status": "discarded" if is_skip(answer) else "submitted",
                }
                for answer in answers
            ]
        },
        "vectors": {},
    }


def _suggestion(sheet: Sheet, row: Mapping[str, Any]) -> dict[str, Any]:
    if row.get(PREDICTION) is None:
        return {}
    value, score = _value(sheet, row[PREDICTION]), row.get("probability")
    return {QUESTION: {"value": value, "score": score, "agent": sheet.model}}


def _value(sheet: Sheet, label: str) -> str | list[str]:
    return sheet.names(label) if sheet.several else label
