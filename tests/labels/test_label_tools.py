"""What label tools really write, letter by letter: several annotators, skips, answers that were cleared, odd names.

The files are as the tools' own programs wrote them: label-studio-sdk 2.1.2, argilla 2.8.0, datumaro 1.13.12 (COCO, as
CVAT writes it), fiftyone 1.22.1; and XML of CVAT 2 by its `dump_as_cvat_annotation`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysal.errors import LabelError
from raysal.labels import read_labels
from raysal.types import SKIP


def answers(path: Path) -> list[tuple[str, str, str]]:
    return [(label.key, label.label, label.annotator) for label in read_labels(path).labels]


def result(names: list[str], control: str = "label") -> dict[str, Any]:
    return {"from_name": control, "to_name": "image", "id": "r1", "type": "choices", "value": {"choices": names}}


def annotation(who: Any, *results: Any, cancelled: bool = False) -> dict[str, Any]:
    return {"id": 4, "completed_by": who, "was_cancelled": cancelled, "result": list(results), "lead_time": 1.0}


ANN, BOB = {"id": 7, "email": "ann@lab.org", "first_name": "Ann"}, {"id": 8, "email": "bob@lab.org"}
GUESS = {"model_version": "raysal-1", "score": 0.9, "result": [result(["dog"])]}


def task(key: str, *given: Any) -> dict[str, Any]:
    data = {"image": f"/data/upload/1/abcd1234-{key}.jpg", "raysal_key": key, "raysal_pool": "f" * 64, "rank": 3}
    return {"id": 1, "data": data, "annotations": list(given), "predictions": [GUESS], "inner_id": 5, "drafts": []}


def test_tasks_of_label_studio(tmp_path: Path) -> None:
    note = {"from_name": "note", "to_name": "image", "id": "n", "type": "textarea", "value": {"text": ["odd"]}}
    tasks = [
        task("one", annotation(ANN, result(["cat"]))),
        task("two annotators", annotation(ANN, result(["cat"])), annotation(BOB, result(["dog"]))),
        task("cancelled", annotation(ANN, result(["cat"]), cancelled=True)),
        task("empty", annotation(ANN)),
        task("cleared", annotation(ANN, result([]))),
        task("never opened"),
        task("several controls", annotation(7, note, result(["dog"]))),
        task("skipped by one", annotation(ANN, cancelled=True), annotation(BOB, result(["dog"]))),
        task('od,d "key"\n', annotation(None, result(['a "cat", or\n|'])),),
    ]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    read = read_labels(tmp_path / "t.json")
    assert answers(tmp_path / "t.json") == [
        ("one", "cat", "ann@lab.org"),
        ("two annotators", "cat", "ann@lab.org"),
        ("two annotators", "dog", "bob@lab.org"),
        ("cancelled", SKIP, "ann@lab.org"),
        ("several controls", "dog", "7"),
        ("skipped by one", SKIP, "ann@lab.org"),
        ("skipped by one", "dog", "bob@lab.org"),
        ('od,d "key"\n', 'a "cat", or\n|', ""),
    ]
    assert read.blank == [("empty", "ann@lab.org"), ("cleared", "ann@lab.org"), ("never opened", "")]
    assert read.pools == {"f" * 64}
    assert read.places["one"] == f"{tmp_path / 't.json'}, row 1"


LABEL_STUDIO_CSV = """"annotation_id","annotator","created_at","id","image","label","lead_time","note","rank","raysal_key","raysal_pool","updated_at"
1,"ann@lab.org","",1,"/data/upload/1/abcd1234-one.jpg","cat",1.0,"",3,"one","ffff",""
2,"ann@lab.org","",2,"/data/upload/1/abcd1234-two annotators.jpg","cat",1.0,"",3,"two annotators","ffff",""
3,"bob@lab.org","",2,"/data/upload/1/abcd1234-two annotators.jpg","dog",1.0,"",3,"two annotators","ffff",""
5,"ann@lab.org","",4,"/data/upload/1/abcd1234-empty.jpg","",1.0,"",3,"empty","ffff",""
"","","",5,"/data/upload/1/abcd1234-no annotation.jpg","","","",3,"no annotation","ffff",""
6,"ann@lab.org","",6,"/data/upload/1/abcd1234-with note.jpg","{""choices"":[""cat"",""dog""]}",1.0,"odd, ""one""
line",3,"with note","ffff",""
"""  # noqa: E501


def test_the_table_of_label_studio(tmp_path: Path) -> None:
    """The task "cancelled" was the third of the export: the table does not have it."""
    (tmp_path / "t.csv").write_text(LABEL_STUDIO_CSV)
    assert answers(tmp_path / "t.csv") == [
        ("one", "cat", "ann@lab.org"),
        ("two annotators", "cat", "ann@lab.org"),
        ("two annotators", "dog", "bob@lab.org"),
        ("with note", "cat|dog", "ann@lab.org"),
    ]
    read = read_labels(tmp_path / "t.csv", format="label-studio")
    assert (read.blank, read.pools) == ([("empty", "ann@lab.org"), ("no annotation", "")], {"ffff"})


def test_a_field_of_the_data_is_no_answer(tmp_path: Path) -> None:
    """JSON_MIN gives the data's own `label` where nobody opened the task."""
    row = {"raysal_key": "a", "label": "from the data", "annotator": None, "annotation_id": None, "id": 3}
    (tmp_path / "t.json").write_text(json.dumps([{**row, "annotation_id": 4, "label": "cat"}, row]))
    with pytest.raises(LabelError, match="row 2: label: 'from the data' is a field of the task"):
        read_labels(tmp_path / "t.json")


