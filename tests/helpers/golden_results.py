"""Results that a change of layout or wording must leave as they are: picks, scores, heads, a run directory, `--json`.

    PYTHONPATH=tests/helpers python -m golden_results  # writes tests/golden.json anew

Every entry has `same`, what no machine may change, and `bits`, a digest of every byte, which holds on processors of
the kind it was recorded on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from cases import PAIRS, Case, make_case
from pools import make_pool, mixture
from programs import local

from raysal.cli import main
from raysal.config import Choice
from raysal.models.head import Head
from raysal.models.online.update import update
from raysal.models.trainers import TRAINERS
from raysal.models.trainers.base import TrainingData
from raysal.narrowing import NARROWERS
from raysal.pool import Pool
from raysal.rounds.session import Session
from raysal.scoring.registry import SCORES
from raysal.strategies import SELECTORS

RECORDED = Path(__file__).parents[1] / "golden.json"
Entry = dict[str, Any]


def processor() -> str:
    """What decides the last bits of a matrix product: the instructions that torch and NumPy use."""
    blas = f"openblas {os.environ.get('OPENBLAS_CORETYPE', 'own')}, MKL_CBWR {os.environ.get('MKL_CBWR', 'none')}"
    return f"torch {torch.backends.cpu.get_cpu_capability()}, {blas}"


def digest(*parts: bytes | str) -> str:
    """16 hex digits of everything, in order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
    return whole.hexdigest()[:16]


def digits(values: Any) -> list[float]:
    """Numbers to five digits: what no kernel changes."""
    return [float(f"{value:.5g}") for value in np.asarray(values, np.float64).ravel().tolist()]


def outcome_of(case: Case, pool: Pool, selector: Any, narrower: Any) -> Entry:
    outcome = case.run(local(pool, 2), selector, narrower)
    picks, narrowed, found = outcome.picks, outcome.candidates, outcome.found
    ids = b"" if narrowed.ids is None else np.sort(narrowed.ids).tobytes()
    tops = [array.tobytes() for name in sorted(found.top) for array in found.top[name]]
    return {
        "same": {"ids": picks.ids.tolist(), "scores": digits(picks.scores), "rule": narrowed.rule},
        "bits": digest(
            picks.ids.tobytes(),
            picks.scores.tobytes(),
            "\n".join(picks.reasons),
            ids,
            found.class_counts.tobytes(),
            *tops,
        ),
    }


def picks_and_scores(folder: Path) -> Iterator[tuple[str, Entry]]:
    """Every pair that the laws use, and every score."""
    case = make_case(720, 33)
    pool = case.pool(folder / "pool", 64)
    for selector, narrower in PAIRS:
        yield f"pick {selector} {narrower}", outcome_of(case, pool, selector, narrower)
    for score in sorted(SCORES):
        selector, narrower = SELECTORS["top_score"](score=score), NARROWERS["top_score"](score=score, size=60)
        yield f"score {score}", outcome_of(case, pool, selector, narrower)


def head_entry(head: Head) -> Entry:
    return {
        "same": {"classes": list(head.classes), "mean": digits(np.abs(head.mean).sum(axis=1))},
        "bits": head.digest()[:16],
    }


def heads() -> Iterator[tuple[str, Entry]]:
    """A head of every trainer, and what twenty labels in closed form make of it."""
    x, names = mixture(120, 9, classes=3)
    for name in sorted(TRAINERS):
        asked = {"custom": "custom:user_trainers:centroids"}.get(name, name)
        trainer = Choice(name=asked).build("update.trainer", TRAINERS)
        numbers = trainer.likelihood.name == "identity"
        labels = [text.removeprefix("class-") if numbers else text for text in names]
        head = trainer.fit(
            TrainingData(
                features=x[:100],
                labels=labels[:100],
                classes=[] if numbers else sorted(set(labels)),
                encoder="e",
                version=1,
                seed=5,
            )
        )
        yield f"head {name}", head_entry(head)
        if head.hidden_layer is None and name not in ("bootstrap", "mc_dropout", "custom"):
            later = update(head, x[100:], labels[100:], np.ones(20), ledger_seq=20)
            yield f"update {name}", head_entry(later)


def runs(folder: Path) -> Iterator[tuple[str, Entry]]:
    """Every file of two runs with closed-form updates, with a narrower that remembers, and with a control arm."""
    x, names = mixture(400, 12, classes=4)
    pool = make_pool(folder / "run-pool", x, chunk_rows=130, labels=names, missing=[5, 77])
    kinds: dict[str, dict[str, Any]] = {
        "badge": {"select": "badge", "update": {"mode": "laplace"}},
        "seals": {"select": "class_balanced:top_score", "narrow": {"name": "seals", "neighbours": 9}},
    }
    for kind, fields in kinds.items():
        where = folder / kind
        with Session(where, pool, oracle="simulated", seed=3, rounds={"holdout": 0.2}, **fields) as session:
            for _ in range(3):
                session.ask_oracle(session.query(12))
            session.finish()
        yield from directory(f"run {kind}", where, folder)


