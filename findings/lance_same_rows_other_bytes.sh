#!/usr/bin/env bash
# Lance: the same rows written twice by the writer of one file are two files with other bytes, once texts are compressed.
#
# Guess:     LanceFileWriter writes one file under a name that one chooses. It has no time, no random name and no user in
#            it, so the same rows make the same bytes. A small file (here 100 rows) says so.
# Behaviour: a column of some thousand texts is compressed by symbols that Lance learns from a sample of the column, and
#            the sample is another one each time, with one thread, too. So digests of such files can't be compared, and a
#            copy can't be told from a file that was made again. With `lance-encoding:compression: none` in the metadata
#            of the field, or with the file version 2.0, the bytes are always the same. The rows are, in any case.
# Version:   pylance 14.0.2, pyarrow 26.0.1, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pylance==14.0.2 pyarrow==26.0.1 numpy==2.4.6
export LANCE_CPU_THREADS=1 LANCE_IO_THREADS=1
seen=$("$folder/venv/bin/python" - "$folder" <<'PYTHON'
import hashlib
import sys
from pathlib import Path

import pyarrow as pa
from lance.file import LanceFileReader, LanceFileWriter

path = Path(sys.argv[1]) / "rows.lance"


def files(rows, note=None, version=None):
    """How many of five files of the same rows differ in their bytes; and whether they hold the rows."""
    schema = pa.schema([pa.field("text", pa.string(), metadata=note)])
    table = pa.table([[f"folder {i % 7}/{i * 7919 % 10007:x}/picture {i}.jpg" for i in range(rows)]], schema=schema)
    found = set()
    for _ in range(5):
        with LanceFileWriter(str(path), schema, version=version) as writer:
            writer.write_batch(table)
        found.add(hashlib.sha256(path.read_bytes()).hexdigest())
        read = LanceFileReader(str(path)).read_all().to_table()
        assert read["text"].to_pylist() == table["text"].to_pylist()
    return "one" if len(found) == 1 else "several"


print("100 rows:", files(100))
print("4000 rows:", files(4000))
print("4000 rows, not compressed:", files(4000, {"lance-encoding:compression": "none"}))
print("4000 rows, version 2.0:", files(4000, version="2.0"))
PYTHON
)
echo "$seen"
expected="100 rows: one
4000 rows: several
4000 rows, not compressed: one
4000 rows, version 2.0: one"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
