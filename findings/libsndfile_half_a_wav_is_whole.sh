#!/usr/bin/env bash
# soundfile: half of a .wav file is read as a whole, shorter sound, without an error.
#
# Guess:     the head of a .wav file says how long its data is. A file that was cut short, as by a download that broke,
#            is refused, as one of FLAC is.
# Behaviour: libsndfile takes what is there for the length, for WAV and AIFF. `frames` is that of the cut file, too, so
#            to compare it with what was read shows nothing. Of MP3, `frames` is that of the head, and fewer are read.
#            FLAC is refused. So: compare the length that the head says (bytes 4 to 8, plus 8) with that of the file.
# Version:   soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import soundfile

noise = np.random.default_rng(0).uniform(-0.4, 0.4, 60000).astype(np.float32)
for kind in ("WAV", "AIFF", "MP3", "FLAC"):
    whole = io.BytesIO()
    soundfile.write(whole, noise, 16000, format=kind)
    half = io.BytesIO(whole.getvalue()[: whole.getbuffer().nbytes // 2])
    try:
        with soundfile.SoundFile(half) as file:
            said, read = file.frames, len(file.read())
            print(f"{kind}: {'as many' if said == read else 'fewer'} frames read as said, {'less' if said < 60000 else 'not less'} than the whole")
    except soundfile.SoundFileError:
        print(f"{kind}: refused")
PYTHON
)
echo "$seen"
expected="WAV: as many frames read as said, less than the whole
AIFF: as many frames read as said, less than the whole
MP3: fewer frames read as said, not less than the whole
FLAC: refused"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
