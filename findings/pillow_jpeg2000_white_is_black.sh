#!/usr/bin/env bash
# Pillow: in a JPEG 2000 in colour with more than 8 bits, white is read as black.
#
# Guess:     decoding 12 bits to 8 keeps the order of brightness: white of 12 bits (4095) is white of 8 bits (255).
# Behaviour: the largest numbers become 0, without an error or a warning. Pillow rounds to 8 bits by adding half a step
#            before it shifts, and 255.5 steps and more wrap around. It concerns every file of several bands with more
#            than 8 bits, such as scans, slides of microscopes and satellite scenes: their brightest spots become black.
#            Files of one band, and of 8 bits, are right. So: read the depth in the header before you trust the pixels.
# Version:   pillow 13.0.0, imagecodecs 2026.3.6 (the writer; OpenJPEG reads its files right), numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import io

import imagecodecs
import numpy as np
from PIL import Image

for bits, bands in ((8, 3), (12, 1), (12, 3), (16, 3)):
    full = 2**bits - 1
    row = np.array([0, full // 2, full - full // 300, full], np.uint8 if bits == 8 else np.uint16)  # black to white
    image = np.repeat(np.repeat(row, 8)[None], 32, axis=0)
    image = image if bands == 1 else np.dstack([image] * bands)
    file = imagecodecs.jpeg2k_encode(image, codecformat="jp2", bitspersample=bits, reversible=True, level=0)
    assert np.array_equal(imagecodecs.jpeg2k_decode(file), image)  # the file holds the numbers
    read = np.asarray(Image.open(io.BytesIO(file)))
    shades = read[0, ::8] if bands == 1 else read[0, ::8, 0]
    print(f"{bits} bits, {bands} band(s): {' '.join(map(str, row))} is read as {' '.join(map(str, shades))}")
PYTHON
)
echo "$seen"
expected="8 bits, 3 band(s): 0 127 255 255 is read as 0 127 255 255
12 bits, 1 band(s): 0 2047 4082 4095 is read as 0 32752 65312 65520
12 bits, 3 band(s): 0 2047 4082 4095 is read as 0 128 255 0
16 bits, 3 band(s): 0 32767 65317 65535 is read as 0 128 255 0"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
