#!/usr/bin/env bash
# pyarrow: a tensor column gives the numbers below its nulls back as data, though it refuses a tensor that is null.
#
# Guess:     to_numpy_ndarray() of a FixedShapeTensorArray refuses what NumPy cannot hold: it raises an error where a
#            tensor is null ("contains nulls"). So without an error nothing was missing.
# Behaviour: only whole tensors count. A null inside of a tensor passes, and the number in its place is whatever lies in
#            the buffer. A masked array of NumPy makes the round trip look right: from_numpy_ndarray() takes the mask in
#            as nulls, the column says so (None), and to_numpy_ndarray() and to_tensor() then return the masked numbers.
#            So: ask `array.storage.flatten().null_count` before, or read a tensor as a list.
# Version:   pyarrow 26.0.1, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pyarrow as pa

pixels = np.ma.array([[[1.0, -999.0], [3.0, 4.0]]], mask=[[[False, True], [False, False]]])  # one tensor [2, 2]
tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
print("in the column:", tensors.storage.to_pylist(), "null tensors:", tensors.null_count)
print("to_numpy_ndarray:", tensors.to_numpy_ndarray().tolist())
print("to_tensor:", tensors.to_tensor().to_numpy().tolist())
null = pa.ExtensionArray.from_storage(tensors.type, pa.array([None], tensors.type.storage_type))
try:
    null.to_numpy_ndarray()
except pa.ArrowInvalid:
    print("a null tensor: ArrowInvalid")
PYTHON
)
echo "$seen"
expected="in the column: [[1.0, None, 3.0, 4.0]] null tensors: 0
to_numpy_ndarray: [[[1.0, -999.0], [3.0, 4.0]]]
to_tensor: [[[1.0, -999.0], [3.0, 4.0]]]
a null tensor: ArrowInvalid"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
