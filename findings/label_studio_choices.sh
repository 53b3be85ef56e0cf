#!/usr/bin/env bash
# Label Studio: the column of one control changes its type from row to row, by how many choices an annotator made.
#
# Guess:     a control with choice="multiple" is exported alike for each item: as a list, or as text with a mark between
#            names. So the cells of the column are the classes.
# Behaviour: in CSV and JSON_MIN one choice is the bare name, two are an object, and none is an object too, or a blank
#            cell (in JSON_MIN no entry at all) if nothing was ever clicked. A rating of 4 is a list of an object. So a
#            program that takes the cells as classes is right until the first item with two of them; then a piece of
#            JSON is one more class.
# Version:   label-studio-sdk 2.1.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
seen=$(cd "$folder" && "$folder/venv/bin/python" - 2> /dev/null <<'PYTHON'
import csv
import json
from pathlib import Path

from label_studio_sdk.converter import Converter

CONFIG = """<View><Text name="text" value="$text"/><Rating name="stars" toName="text"/>
<Choices name="label" toName="text" choice="multiple"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


def task(name, control=None, kind=None, **value):
    result = [{"from_name": control, "to_name": "text", "id": "r", "type": kind, "value": value}] if control else []
    annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": result, "lead_time": 1.0}
    return {"id": 1, "data": {"text": name}, "annotations": [annotation | {"created_at": "", "updated_at": ""}]}


tasks = [
    task("one choice", "label", "choices", choices=["cat"]),
    task("two choices", "label", "choices", choices=["cat", "dog"]),
    task("choices cleared", "label", "choices", choices=[]),
    task("never clicked"),
    task("a rating", "stars", "rating", rating=4),
]
Path("tasks.json").write_text(json.dumps(tasks))
for form in ("CSV", "JSON_MIN"):
    Converter(CONFIG, ".").convert("tasks.json", form, form, is_dir=False)
table = {row["text"]: row for row in csv.DictReader(open("CSV/result.csv"))}
objects = {row["text"]: row for row in json.load(open("JSON_MIN/result.json"))}
for name in [task["data"]["text"] for task in tasks]:
    control = "stars" if name == "a rating" else "label"
    print(f"{name}: {table[name][control]!r}, {objects[name].get(control, 'no entry')!r}")
PYTHON
)
echo "$seen"
expected="one choice: 'cat', 'cat'
two choices: '{\"choices\":[\"cat\",\"dog\"]}', {'choices': ['cat', 'dog']}
choices cleared: '{\"choices\":[]}', {'choices': []}
never clicked: '', 'no entry'
a rating: '[{\"rating\":4}]', [{'rating': 4}]"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