def directory(name: str, where: Path, folder: Path) -> Iterator[tuple[str, Entry]]:
    """Every file but the ledger, whose bytes tell the time, without what tells the time or the place."""
    for path in sorted(where.rglob("*")):
        if not path.is_file() or path.suffix == ".sqlite" or "sqlite-" in path.name:
            continue
        relative = path.relative_to(where).as_posix()
        if path.suffix == ".json":
            record = plain(json.loads(path.read_text(encoding="utf-8")), folder)
            fields = {field: value for field, value in record.items() if not isinstance(value, str | float | dict)}
            yield f"{name} {relative}", {"same": fields, "bits": digest(json.dumps(record, sort_keys=True))}
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            if "changed_ns" in table.column_names:  # the times of the source's files
                table = table.drop_columns(["changed_ns"])
            same = {"columns": table.column_names, "rows": table.num_rows}
            yield f"{name} {relative}", {"same": same, "bits": digest(repr(table.to_pydict()))}
        else:
            yield f"{name} {relative}", {"same": {"bytes": path.stat().st_size}, "bits": digest(path.read_bytes())}


def plain(value: Any, folder: Path) -> Any:
    """A JSON value without what tells the time, the place, or the machine."""
    if isinstance(value, dict):
        gone = {"seconds", "sha256", "items_per_second", "age_s", "built"}
        if "files" in value and "digest" in value:  # the stamp of a source, which is of its times
            gone.add("digest")
        return {key: plain(inner, folder) for key, inner in value.items() if key not in gone}
    if isinstance(value, list):
        return [plain(inner, folder) for inner in value]
    return value.replace(str(folder), "FOLDER") if isinstance(value, str) else value


def commands(folder: Path) -> Iterator[tuple[str, Entry]]:
    """What commands print with `--json`, in an order in which each has what it needs."""
    x, names = mixture(200, 8, classes=3)
    keys = [f"item-{row:04d}" for row in range(200)]
    table = pa.table({"key": keys, "vector": pa.array(list(x.astype(np.float32))), "label": names})
    source, pool, run = folder / "items.parquet", folder / "cli-pool", folder / "cli-run"
    pq.write_table(table, source)
    labels = folder / "labels.csv"
    labels.write_text("key,label\n" + "".join(f"{k},{n}\n" for k, n in zip(keys[:30], names[:30], strict=True)))
    config = folder / "run.toml"
    config.write_text(
        f'pool = "{pool}"\nselect = "badge"\noracle = "simulated"\n'
        '[fleet]\nbackend = "local"\n[rounds]\ncount = 2\nk = 15\nholdout = 0.2\ncontrol = true\n'
    )
    told = folder / "told"
    for words in (
        ["embed", source, "--out", pool, "--backend", "local", "--carry", "label"],
        ["pool", "info", pool],
        ["select", pool, "-k", "7"],
        ["select", pool, "-k", "7", "--labels", labels, "--strategy", "class_balanced:badge", "-o", folder / "b.csv"],
        ["label", "import", told, labels, "--pool", pool],
        ["status", told],
        ["select", pool, "-k", "5", "--labels", told, "--strategy", "top_score"],
        ["config", "validate", config],
        ["run", config, "--out", run],
        ["status", run],
        ["resume", run],
        ["predict", pool, "--run", run, "--out", folder / "predicted"],
        ["index", "build", pool, "--kind", "flat"],
        ["index", "info", pool],
        ["index", "search", pool, "--key", "item-0003", "-k", "6"],
        ["select", pool, "-k", "0"],
        ["select", pool, "-k", "5", "--strategy", "bagde"],
        ["status", folder / "nowhere"],
    ):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main([*map(str, words), "--json"])
        found = plain(json.loads(out.getvalue()), folder)
        name = " ".join(str(word).replace(f"{folder}/", "") for word in words)
        same = {"code": code, "fields": sorted(found)}
        yield f"json {name}", {"same": same, "bits": digest(json.dumps(found, sort_keys=True))}
    for where in ("cli-pool", "cli-run", "predicted"):
        yield from directory(where, folder / where, folder)


def results() -> dict[str, Entry]:
    """Everything, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return dict([*picks_and_scores(folder), *heads(), *runs(folder), *commands(folder)])


def write() -> None:
    found = results()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name], sort_keys=True)}" for name in sorted(found))
    text = f'{{"processor": {json.dumps(processor())},\n"results": {{\n{lines}\n}}}}\n'
    RECORDED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
