"""FiftyOne: a data set as JSON, as `dataset.write_json` writes it and `fo.Dataset.from_json` reads it.

The key travels in the field `raysal_key` of a sample. `samples.json` of an exported `FiftyOneDataset` is read, too.
What people label is the field `label`: a Classification, or Classifications where an item has several answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from raysal.errors import LabelError
from raysal.labels.formats.base import (
    FACTS,
    KEY,
    POOL,
    PREDICTION,
    QUESTION,
    Format,
    Record,
    Sheet,
    by_annotator,
    grouped,
    kept,
)  # fmt: skip
from raysal.store import dumps
from raysal.types import Label

GROUND_TRUTH = "ground_truth"
"""The name that FiftyOne's own importers give to labels."""
ONE, MANY = "Classification", "Classifications"
_TYPES = {"key": "StringField", "rank": "IntField", "score": "FloatField", "reason": "StringField"}


class FiftyOne(Format):
    """Samples with classifications. Detections and the like are no labels of the whole item."""

    title: ClassVar[str] = "FiftyOne"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def claims(self, record: Record) -> bool:
        """An object with samples."""
        return isinstance(record.get("samples"), list)

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """The classifications of each sample: one answer for each annotator."""
        for place, sample in enumerate(record["samples"], 1):
            here = f"{where}: sample {place}"
            if sample.get(KEY) is None:
                problem = f"{sample.get('filepath')!r} has no {KEY}, so that its item is not known"
                raise LabelError(here, problem, "give each sample its item's key in that field")
            item = {KEY: sample[KEY], POOL: sample.get(POOL)}
            said = list(_said(here, sample))
            if not said:
                yield {**item, QUESTION: None}
            yield from ({**item, **row} for row in by_annotator(here, said))

    def write(self, path: Path, sheet: Sheet) -> None:
        """Samples in the order of the sheet."""
        known = {key: grouped(sheet, key) for key in sheet.answers}
        many = sheet.several or any(len(answers) > 1 for answers in known.values())
        document = "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.{})"
        fields = {"filepath": "fiftyone.core.fields.StringField", **_own_fields(sheet)}
        fields |= {QUESTION: document.format(MANY if many else ONE)}
        fields |= {PREDICTION: document.format(ONE)} if sheet.model else {}
        media = sheet.modality if sheet.modality == "image" else "unknown"
        head: dict[str, Any] = {"name": sheet.name, "media_type": media, "sample_fields": fields}
        head |= {"info": {POOL: sheet.pool or None}, "default_classes": list(sheet.classes)}
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(dumps(head)[:-1] + ', "samples": [')
            for place, row in enumerate(sheet.rows()):
                file.write(("," if place else "") + "\n" + dumps(_sample(sheet, row, known.get(row["key"], []), many)))
            file.write("\n]}\n")

    def setup(self, out: Path, sheet: Sheet) -> str:  # noqa: ARG002
        """How to open it."""
        return f'dataset = fo.Dataset.from_json("{out}")'


def _said(where: str, sample: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The names that a sample has, with the fields of each."""
    held = sample.get(QUESTION) if sample.get(QUESTION) is not None else sample.get(GROUND_TRUTH)
    if held is None:
        return
    if isinstance(held, str):
        yield held, {}
        return
    kind = held.get("_cls") if isinstance(held, Mapping) else None
    if kind not in (ONE, MANY):
        what = kind or type(held).__name__
        raise LabelError(f"{where}: label", f"a {what} is no label of the whole item", "use classifications")
    for one in held.get("classifications") or [] if kind == MANY else [held]:
        if one.get("label") is not None:
            yield one["label"], one


def _sample(sheet: Sheet, row: Mapping[str, Any], answers: list[Label], many: bool) -> dict[str, Any]:
    uri = row.get("uri")
    sample: dict[str, Any] = {"filepath": row["key"] if uri is None else uri, "tags": [], "metadata": None}
    sample["_media_type"] = sheet.modality if sheet.modality == "image" else "unknown"
    facts = sheet.facts(row)
    sample |= {name: facts.get(name) for name in _own_fields(sheet)}
    if row.get(PREDICTION) is not None:
        sample[PREDICTION] = _one(row[PREDICTION]) | {"confidence": row.get("probability")}
    named = [(name, answer) for answer in answers for name in sheet.names(answer.label)]
    if len({answer.annotator for _, answer in named}) < len(answers):
        problem = "says none of the labels, which FiftyOne cannot hold"
        raise LabelError(f"{row['key']!r}: label", problem, "use a table")
    ones = [_one(name) | kept(answer) for name, answer in named]
    sample[QUESTION] = (ones[0] if ones else None) if not many else {"_cls": MANY, "classifications": ones}
    return sample


def _one(name: str) -> dict[str, Any]:
    return {"_cls": ONE, "tags": [], "label": name}


def _own_fields(sheet: Sheet) -> dict[str, str]:
    """Name and type of the plain fields of each sample."""
    columns = {KEY: "key", POOL: "key", **{fact: fact for fact in FACTS}}
    return {
        name: f"fiftyone.core.fields.{_TYPES[column]}"
        for name, column in columns.items()
        if column in sheet.schema.names
    }
