"""Label Studio: tasks with predictions, and its exports JSON, JSON_MIN, CSV and TSV.

The key travels in `data.raysal_key`. Every export keeps `data`, whatever name an uploaded file gets. Facts that are
easy to miss (label-studio-sdk 2.1.2; `findings/label_studio_skips_vanish.sh`, `findings/label_studio_choices.sh`):

- CSV, TSV and JSON_MIN leave out cancelled annotations. Only JSON says which items were skipped.
- JSON_MIN mixes data and answers: a field `label` of the data stands where nobody answered
  (`findings/label_studio_data_field_as_answer.sh`), and `id` of the data is lost.
- An import refuses an annotation by an e-mail or a number that is no user there. Therefore the name of an annotator
  that is no e-mail travels in a field of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

from raysal.errors import LabelError
from raysal.labels.formats.base import (
    ANNOTATOR,
    KEY,
    POOL,
    PREDICTION,
    QUESTION,
    WEIGHT,
    Format,
    Record,
    Sheet,
    grouped,
    is_skip,
    kept,
    remark_fields,
)  # fmt: skip
from raysal.labels.rows import write_objects
from raysal.types import NONE, SKIP, Label

REMARKS = "raysal_remarks"
"""What of `meta` holds the notes and ratings of annotators."""
OWN = "annotation_id"
"""The column that every flat export has."""


class LabelStudio(Format):
    """Tasks of Label Studio, and its flat exports. A cancelled annotation is a skip."""

    title: ClassVar[str] = "Label Studio"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    remarks: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = (OWN,)

    def claims(self, record: Record) -> bool:
        """A task with all that annotators said of it, or a row of a flat export."""
        return is_task(record) or OWN in record

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """One answer for each annotation, or none yet; of a flat export the row itself."""
        if not is_task(record):
            if record.get(OWN) in (None, "") and record.get(QUESTION):
                problem = f"{record[QUESTION]!r} is a field of the task, and no answer: nobody annotated it"
                raise LabelError(
                    f"{where}: label", problem, "export the project as JSON, or rename that field of the data"
                )
            yield record
            return
        data = record["data"]
        item = {name: data[name] for name in (KEY, POOL, "key") if name in data}
        for annotation in record["annotations"] or [{}]:
            yield {**item, **answer_of(where, annotation)}

    def write(self, path: Path, sheet: Sheet) -> None:
        """Tasks to import, in the order of the sheet."""
        write_objects(path, (task_of(sheet, row) for row in sheet.rows()))

    def setup(self, out: Path, sheet: Sheet) -> str:  # noqa: ARG002
        """The labeling config of the project."""
        return labeling_config(sheet)


def is_task(record: Record) -> bool:
    """Whether an object is a task with all that annotators said of it."""
    return isinstance(record.get("annotations"), list) and isinstance(record.get("data"), Mapping)


def answer_of(where: str, annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What one annotation says.

    Args:
        where: names the task in an error.
        annotation: as Label Studio exports it, and sends it to webhooks.

    Returns:
        Label, annotator and weight.

    Raises:
        LabelError: it has several controls, and none of them is called `label`.
    """
    by = annotation.get("completed_by")
    who = (by.get("email") or by.get("id")) if isinstance(by, Mapping) else by
    results = annotation.get("result") or []
    controls = sorted({str(result.get("from_name")) for result in results})
    if len(controls) > 1 and QUESTION not in controls:
        problem = f"is answered by the controls {', '.join(controls)}"
        raise LabelError(f"{where}: label", problem, f"name the one to learn from `{QUESTION}`")
    chosen = [result for result in results if len(controls) == 1 or result.get("from_name") == QUESTION]
    label: Any = SKIP if annotation.get("was_cancelled") else [result.get("value") for result in chosen]
    return {QUESTION: label, "annotator": annotation.get(ANNOTATOR, who), "weight": annotation.get(WEIGHT)}


def task_of(sheet: Sheet, row: Mapping[str, Any]) -> dict[str, Any]:
    """An item as a task to import.

    Args:
        sheet: that the row is of.
        row: of `Sheet.rows`.

    Returns:
        The task: its data, what the head predicts, and what annotators said: notes and ratings in `meta`, which Label
        Studio keeps with the task.
    """
    shown = row.get("text") if media_of(sheet) == "text" else row.get("uri")
    task: dict[str, Any] = {"data": {media_of(sheet): row["key"] if shown is None else shown, **sheet.facts(row)}}
    if row.get(PREDICTION) is not None:
        task["predictions"] = [prediction_of(sheet, row[PREDICTION], row.get("probability"))]
    if remarks := sheet.remarks.get(row["key"]):
        said = [{ANNOTATOR: who, **remark_fields(remark)} for who, remark in sorted(remarks.items())]
        task["meta"] = {REMARKS: [{name: value for name, value in each.items() if value is not None} for each in said]}
    task["annotations"] = [_annotation(sheet, answer) for answer in grouped(sheet, row["key"])]
    return task


def prediction_of(sheet: Sheet, label: str, probability: float | None) -> dict[str, Any]:
    """What a head predicts, as Label Studio takes it of tasks and of ML backends.

    Args:
        sheet: says how labels are read, and which head it is.
        label: the text of the label.
        probability: of it, where it has one.

    Returns:
        The prediction.
    """
    prediction = {"model_version": sheet.model, "result": _results(sheet, label)}
    return prediction if probability is None else {**prediction, "score": probability}


def media_of(sheet: Sheet) -> str:
    """The field of the data that is shown, and the tag that shows it: `image`, `audio` or `text`."""
    return {"image": "image", "sound": "audio"}.get(sheet.modality, "text")


def labeling_config(sheet: Sheet) -> str:
    """The config of a project that shows the tasks of a sheet, and answers as raysal reads.

    Args:
        sheet: the items.

    Returns:
        XML.
    """
    media = media_of(sheet)
    several = ' choice="multiple"' if sheet.several else ""
    choices = "".join(f"\n    <Choice value={quoteattr(name)}/>" for name in sheet.classes)
    return (
        f'<View>\n  <{media.title()} name="{media}" value="${media}"/>\n'
        f'  <Choices name="{QUESTION}" toName="{media}"{several}>{choices}\n  </Choices>\n</View>'
    )


def _annotation(sheet: Sheet, answer: Label) -> dict[str, Any]:
    known = "@" in answer.annotator
    fields = {"completed_by": {"email": answer.annotator}} if known else {}
    own = {name: value for name, value in kept(answer).items() if not (known and name == ANNOTATOR)}
    results = [] if is_skip(answer) else _results(sheet, answer.label)
    return {"result": results, "was_cancelled": is_skip(answer), **fields, **own}


def _results(sheet: Sheet, label: str) -> list[dict[str, Any]]:
    value = {"choices": sheet.names(label) or [NONE]}
    return [{"from_name": QUESTION, "to_name": media_of(sheet), "type": "choices", "value": value}]
