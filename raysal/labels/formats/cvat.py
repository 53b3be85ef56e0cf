"""CVAT for images 1.1: XML with an `image` for each item, and a `tag` for each label of the whole image.

CVAT keeps the name of an image, and nothing else of the user. So the name is the key, to the letter; a name that is no
key of the pool is named in an error. The file does not say who gave a tag: all answers are by one annotator without a
name, unless the label has a text attribute `raysal_annotator`.

CVAT matches an import by name; where it finds no such name it takes the number of the image as the number of a frame
(`match_dm_item` of CVAT 2). Therefore the numbers here begin where no task has frames: a name that CVAT does not have
is an error there, and never a tag on another image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape, quoteattr

from raysal.errors import LabelError
from raysal.labels.formats.base import KEY, POOL, QUESTION, Format, Record, Sheet, by_annotator, grouped, kept
from raysal.labels.rows import ELEMENT, XML
from raysal.store import dumps
from raysal.types import Label

NO_FRAME = 1_000_000_000
"""Number of the first image: larger than that of any frame."""
MODEL = "auto"
"""The source of tags that a model gave in CVAT."""


class Cvat(Format):
    """Images with tags. Boxes and other shapes are no labels of the whole image."""

    title: ClassVar[str] = "CVAT"
    suffixes: ClassVar[tuple[str, ...]] = (XML,)

    def claims(self, record: Record) -> bool:
        """An element of `annotations`."""
        return ELEMENT in record and "children" in record

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """The tags of an image: one answer for each annotator; tags that a model gave say nothing yet."""
        if record[ELEMENT] == "track":
            raise LabelError(where, "a track is no label of a whole image", "export the task as `CVAT for images 1.1`")
        if record[ELEMENT] != "image":
            return
        attributes, children = record["attributes"], record["children"]
        item = {KEY: attributes.get("name"), POOL: attributes.get(POOL)}
        tags = [child for child in children if child[ELEMENT] == "tag"]
        shapes = sorted({child[ELEMENT] for child in children if child[ELEMENT] != "tag"})
        if shapes and not tags:
            problem = f"{attributes.get('name')!r} has a {shapes[0]}, which is no label of the whole image"
            raise LabelError(f"{where}: label", problem, "label images by tags")
        said = [
            (child["attributes"].get("label"), _fields(child)) for child in tags
            if child["attributes"].get("source") != MODEL
        ]  # fmt: skip
        if not said:
            yield {**item, QUESTION: None}
        yield from ({**item, **row} for row in by_annotator(where, said))

    def write(self, path: Path, sheet: Sheet) -> None:
        """Images in the order of the sheet, with the tags that people gave. CVAT has no place for predictions."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
            file.write(_meta(sheet))
            for place, row in enumerate(sheet.rows()):
                facts = {"id": NO_FRAME + place, "name": _written(row["key"]), **sheet.facts(row)}
                del facts[KEY]
                file.write(f"  <image{_attributes(facts)}>\n")
                file.writelines(_tags(sheet, answer) for answer in grouped(sheet, row["key"]))
                file.write("  </image>\n")
            file.write("</annotations>\n")

    def setup(self, out: Path, sheet: Sheet) -> str:  # noqa: ARG002
        """The labels of the task, for the raw editor of CVAT."""
        attribute = {"name": "raysal_annotator", "input_type": "text", "mutable": False, "values": [""]}
        labels = [dumps({"name": name, "type": "tag", "attributes": [attribute]}) for name in sheet.classes]
        return f"[{', '.join(labels)}]"


def _fields(tag: Mapping[str, Any]) -> dict[str, str]:
    """The attributes that people gave a tag, by name, without empty ones."""
    own = (child for child in tag["children"] if child[ELEMENT] == "attribute")
    return {child["attributes"].get("name", ""): child["text"] for child in own if child["text"]}


def _meta(sheet: Sheet) -> str:
    names = "".join(f"        <label><name>{escape(_written(name))}</name></label>\n" for name in sheet.classes)
    task = f"      <name>{escape(_written(sheet.name))}</name>\n      <labels>\n{names}      </labels>\n"
    return f"  <meta>\n    <task>\n{task}    </task>\n  </meta>\n"


def _tags(sheet: Sheet, answer: Label) -> str:
    own = "".join(
        f'      <attribute name="{name}">{_quoted(value)[1:-1]}</attribute>\n' for name, value in kept(answer).items()
    )
    if sheet.several and not sheet.names(answer.label):
        raise LabelError(f"{answer.key!r}: label", "says none of the labels, which CVAT cannot hold", "use a table")
    return "".join(
        f'    <tag label={_quoted(name)} source="manual">\n{own}    </tag>\n' for name in sheet.names(answer.label)
    )


def _attributes(values: Mapping[str, Any]) -> str:
    return "".join(f" {name}={_quoted(value)}" for name, value in values.items())


def _quoted(value: Any) -> str:
    """A value of an attribute. XML reads bare tabs and line ends as blanks, and cannot hold other control letters."""
    return quoteattr(_written(str(value)), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _written(text: str) -> str:
    for letter in text:
        if (ord(letter) < 32 and letter not in "\t\n\r") or letter in "\ufffe\uffff":
            raise LabelError(repr(text), f"has the letter {letter!r}, which XML cannot hold", "export to a table")
    return text
