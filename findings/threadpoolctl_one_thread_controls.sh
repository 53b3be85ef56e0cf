#!/usr/bin/env bash
# threadpoolctl: a limit on the threads of OpenBLAS that a second Python thread asks for is ignored without a word.
#
# Guess:     `with threadpool_limits(1)` holds in whatever thread it stands; at worst, as OpenBLAS has one number for the
#            whole process, the last one to set it wins.
# Behaviour: the first thread that sets a limit is the "controlling thread": while it is inside its block, or for as long
#            as it lives if it called `set_num_threads`, the same calls in all other threads do nothing. There is no error
#            and no warning, and BLAS takes as many threads as before. A server whose main thread once set a number can
#            set none in its requests. What helps: read the number back, or call `clear_controlling_thread(force=True)`.
# Version:   threadpoolctl 3.8.0, numpy 2.4.6 with its OpenBLAS (pthreads)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check threadpoolctl==3.8.0 numpy==2.4.6
seen=$(OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" - <<'PYTHON'
import threading

import numpy  # noqa: F401  (it loads OpenBLAS)
from threadpoolctl import ThreadpoolController, threadpool_limits

(blas,) = ThreadpoolController().select(user_api="blas").lib_controllers


def limited(where: str) -> None:
    with threadpool_limits(1, user_api="blas"):
        print(f"{where}: {blas.num_threads}")


def in_a_thread(where: str) -> None:
    thread = threading.Thread(target=limited, args=(where,))
    thread.start()
    thread.join()


in_a_thread("a thread, before another one set a limit")
blas.set_num_threads(2)
in_a_thread("a thread, after the main thread set a number")
type(blas).clear_controlling_thread(force=True)
in_a_thread("a thread, after control was cleared")
with threadpool_limits(2, user_api="blas"):
    in_a_thread("a thread, while the main thread is in a block")
PYTHON
)
echo "$seen"
expected="a thread, before another one set a limit: 1
a thread, after the main thread set a number: 2
a thread, after control was cleared: 1
a thread, while the main thread is in a block: 2"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