RECORDS = [
    {"id": "a", "fields": {"text": "t"}, "metadata": {"raysal_key": "a.txt", "raysal_pool": "ffff"}, "vectors": {},
     "suggestions": {"label": {"value": "dog", "score": 0.9, "agent": "raysal-1"}}, "status": "completed",
     "responses": {"label": [{"value": "cat", "user_id": "u-1", "status": "submitted"},
                             {"value": None, "user_id": "u-2", "status": "discarded"},
                             {"value": "dog", "user_id": "u-3", "status": "draft"}]}},
    {"id": "b.txt", "fields": {"text": "t"}, "metadata": {}, "suggestions": {}, "vectors": {}, "_server_id": None,
     "responses": {"label": [{"value": ["cat", "dog"], "user_id": "u-1", "status": "submitted"}],
                   "note": [{"value": "hm", "user_id": "u-1", "status": "submitted"}]}},
    {"id": "c.txt", "fields": {"text": "t"}, "metadata": {}, "suggestions": {}, "vectors": {}, "responses": {}},
]  # fmt: skip


def test_records_of_argilla(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(RECORDS))
    assert answers(path) == [("a.txt", "cat", "u-1"), ("a.txt", SKIP, "u-2"), ("b.txt", "cat|dog", "u-1")]
    assert read_labels(path).blank == [("a.txt", "u-3"), ("c.txt", "")]
    two = {**RECORDS[1], "responses": {"mood": [], "style": []}}
    path.write_text(json.dumps([two]))
    with pytest.raises(LabelError, match="row 1: label: is answered by the questions mood, style"):
        read_labels(path)
    flat = {"id": "a", "raysal_key": "a.txt", "label.responses": ["cat", "dog"], "label.suggestion": "bird",
            "label.responses.users": ["u-1", "u-2"], "label.responses.status": ["submitted", "discarded"]}  # fmt: skip
    path.write_text(json.dumps([flat, {**flat, "raysal_key": "b.txt", "label.responses": None}]))
    assert answers(path) == [("a.txt", "cat", "u-1"), ("a.txt", SKIP, "u-2")]
    path.write_text(json.dumps([{**flat, "label.responses.users": ["u-1"]}]))
    with pytest.raises(LabelError, match="row 1: label: 2 responses of 1 users"):
        read_labels(path)


DATUMARO = {
    "licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": "", "version": ""},
    "categories": [{"id": 1, "name": 'cat, "odd"', "supercategory": ""}, {"id": 2, "name": "dog"}],
    "images": [
        {"id": 2, "width": 8, "height": 6, "file_name": "sub/b.jpg", "license": 0, "coco_url": "", "date_captured": 0},
        {"id": 1, "width": 8, "height": 6, "file_name": "a.jpg", "license": 0, "coco_url": "", "date_captured": 0},
    ],
    "annotations": [{"id": 1, "image_id": 2, "category_id": 1}],
}  # fmt: skip


