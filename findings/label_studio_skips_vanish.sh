#!/usr/bin/env bash
# Label Studio: a task that an annotator skipped is in no table. CSV, TSV and JSON_MIN leave it out.
#
# Guess:     every task of a project is a row of its CSV export; one that was skipped is marked, or has an empty answer.
#            (A task that nobody opened does have such a row.)
# Behaviour: CSV, TSV and JSON_MIN have no row for a cancelled annotation, so a task that was only skipped is missing, and
#            nothing tells it from one that was deleted. Only JSON has it, with `was_cancelled`. A program that asks again
#            for what has no answer asks for the skipped tasks for ever.
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


def task(name, *annotations):
    return {"id": 1, "data": {"text": name}, "annotations": list(annotations)}


def annotation(choices, cancelled=False):
    value = {"choices": choices}
    result = [{"from_name": "label", "to_name": "text", "id": "r", "type": "choices", "value": value}] if choices else []
    fields = {"id": 1, "completed_by": 1, "was_cancelled": cancelled, "result": result, "lead_time": 1.0}
    return fields | {"created_at": "", "updated_at": ""}


tasks = [
    task("answered", annotation(["cat"])),
    task("submitted empty", annotation([])),
    task("never opened"),
    task("skipped", annotation([], cancelled=True)),
    task("skipped, then answered by another", annotation([], cancelled=True), annotation(["dog"])),
]
Path("tasks.json").write_text(json.dumps(tasks))
for form in ("CSV", "TSV", "JSON_MIN", "JSON"):
    Converter(CONFIG, ".").convert("tasks.json", form, form, is_dir=False)
rows = {
    "CSV": list(csv.DictReader(open("CSV/result.csv"))),
    "TSV": list(csv.DictReader(open("TSV/result.csv"), delimiter="\t")),
    "JSON_MIN": json.load(open("JSON_MIN/result.json")),
    "JSON": [{"text": one["data"]["text"]} for one in json.load(open("JSON/result.json"))],
}
for name in [task["data"]["text"] for task in tasks]:
    print(f"{name}: {', '.join(form for form in rows if any(row['text'] == name for row in rows[form])) or 'nowhere'}")
PYTHON
)
echo "$seen"
expected="answered: CSV, TSV, JSON_MIN, JSON
submitted empty: CSV, TSV, JSON_MIN, JSON
never opened: CSV, TSV, JSON_MIN, JSON
skipped: JSON
skipped, then answered by another: CSV, TSV, JSON_MIN, JSON"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
