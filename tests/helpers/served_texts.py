"""A run over hostile texts: keys, texts, carried values and class names that would be markup if anybody let them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import raysal
from raysal.rounds.session import Session
from raysal.sources.text import Text
from raysal.store import digest_of

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
CLASSES = (f"yes {EVIL}", '"><svg onload=alert(3)>')


@dataclass(frozen=True, kw_only=True)
class Letters:
    """An encoder of texts: how often each of eight letters is in it, [8]."""

    @property
    def modality(self) -> str:
        return "text"

    @property
    def dim(self) -> int:
        return 8

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"encoder": "letters"})

    def prepare(self, key: str, payload: object) -> NDArray[np.float32]:
        return np.array([str(payload).count(letter) + 0.1 for letter in "abcdefgh"], np.float32)

    def encode(self, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack(batch)


def hostile_run(folder: Path, count: int = 40) -> Path:
    """A run in `folder / "run"`: two items are labelled, and a batch waits."""
    texts = [f"{EVIL} {'abc'[i % 3] * 9} & <b>bold</b>\n" * 40 for i in range(count)]
    rows = [{"key": f"{i:03d} {EVIL}'", "text": text, "note": EVIL} for i, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raysal.embed(Text(path=folder / "texts.jsonl", carry=("note",)), Letters(), out=folder / "pool")  # type: ignore[arg-type]
    fields: dict[str, Any] = {"target": (CLASSES[0],), "select": "margin", "start": "random", "rounds": {"k": 8}}
    with Session(folder / "run", folder / "pool", fleet={"backend": "local"}, **fields) as session:
        session.tell({rows[0]["key"]: CLASSES[0], rows[1]["key"]: CLASSES[1]})
        session.query(8)
    return folder / "run"
