#!/usr/bin/env bash
# Pillow: a registered suffix need not be one that Pillow can open.
#
# Guess:     Image.registered_extensions() lists the suffixes of the images that Image.open() reads.
# Behaviour: it lists what can be saved, too: .pdf, .mpo and .palm name formats without a reader. (An .mpo file opens as
#            JPEG.) Others have a reader that needs a program or a handler from elsewhere: .eps, .wmf, .h5, .grib. And
#            .mpg is opened, for its size, with no pixels in it. So a list of images made from it takes in documents and
#            films, and depends on the version: 13.0.0 has .avif, 10.4.0 has not.
# Version:   pillow 13.0.0 and 10.4.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 10.4.0 13.0.0; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pillow==$version"
  "$folder/venv/bin/python" - <<'PYTHON'
import PIL
from PIL import Image

suffixes = Image.registered_extensions()
unread = sorted(suffix for suffix, form in suffixes.items() if form not in Image.OPEN)
print(PIL.__version__, "no reader:", *unread, "| .mpg:", suffixes[".mpg"] in Image.OPEN, "| .avif:", ".avif" in suffixes)
PYTHON
done | tee "$folder/seen"
expected="10.4.0 no reader: .mpo .palm .pdf | .mpg: True | .avif: False
13.0.0 no reader: .mpo .palm .pdf | .mpg: True | .avif: True"
[ "$(cat "$folder/seen")" = "$expected" ] || { echo "this has changed"; exit 1; }
