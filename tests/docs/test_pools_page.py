"""The examples of docs/pools.md are what raysal says and does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from changing_sources import ROWS, Bytes, changed, write_folder
from cli_tools import cli, write_vectors
from pages import ROOT, blocks, commands

import raysal
from raysal.embedding.job import embed
from raysal.errors import SourceChanged

PAGE = (ROOT / "docs" / "pools.md").read_text(encoding="utf-8")
LETTERS = tuple(changed(ROWS, place, key=f"{letter}.png")[place] for place, letter in enumerate("abcdef"))
"""Six files, `a.png` to `f.png`."""


def test_the_refusals_are_those_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"^raysal: (pool: .*)$", PAGE, flags=re.MULTILINE)
    less = (*LETTERS[:2], *LETTERS[3:])
    for expected, rows in zip(shown, (less, changed(LETTERS, 1, number=99)), strict=True):
        source = write_folder(tmp_path / "photos", LETTERS)
        pool = tmp_path / expected[:20] / "pool"
        embed(source, Bytes(modality="image"), pool)
        with pytest.raises(SourceChanged) as caught:
            embed(write_folder(tmp_path / "photos", rows), Bytes(modality="image"), pool)
        assert str(caught.value).removeprefix(f"{pool.parent}/") == expected


def test_the_commands_of_the_page_predict_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pq.read_table(write_vectors(tmp_path / "all.parquet", rows=90))
    pq.write_table(rows.slice(0, 60), "train.parquet")
    pq.write_table(rows.slice(60), "rest.parquet")
    (block,) = blocks(PAGE, "console")
    *embeds, predict = (shlex.split(line)[1:] for line in commands(block))
    for words in embeds:
        assert cli(*words).code == 0
    labels = dict(zip(rows["key"].to_pylist()[:20], rows["label"].to_pylist()[:20], strict=True))
    with raysal.Session(tmp_path / "run", "train") as session:
        session.tell(labels)
        session.query(2)
    assert cli(*predict).code == 0


def test_the_name_is_written_alike_everywhere() -> None:
    assert len(set(re.findall(r'(?:--origin |origin = "|origin": ")([\w.-]+)', PAGE)) - {"NAME"}) == 1
