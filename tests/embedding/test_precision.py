"""The precision of products: another encoder's vectors, near those of float32, and refused where a CPU cannot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli, refused
from small_sources import pictures
from tiers import deep_unless
from tiny_finetuned import write_tiny_model

from raysal.config import Choice
from raysal.embedding import ENCODERS, precision
from raysal.embedding.base import Encoder
from raysal.embedding.custom import Torch
from raysal.embedding.job import embed
from raysal.embedding.precision import MOST_SLOWER, check_precision, computing_in, times_as_long
from raysal.embedding.recorded import encoder_fields
from raysal.errors import ConfigError, FingerprintMismatch
from raysal.pool import Manifest

HALVES = ("bfloat16", "float16")
RELATIVE = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
NAMES = [name for name, cls in ENCODERS.items() if any(f.name == "precision" for f in dataclasses.fields(cls))]
"""The encoders that compute."""
RUN_HERE = ("efficientnet_lite0", "finetuned", "torch")


def built(name: str, tmp_path: Path, **fields: Any) -> Encoder:
    own: dict[str, Any] = {
        "efficientnet_lite0": {"size": 64},
        "torch": {"arg": "tiny_models:weighted", "size": 16},
    }.get(name, {})
    if name == "finetuned":
        own = {"arg": str(tmp_path / "model")}
        if not (tmp_path / "model").exists():
            write_tiny_model(tmp_path / "model", "with_norms")
    return Choice(name=name, **own, **fields).build("encoder", ENCODERS)


def fits(half: str) -> bool:
    return times_as_long(half) <= MOST_SLOWER  # type: ignore[arg-type]


def test_every_encoder_that_computes_can_be_told_its_precision() -> None:
    assert sorted(NAMES) == sorted(set(ENCODERS) - {"precomputed", "waveform"})


@pytest.mark.parametrize("name", deep_unless(["torch"], RUN_HERE))
@pytest.mark.parametrize("half", HALVES)
def test_vectors_are_near_those_of_float32_and_another_encoders(name: str, half: str, tmp_path: Path) -> None:
    if not fits(half):
        pytest.skip(f"this CPU has no instructions for {half}")
    plain, other = built(name, tmp_path), built(name, tmp_path, precision=half)
    assert other.fingerprint() != plain.fingerprint()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 20, 3), dtype=np.uint8)
    one, two = (e.encode([e.prepare(f"k{i}", image) for i, image in enumerate(pixels)]) for e in (plain, other))
    assert two.dtype == np.float32
    assert not np.array_equal(one, two)
    away = np.linalg.norm(one - two, axis=1) / np.linalg.norm(one, axis=1)
    assert 0 < away.max() < 32 * RELATIVE[half]


@pytest.mark.parametrize("name", RUN_HERE)
def test_float32_is_the_encoder_that_it_was(name: str, tmp_path: Path) -> None:
    """Older pools do not know the field: neither name, config nor fingerprint may have it."""
    plain, said = built(name, tmp_path), built(name, tmp_path, precision="float32")
    assert plain.fingerprint() == said.fingerprint()
    assert "precision" not in json.dumps([encoder_fields(plain), plain.preprocessing()])
    other = encoder_fields(built(name, tmp_path, precision="bfloat16"))
    assert other == (encoder_fields(plain)[0], {**encoder_fields(plain)[1], "precision": "bfloat16"})


def test_a_pool_is_not_gone_on_with_in_another_precision(tmp_path: Path) -> None:
    if not fits("bfloat16"):
        pytest.skip("this CPU has no instructions for bfloat16")
    plain = Torch(arg="tiny_models:weighted", size=8)
    other = dataclasses.replace(plain, precision="bfloat16")
    embed(pictures(), other, tmp_path / "pool")
    assert Manifest.read(tmp_path / "pool").encoder["config"]["precision"] == "bfloat16"
    with pytest.raises(FingerprintMismatch):
        embed(pictures(), plain, tmp_path / "pool")
    assert embed(pictures(), other, tmp_path / "pool").embedded == 0


@pytest.mark.parametrize("half", HALVES)
def test_what_a_cpu_has_no_instructions_for_is_refused(half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is moved to both sides of what is measured here."""
    measured = times_as_long(half)
    monkeypatch.setattr(precision, "MOST_SLOWER", measured * 1.001)
    with computing_in(half, "cpu"):
        check_precision(half, "cpu")
    monkeypatch.setattr(precision, "MOST_SLOWER", measured * 0.999)
    with pytest.raises(ConfigError, match=rf"encoder.precision: products of {half} take .* use float32"):
        computing_in(half, "cpu")
    check_precision(half, "cuda")
    check_precision("float32", "cpu")


def test_the_command_takes_it_and_an_encoder_without_it_refuses(tmp_path: Path) -> None:
    values = tmp_path / "vectors.npy"
    np.save(values, np.eye(4, dtype=np.float32))
    refused(cli("embed", values, "--out", tmp_path / "pool", "--precision", "bfloat16"), "encoder.precision", "no such")
