"""Texts from a file to a pool, with an encoder of the test's own: the extra `text` is not needed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pool_files import bytes_of

from raysal.embedding import sentence
from raysal.embedding.decode import check_text
from raysal.embedding.job import embed
from raysal.embedding.torch_model import fingerprint_of
from raysal.errors import QuarantineExceeded
from raysal.pool import open_pool
from raysal.sources import detect_source
from raysal.sources.text import Text
from raysal.store import digest_of

EMPTY = {3, 10, 24}
TEXTS = [
    "" if i == 3 else " \n\t" if i in EMPTY else f'Sentence {i}, "quoted",\nwith a second line: {"äλ中🙂"[i % 4]}'
    for i in range(25)
]
KEYS = [f"topic/{i:02}" for i in range(25)]
LABELS = [("law", "music", "")[i % 3] for i in range(25)]
GOOD = [i for i in range(25) if i not in EMPTY]


@dataclass(frozen=True, kw_only=True)
class Characters:
    """How often the characters of a text fall into each of `dim` bins: whole numbers, exact in float16."""

    dim: int = 16

    @property
    def modality(self) -> Literal["text"]:
        return "text"

    def preprocessing(self) -> Mapping[str, Any]:
        return {"bin": "code point modulo dim"}

    def fingerprint(self) -> str:
        return digest_of({"dim": self.dim, "preprocessing": dict(self.preprocessing())})

    def prepare(self, key: str, payload: Any) -> str:
        return check_text(key, payload)

    def encode(self, prepared: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.counts(text) for text in prepared])

    def counts(self, text: str) -> NDArray[np.float32]:
        return np.bincount([ord(c) % self.dim for c in text], minlength=self.dim).astype(np.float32)


@pytest.fixture(params=["csv", "jsonl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"texts.{request.param}"
    rows = [{"key": k, "text": t, "label": y} for k, t, y in zip(KEYS, TEXTS, LABELS, strict=True)]
    with path.open("w", encoding="utf-8", newline="") as out:
        if request.param == "csv":
            writer = csv.DictWriter(out, ["key", "text", "label"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(("chunk_rows", "batch_size"), [(0, 64), (7, 1), (7, 3)])
def test_keys_labels_and_vectors_of_a_text_file(file: Path, tmp_path: Path, chunk_rows: int, batch_size: int) -> None:
    source = detect_source(str(file), carry=("label",))
    assert isinstance(source, Text)
    out, encoder = tmp_path / "pool", Characters()
    report = embed(source, encoder, out, chunk_rows=chunk_rows, batch_size=batch_size, max_quarantine=0.2)
    assert (report.items, report.quarantined, report.chunks) == (25, 3, 4 if chunk_rows else 1)
    pool = open_pool(out)
    pool.verify()
    assert pool.manifest.modality == "text"
    rows = [row for table in pool.items() for row in table.to_pylist()]
    assert [(row["id"], row["key"], row["label"]) for row in rows] == [(i, KEYS[i], LABELS[i]) for i in GOOD]
    vectors = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    assert np.array_equal(vectors, np.stack([encoder.counts(TEXTS[i]) for i in GOOD]))


def test_an_empty_text_is_quarantined_with_the_reason(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "pool"
    with pytest.raises(QuarantineExceeded) as caught:
        embed(Text(path=file), Characters(), out, chunk_rows=7)
    assert (caught.value.quarantined, caught.value.items) == (3, 25)
    lost = [row for chunk in open_pool(out).chunks for row in chunk.quarantine().to_pylist()]
    expected = [(i, KEYS[i], "decode", "empty text") for i in sorted(EMPTY)]
    assert [(row["id"], row["key"], row["stage"], row["error"]) for row in lost] == expected


def test_an_interrupted_job_goes_on_to_the_same_bytes(file: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 14:
            raise KeyboardInterrupt

    source, options = Text(path=file, carry=("label",)), {"chunk_rows": 7, "max_quarantine": 0.2}
    out, whole = tmp_path / "pool", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        embed(source, Characters(), out, report=interrupt, **options)
    report = embed(source, Characters(), out, **options)
    assert (report.resumed, report.embedded, report.quarantined) == (2, 11, 3)
    embed(source, Characters(), whole, **options)
    assert bytes_of(out) == bytes_of(whole)


class AnyText(list[torch.nn.Module]):
    """Stands for a model that takes any text, as `StaticEmbedding` of sentence-transformers, which is not installed."""

    def __init__(self, longest: float) -> None:
        super().__init__([torch.nn.Identity()])
        self.max_seq_length = longest

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"table": torch.ones(2)}


@pytest.mark.parametrize(("longest", "said"), [(math.inf, None), (256, 256), (256.0, 256), (None, None)])
def test_the_longest_text_is_json_and_its_fingerprint_stays(
    longest: float, said: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AnyText(longest)
    monkeypatch.setattr(sentence, "load_model", lambda name, device: model)
    encoder = sentence.Sentence(arg=f"any-{longest!r}")
    known = encoder.preprocessing()
    assert known["longest"] == said
    json.dumps(known, allow_nan=False)
    before = {"tokenizer": "the model's own", "longest": longest, "steps": [["Identity", {}]]}
    assert encoder.fingerprint() == fingerprint_of(model, before)  # type: ignore[arg-type]