def test_coco_that_lost_the_fields_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "labels_default.json"
    path.write_text(json.dumps(DATUMARO))
    assert answers(path) == [("sub/b.jpg", 'cat, "odd"', "")]
    assert read_labels(path).blank == [("a.jpg", "")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "annotation 1: a bbox is",
        ),
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 1}]}, "annotation 1: there is no image 9"),
        ({"annotations": [{"id": 1, "image_id": 2, "category_id": 9}]}, "annotation 1: there is no category 9"),
        ({"images": [*DATUMARO["images"], {"id": 2, "file_name": "c.jpg"}]}, "two images have the same id"),  # type: ignore[misc]
        ({"images": [{"id": 2}]}, "key: is empty"),
    ],
)
def test_coco_that_says_no_label_of_a_whole_image(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(DATUMARO | change))
    with pytest.raises(LabelError, match=f"row 1: .*{says}|row 1: {says}"):
        read_labels(tmp_path / "a.json")


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>batch</name><labels><label><name>cat</name></label></labels></task></meta>
  <image id="0" name="sub/b.jpg" width="8" height="6">
    <tag label="cat" source="manual">
    </tag>
  </image>
  <image id="1" name="a.jpg" width="8" height="6">
  </image>
  <image id="2" name="by a model.jpg" width="8" height="6">
    <tag label="dog" source="auto">
    </tag>
  </image>
  <image id="3" name="two &amp; &quot;odd&quot;.jpg" width="8" height="6">
    <tag label="dog" source="manual">
      <attribute name="raysal_annotator">ann</attribute>
    </tag>
    <tag label="cat" source="manual">
      <attribute name="raysal_annotator">bob</attribute>
    </tag>
    <box label="cat" source="manual" occluded="0" xtl="1.00" ytl="1.00" xbr="2.00" ybr="2.00" z_order="0">
    </box>
  </image>
  <image id="4" name="skipped.jpg"><tag label="!skip"></tag></image>
</annotations>
"""


def test_tags_of_cvat(tmp_path: Path) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT)
    odd = 'two & "odd".jpg'
    assert answers(path) == [
        ("sub/b.jpg", "cat", ""), (odd, "dog", "ann"), (odd, "cat", "bob"), ("skipped.jpg", SKIP, ""),
    ]  # fmt: skip
    read = read_labels(path, format="cvat")
    assert read.blank == [("a.jpg", ""), ("by a model.jpg", "")]
    assert read.places["a.jpg"] == f"{path}, line 9"


BOMB = '<!DOCTYPE a [<!ENTITY x "aaaaaaaaaa"><!ENTITY y "&x;&x;&x;">]>\n<annotations><image name="&y;"/></annotations>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('<a>\n<image id="0" name="a.jpg"><box label="cat"/></image>\n</a>', "line 2: label: 'a.jpg' has a box"),
        ('<a>\n<track id="0" label="cat"></track></a>', "line 2: a track is no label"),
        ('<a>\n<image id="0"><tag label="cat"/></image></a>', "line 2: key: is empty"),
        ('<a>\n<image name="a"><tag label="!skip"/><tag label="x"/></image></a>', "line 2: !skip stands beside"),
        ("<annotations>\n<image name=", "line 2: not valid XML"),
        ("key,label\n", "line 1: not valid XML"),
        ("", "not valid XML"),
        (BOMB, "declares entities"),
    ],
)  # fmt: skip
def test_xml_that_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError) as caught:
        read_labels(tmp_path / "a.xml")
    assert says in str(caught.value)


def sample(**more: Any) -> dict[str, Any]:
    return {"filepath": "/d/abcd1234-a.jpg", "tags": [], "metadata": None, "raysal_key": "a.jpg", **more}


def one(name: str, **more: Any) -> dict[str, Any]:
    return {"_id": {"$oid": "6b0c"}, "_cls": "Classification", "tags": [], "label": name, **more}


def test_samples_of_fiftyone(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    many = {"_cls": "Classifications", "classifications": [
        one("cat", raysal_annotator="ann"), one("dog", raysal_annotator="bob", confidence=None),
        one("x", raysal_annotator="ann"),
    ]}  # fmt: skip
    samples = [
        sample(label=one("cat"), prediction=one("dog", confidence=0.9)),
        sample(raysal_key="b.jpg", label=None, prediction=one("dog")),
        sample(raysal_key="c.jpg", label=many),
        sample(raysal_key="d.jpg", ground_truth=one("bird")),
        sample(raysal_key="e.jpg", label={"_cls": "Classifications", "classifications": []}),
    ]
    path.write_text(json.dumps({"samples": samples}))
    assert answers(path) == [
        ("a.jpg", "cat", ""), ("c.jpg", "cat|x", "ann"), ("c.jpg", "dog", "bob"), ("d.jpg", "bird", ""),
    ]  # fmt: skip
    assert read_labels(path).blank == [("b.jpg", ""), ("e.jpg", "")]
    for wrong, says in (
        (sample(raysal_key=None, label=one("cat")), "sample 1: '/d/abcd1234-a.jpg' has no raysal_key"),
        (sample(label={"_cls": "Detections", "detections": []}), "sample 1: label: a Detections is no label"),
    ):
        path.write_text(json.dumps({"samples": [wrong]}))
        with pytest.raises(LabelError) as caught:
            read_labels(path)
        assert says in str(caught.value)
