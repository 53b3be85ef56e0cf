#!/usr/bin/env bash
# astropy: pixels without a value (BLANK) are NaN in a signed FITS image, and ordinary numbers in an unsigned one.
#
# Guess:     BLANK says which stored number stands for "no value". astropy gives NaN there, as for signed images.
# Behaviour: if BZERO makes the numbers unsigned (how FITS stores uint16, and what most cameras write), BLANK is passed
#            over without a warning: the pixel without a value becomes the number BLANK + BZERO, which often is the
#            darkest or brightest possible. So: compare with BLANK + BZERO yourself, or open the file with uint=False,
#            which gives float32 with NaN.
# Version:   astropy 8.0.2, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import io
import warnings

import numpy as np
from astropy.io import fits

warnings.simplefilter("error")
stored = np.array([[-32768, 5, 32767]], np.int16)  # the first one stands for "no value"
for zero in (0, 1, 32768):
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = -32768
    if zero:
        hdu.header["BZERO"] = zero
    file = hdu.header.tostring().encode() + stored.astype(">i2").tobytes().ljust(2880, b"\0")
    for uint in (True, False):
        with fits.open(io.BytesIO(file), uint=uint) as opened:
            data = opened[0].data
            print(f"BZERO {zero}, uint={uint}: {data.dtype.name} {' '.join(f'{value:g}' for value in data[0])}")
PYTHON
)
echo "$seen"
expected="BZERO 0, uint=True: float32 nan 5 32767
BZERO 0, uint=False: float32 nan 5 32767
BZERO 1, uint=True: float32 nan 6 32768
BZERO 1, uint=False: float32 nan 6 32768
BZERO 32768, uint=True: uint16 0 32773 65535
BZERO 32768, uint=False: float32 nan 32773 65535"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
