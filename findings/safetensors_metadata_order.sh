#!/usr/bin/env bash
# safetensors: the same tensors with the same metadata give different files from one save to the next.
#
# Guess:     save() is a function of its arguments. Two saves of one model are equal files, so a sha256 of the file
#            names the model, and a copy can be found by it.
# Behaviour: with two or more metadata entries the header lists them in an order that changes from save to save, inside
#            one process too. The tensors are laid out in a fixed order; with one entry of metadata, or none, all saves
#            are equal. So: put all metadata into one entry (a JSON string), or take the digest of the content.
# Version:   safetensors 0.8.0, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from safetensors.numpy import load, save

tensors = {name: np.arange(4, dtype=np.float32) for name in ("weight", "bias", "scale")}
for entries in (0, 1, 3):
    metadata = {f"key{number}": "value" for number in range(entries)}
    files = [save(tensors, metadata) for _ in range(200)]
    contents = {tuple((name, load(file)[name].tobytes()) for name in sorted(tensors)) for file in files}
    print(f"{entries} entries: {'equal' if len(set(files)) == 1 else 'different'} files, {len(contents)} content")
PYTHON
)
echo "$seen"
expected="0 entries: equal files, 1 content
1 entries: equal files, 1 content
3 entries: different files, 1 content"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
