#!/usr/bin/env bash
# Python: os.scandir's is_dir() and is_file() raise an error for a link that leads to itself.
#
# Guess:     is_dir() answers yes or no, as os.path.isdir() does. A walk through folders needs no error handling for it.
# Behaviour: the documentation says that is_dir() catches FileNotFoundError. It catches nothing else. A link to itself
#            (or one into a folder that may not be entered) raises OSError, and one such link ends the listing of a whole
#            folder. os.path.isdir() and pathlib answer no.
# Version:   Python 3.11 to 3.13
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s circle.png "$folder/circle.png"
seen=$(python3 - "$folder" <<'PYTHON'
import os
import sys

(entry,) = os.scandir(sys.argv[1])
for question in (entry.is_dir, entry.is_file):
    try:
        print(question.__name__, question())
    except OSError as error:
        print(question.__name__, "raises", error.strerror)
print("os.path.isdir", os.path.isdir(entry.path))
PYTHON
)
echo "$seen"
expected="is_dir raises Too many levels of symbolic links
is_file raises Too many levels of symbolic links
os.path.isdir False"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
