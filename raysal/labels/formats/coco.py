"""COCO: JSON of images, categories, and annotations that say a category of a whole image.

Tools that read COCO and write it again keep `file_name`, and mostly drop every other field of a user (Datumaro 1.13,
which CVAT uses, does). So `file_name` is the key, to the letter, unless `raysal_key` is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from raysal.errors import LabelError
from raysal.labels.formats.base import (
    ANNOTATOR,
    KEY,
    POOL,
    QUESTION,
    WEIGHT,
    Format,
    Record,
    Sheet,
    by_annotator,
    grouped,
    kept,
)  # fmt: skip
from raysal.store import dumps

SHAPES = ("bbox", "segmentation", "keypoints")
PARTS = ("images", "annotations", "categories")


class Coco(Format):
    """Images with categories of the whole image. Boxes, masks and key points are no such labels."""

    title: ClassVar[str] = "COCO"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def claims(self, record: Record) -> bool:
        """An object with images, annotations and categories."""
        return all(isinstance(record.get(part), list) for part in PARTS)

    def answers(self, where: str, record: Record) -> Iterator[Record]:
        """The categories of each image: one answer for each annotator."""
        names = {category.get("id"): category.get("name") for category in record["categories"]}
        said: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {image.get("id"): [] for image in record["images"]}
        if len(said) < len(record["images"]):
            raise LabelError(f"{where}: images", "two images have the same id", "give each image an id of its own")
        for place, annotation in enumerate(record["annotations"], 1):
            here = f"{where}: annotation {place}"
            if shape := next((name for name in SHAPES if annotation.get(name)), None):
                raise LabelError(here, f"a {shape} is no label of the whole image", "write annotations without it")
            if annotation.get("image_id") not in said:
                raise LabelError(here, f"there is no image {annotation.get('image_id')!r}", "correct its image_id")
            if names.get(annotation.get("category_id")) is None:
                problem = f"there is no category {annotation.get('category_id')!r}"
                raise LabelError(here, problem, "correct its category_id")
            fields = {name: annotation.get(name) for name in (ANNOTATOR, WEIGHT)}
            said[annotation["image_id"]].append((names[annotation["category_id"]], fields))
        pool = (record.get("info") or {}).get(POOL)
        for place, image in enumerate(record["images"], 1):
            item = {KEY: image.get(KEY, image.get("file_name")), POOL: image.get(POOL, pool)}
            if not said[image.get("id")]:
                yield {**item, QUESTION: None}
            rows = by_annotator(f"{where}: image {place}", said[image.get("id")])
            yield from ({**item, **row} for row in rows)

    def write(self, path: Path, sheet: Sheet) -> None:
        """Images in the order of the sheet, with the categories that people gave, and predictions as fields of images.

        Memory for the annotations.

        Raises:
            LabelError: an answer says that the item has none of the labels.
        """
        answered = {name for answers in sheet.answers.values() for a in answers for name in sheet.names(a.label)}
        names = sorted({*sheet.classes, *answered})
        number = {name: place for place, name in enumerate(names, 1)}
        annotations: list[dict[str, Any]] = []
        with open(path, "w", encoding="utf-8", newline="") as file:
            info = {"description": sheet.name, POOL: sheet.pool or None}
            file.write(f'{{"info": {dumps(info)},\n"licenses": [],\n"images": [')
            for place, row in enumerate(sheet.rows(), 1):
                image = {"id": place, "file_name": row["key"], **sheet.facts(row)}
                file.write(("," if place > 1 else "") + "\n" + dumps(image))
                for answer in grouped(sheet, row["key"]):
                    if not sheet.names(answer.label):
                        problem = "says none of the labels, which COCO cannot hold"
                        raise LabelError(f"{answer.key!r}: label", problem, "use a table")
                    for name in sheet.names(answer.label):
                        own = {"id": len(annotations) + 1, "image_id": place, "category_id": number[name]}
                        annotations.append(own | kept(answer))
            categories = [{"id": number[name], "name": name, "supercategory": ""} for name in names]
            for part, entries in (("annotations", annotations), ("categories", categories)):
                file.write(f'\n],\n"{part}": [' + ",".join("\n" + dumps(entry) for entry in entries))
            file.write("\n]}\n")
