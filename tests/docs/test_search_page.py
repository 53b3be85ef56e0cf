"""From three examples to the rest of them: the commands of the README and of docs/search.md, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest
from pages import README, blocks, commands
from PIL import Image

from raysal.cli import main
from raysal.rounds.loop import resume
from raysal.rounds.session import Session
from raysal.store import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
RARE = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
SECTIONS = {"search.md": PAGE, "README": README.split("## Search for something rare")[1].split("\n## ")[0]}


def lines_of(section: str) -> list[str]:
    """The first commands of a section; where it has a pool already, the one that makes it, too."""
    lines = commands(blocks(section, "console")[0])
    return lines if lines[0].split()[1] == "embed" else [MAKES_THE_POOL, *lines]


MAKES_THE_POOL = "raysal embed photos --encoder efficientnet_lite0 --out pool"
WAYS = {tuple(lines_of(section)): where for where, section in SECTIONS.items()}
"""{commands: where they are written}: what is written twice is run once."""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty dark pictures, and six with a light half."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in (*RARE, *(f"dark-{i:02d}.jpg" for i in range(60))):
        pixels = rng.integers(0, 90, (48, 48, 3)).astype(np.uint8)
        if name in RARE:
            pixels[:, :24] += 150
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("lines", WAYS, ids=WAYS.values())
def test_three_examples_lead_to_the_rest(
    lines: tuple[str, ...], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [line.split()[1] for line in lines] == ["embed", "find", "serve", "status", "rank", "rank"]
    for line in lines:
        if line.split()[1] == "serve":
            label_two_batches(photos / line.split()[2])
            continue
        assert main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
        if line.split()[1] == "status":
            assert re.search(r"positive [4-6]", capsys.readouterr().out)
    best = pc.read_csv(next((photos / "best").glob("*.csv")))
    assert set(best["key"].to_pylist()[: len(RARE)]) == set(RARE), "whoever is held out is in the ranking, too"
    assert len(list((photos / "best").rglob("*.jpg"))) == 66, "there are no more than these"
    assert (photos / "ranked" / "ranking.json").exists()
    assert "ranking.json" in KINDS


def label_two_batches(run: Path) -> None:
    """What a person does on the page, and the next batch."""
    for number in range(2):
        with Session.open(run) as session:
            keys = session.batch(number).keys
            session.tell({key: "positive" if key in RARE else "negative" for key in keys})
        resume(run)
