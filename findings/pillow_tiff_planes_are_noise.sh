#!/usr/bin/env bash
# Pillow: an RGB TIFF of 16 bits in planes is read as noise if it is not compressed, and right if it is.
#
# Guess:     compression without loss changes no pixel: the same image with and without it is read alike.
# Behaviour: with PlanarConfiguration 2 and no compression Pillow takes one character of the name of its raw mode for
#            each plane. Of "RGB;16L" these are "R", "G" and "B", which are planes of 8 bits: so every number is read as
#            two pixels of 8 bits, half of each plane is passed over, and no error or warning comes. Compressed files
#            go through libtiff, and are right. With 8 bits both are right.
# Version:   pillow 13.0.0, tifffile 2026.3.3 (the writer, which also reads both right), numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import tifffile
from PIL import Image

colour = (60000, 30000, 1000)
planes = np.stack([np.full((8, 8), value, np.uint16) for value in colour])
for dtype in (np.uint8, np.uint16):
    for compression in (None, "deflate"):
        values = planes if dtype == np.uint16 else (planes >> 8).astype(np.uint8)
        file = io.BytesIO()
        tifffile.imwrite(file, values, photometric="rgb", planarconfig="separate", compression=compression)
        assert np.array_equal(tifffile.imread(io.BytesIO(file.getvalue())), values)  # the file holds the numbers
        pixels = np.asarray(Image.open(io.BytesIO(file.getvalue()))).reshape(-1, 3)
        colours = [tuple(int(value) for value in row) for row in np.unique(pixels, axis=0)]
        print(f"{dtype.__name__}, {compression or 'not compressed'}: one colour is read as {colours}")
PYTHON
)
echo "$seen"
expected="uint8, not compressed: one colour is read as [(234, 117, 3)]
uint8, deflate: one colour is read as [(234, 117, 3)]
uint16, not compressed: one colour is read as [(96, 48, 232), (234, 117, 3)]
uint16, deflate: one colour is read as [(234, 117, 3)]"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
