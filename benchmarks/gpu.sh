#!/usr/bin/env bash
# What raysal does on a GPU, in about ten minutes: embed, sweep, exact anchors, BADGE and k-center on resident vectors.
#
#   bash benchmarks/gpu.sh [--rows N] [--minutes M] [...]      what benchmarks/gpu.py takes
#
# Needs Linux, a torch that sees the GPU, 8 GB of disk in TMPDIR and 16 GB of memory. Neither Ray nor FAISS.
#   PYTHON   the interpreter; default: .venv/bin/python where `make setup` made it, else python3
#   WHEELS   a folder of wheels of what that interpreter lacks, for a machine without a network
#   OUT      where gpu.json goes; default: build/gpu
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
out=${OUT:-build/gpu}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$WHEELS"/*.whl
  PYTHONPATH=$PYTHONPATH:$site
fi
mkdir -p "$out"
"$python" -m benchmarks.gpu --out "$out" "$@" 2>&1 | tee "$out/gpu.log"
