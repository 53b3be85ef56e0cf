#!/usr/bin/env bash
# webdataset: TarWriter never uses its `format`; every member has two more blocks of headers than ustar needs.
#
# Guess:     TarWriter(format=...) writes that format, and without it ustar ("else tarfile.USTAR_FORMAT" in its code): a
#            member of 5 bytes takes 1,024 bytes, one block of header and one of data.
# Behaviour: the format is looked up and dropped. tarfile then writes pax, its default, and as the time of a member is a
#            fraction of a second, each one is preceded by a header and a record of pax: 2,048 bytes for 5. Shards
#            of small members (`cls`, `json`) are up to twice as large, and take twice to three times as long to list.
#            A whole number as `mtime` gives ustar: ShardWriter(..., mtime=0).
# Version:   webdataset 1.0.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check webdataset==1.0.2
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import io
import tarfile

import webdataset as wds

for options in ({}, {"format": "USTAR_FORMAT"}, {"format": "GNU_FORMAT"}, {"mtime": 0}):
    packed = io.BytesIO()
    with wds.TarWriter(packed, **options) as sink:
        for number in range(1000):
            sink.write({"__key__": f"{number:05d}", "txt": "hello"})
    first = tarfile.open(fileobj=io.BytesIO(packed.getvalue())).next()
    print(options, "bytes of a member:", len(packed.getvalue()) // 1000 // 512 * 512, "pax:", list(first.pax_headers))
PYTHON
)
echo "$seen"
expected="{} bytes of a member: 2048 pax: ['mtime']
{'format': 'USTAR_FORMAT'} bytes of a member: 2048 pax: ['mtime']
{'format': 'GNU_FORMAT'} bytes of a member: 2048 pax: ['mtime']
{'mtime': 0} bytes of a member: 1024 pax: []"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
