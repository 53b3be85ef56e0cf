"""Label tools, as far as a file goes: they answer by fields of their own, in another order, lose and double items."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

Truth = Mapping[str, str]
"""The label of each key. Who gives it is called `ann`."""


def _mixed(items: list[Any], rng: random.Random) -> list[Any]:
    """Shuffled, without a tenth, and a twentieth twice."""
    rng.shuffle(items)
    left = items[len(items) // 10 :]
    return [*left, *left[: len(left) // 20 + 1]]


def _label_studio(text: str, rng: random.Random, truth: Truth) -> str:
    tasks = json.loads(text)
    mixed = _mixed(tasks, rng)
    for number, task in enumerate(mixed):
        task["id"] = 1000 + number
        task["data"]["text"] = f"/data/upload/1/{rng.randrange(16**8):08x}-file.jpg"
        result = {"from_name": "label", "to_name": "text", "type": "choices"}
        label = truth[task["data"]["raysal_key"]]
        task["annotations"] = [
            {"id": number, "completed_by": {"id": 3, "email": "ann"}, "was_cancelled": False,
             "result": [{**result, "value": {"choices": [label]}}]}
        ]  # fmt: skip
    return json.dumps(mixed)


def _cvat(text: str, rng: random.Random, truth: Truth) -> str:
    images = re.findall(r"  <image .*?</image>\n", text, flags=re.DOTALL)
    mixed = []
    for image in _mixed(images, rng):
        name = re.search(r' name=("[^"]*"|\'[^\']*\')', image)
        assert name is not None
        plain = name[1][1:-1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
        label = truth[plain].replace("<", "&lt;").replace('"', "&quot;")
        mixed.append(f'<image id="{len(mixed)}" name={name[1]} width="1"><tag label="{label}" source="manual">'
                     '<attribute name="raysal_annotator">ann</attribute></tag></image>\n')  # fmt: skip
    return f"<annotations><version>1.1</version><meta/>{''.join(mixed)}</annotations>"


def _coco(text: str, rng: random.Random, truth: Truth) -> str:
    """As Datumaro writes it: without a field of ours."""
    found = json.loads(text)
    kept = dict.fromkeys(image["file_name"] for image in _mixed(found["images"], rng))
    number = {name: place for place, name in enumerate(sorted(set(truth.values())), 5)}
    images = [{"id": 100 + place, "file_name": name} for place, name in enumerate(kept)]
    notes = [{"id": i["id"], "image_id": i["id"], "category_id": number[truth[i["file_name"]]]} for i in images]
    categories = [{"id": place, "name": name} for name, place in number.items()]
    notes = [{**note, "raysal_annotator": "ann"} for note in notes]
    return json.dumps({"images": images, "annotations": [*notes, *notes[:2]], "categories": categories})


def _fiftyone(text: str, rng: random.Random, truth: Truth) -> str:
    found = json.loads(text)
    samples = _mixed(found["samples"], rng)
    for sample in samples:
        sample["filepath"] = f"/renamed/{rng.randrange(10**6)}.jpg"
        name = truth[sample["raysal_key"]]
        sample["label"] = {"_cls": "Classification", "label": name, "raysal_annotator": "ann"}
    return json.dumps({**found, "samples": samples})


def _argilla(text: str, rng: random.Random, truth: Truth) -> str:
    records = _mixed(json.loads(text), rng)
    for record in records:
        said = {"value": truth[record["id"]], "user_id": "ann", "status": "submitted"}
        record |= {"responses": {"label": [said]}, "_server_id": str(rng.random())}
    return json.dumps(records)


def _table(text: str, rng: random.Random, truth: Truth) -> str:
    rows = _mixed(json.loads(text), rng)
    return json.dumps([{**row, "uri": "elsewhere", "label": truth[row["key"]], "annotator": "ann"} for row in rows])


TOOLS: Mapping[str, Callable[[str, random.Random, Truth], str]] = {
    "argilla": _argilla, "coco": _coco, "cvat": _cvat, "fiftyone": _fiftyone, "label_studio": _label_studio,
    "table": _table,
}  # fmt: skip
