"""configs/curate.toml as it is shipped, on the demo's pictures with planted copies, rotations and blanks."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import cli
from numpy.typing import NDArray
from PIL import Image
from planted_images import Planted, plant_images
from tiers import deep

import raysal
from raysal.curation.curated import Curated
from raysal.curation.plan import parse_plan, plan_of

CONFIG = Path(__file__).parents[2] / "configs" / "curate.toml"
FASHION = Path("/usr/share/datasets/fashion-mnist")


def digits(count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """What the demo falls back to, large enough to be turned by some degrees."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images[:count] * 15.9).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in images]
    return np.stack(large), [f"digit-{name}" for name in found.target[:count]]


def fashion(count: int) -> tuple[NDArray[np.uint8], list[str]]:
    """What the demo runs on."""
    if not FASHION.is_dir():
        pytest.skip("no Fashion-MNIST here")
    pixels = gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes())
    classes = gzip.decompress((FASHION / "t10k-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    return images, [f"class-{name}" for name in np.frombuffer(classes, np.uint8, offset=8)[:count]]


def curated(tmp_path: Path, planted: Planted, encoder: str, *more: object) -> tuple[Curated, dict[str, Any], str]:
    """The result, and both forms of the report of the command."""
    words = ("embed", planted.folder, "--encoder", encoder, "--out", tmp_path / "pool", "--measure", "all", *more)
    assert cli(*words).code == 0
    words = ("curate", tmp_path / "pool", "--config", CONFIG)
    done = cli(*words, "-o", tmp_path / "kept.parquet", "--report", tmp_path / "report", "--json")
    assert done.code == 0
    found = raysal.curate(tmp_path / "pool", config=CONFIG)
    assert all(step.resumed for step in found.steps)
    report = tmp_path / "report"
    return found, json.loads((report / "curation.json").read_text()), (report / "curation.html").read_text("utf-8")


def shown_in(data: dict[str, Any]) -> set[str]:
    """The keys of all items that a report shows as dropped."""
    return {one["key"] for step in data["steps"] for group in step["examples"] for one in group["dropped"]}


def test_the_steps_that_are_commented_out_are_steps() -> None:
    text = re.sub(r"^# (\[\[steps\]\]|[a-z]+ = .*)$", r"\1", CONFIG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    steps = plan_of(parse_plan(tomllib.loads(text)).steps)
    assert [step.label for step in steps] == ["filter", "check", "exact", "near", "balance", "core"]


def test_planted_items_are_dropped_by_their_step_and_the_report_shows_them(tmp_path: Path) -> None:
    planted = plant_images(tmp_path / "images", *digits(150), each=4)
    encoder = "torch:correlating_encoder:build"
    found, data, page = curated(tmp_path, planted, encoder, "--size", 32, "--check", "hash")
    rows = {row["key"]: row for row in found.table("all").to_pylist()}
    assert [rows[key]["step"] for key in planted.blanks] == ["filter"] * 4
    assert [rows[key]["step"] for key in planted.copies] == ["exact"] * 4
    assert {rows[key]["step"] for key in (*planted.changed, *planted.rotations)} == {"near"}
    exact, near = (next(step for step in found.steps if step.label == name) for name in ("exact", "near"))
    ids = found.pool.ids_of([*rows])
    for step, made in ((exact, planted.copies), (near, {**planted.changed, **planted.rotations})):
        nearest = dict(zip(step.result.ids.tolist(), step.result.nearest.tolist(), strict=True))
        value = dict(zip(step.result.ids.tolist(), step.result.value.tolist(), strict=True))
        of_original = [nearest[ids[key]] == ids[original] for key, original in made.items()]
        assert sum(of_original) >= len(made) - 1  # another original may be nearer
        assert min(value[ids[key]] for key in made) >= 0.95
    assert abs(found.kept - found.steps[3].left / 2) <= 1
    shown = shown_in(data)
    assert {*planted.planted, *planted.blanks} <= shown
    assert page.count('src="data:image/png') > len(shown)
    for word in ("filter", "exact", "near", "balance", "Map", "kept"):
        assert word in page


@deep
def test_with_the_encoder_and_the_pictures_of_the_demo(tmp_path: Path) -> None:
    planted = plant_images(tmp_path / "images", *fashion(400), each=10, degrees=2.0)
    found, data, _ = curated(tmp_path, planted, "efficientnet_lite0", "--size", 64, "--check", "hash")
    rows = {row["key"]: row for row in found.table("all").to_pylist()}
    assert [rows[key]["step"] for key in planted.blanks] == ["filter"] * 10
    assert [rows[key]["step"] for key in planted.copies] == ["exact"] * 10
    near = [rows[key]["step"] == "near" for key in (*planted.changed, *planted.rotations)]
    assert sum(near) >= 14
    assert {*planted.copies, *planted.blanks} <= shown_in(data)
