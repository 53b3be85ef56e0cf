#!/usr/bin/env bash
# Label Studio: JSON_MIN gives a field of the task's own data as the answer, where an annotator gave none.
#
# Guess:     the field of a control in JSON_MIN is what annotators said. Where one of them chose nothing it is missing, or
#            empty, whatever the task's data hold.
# Behaviour: data and answers are one flat object. If the data have a field of the control's name (a label that a model
#            or an older project gave), it stays there under that name where the annotator submitted nothing, or nobody
#            opened the task: an answer that nobody gave. CSV keeps the two apart (`_data_label`). The other way round
#            for `id`: JSON_MIN replaces the data's own by the number of the task, CSV keeps the data's own.
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

CONFIG = """<View><Text name="text" value="$text"/>
<Choices name="label" toName="text"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


def task(name, *choices):
    data = {"text": name, "label": "from the data", "id": "own id"}
    value = {"choices": list(choices)}
    result = [{"from_name": "label", "to_name": "text", "id": "r", "type": "choices", "value": value}] if choices else []
    annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": result, "lead_time": 1.0}
    return {"id": 7, "data": data, "annotations": [annotation | {"created_at": "", "updated_at": ""}]}


tasks = [task("answered", "cat"), task("submitted empty"), task("never opened") | {"annotations": []}]
Path("tasks.json").write_text(json.dumps(tasks))
for form in ("CSV", "JSON_MIN"):
    Converter(CONFIG, ".").convert("tasks.json", form, form, is_dir=False)
table = {row["text"]: row for row in csv.DictReader(open("CSV/result.csv"))}
objects = {row["text"]: row for row in json.load(open("JSON_MIN/result.json"))}
for name in table:
    print(f"{name}: JSON_MIN {objects[name].get('label')!r}, CSV {table[name]['label']!r}")
print(f"id: JSON_MIN {objects['answered']['id']!r}, CSV {table['answered']['id']!r}")
PYTHON
)
echo "$seen"
expected="answered: JSON_MIN 'cat', CSV 'cat'
submitted empty: JSON_MIN 'from the data', CSV ''
never opened: JSON_MIN 'from the data', CSV ''
id: JSON_MIN 7, CSV 'own id'"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
