"""Pictures that lie in the folder of a training are read again if and only if they are those that are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raysal.embedding.backbone import Backbone
from raysal.embedding.rendering import Rendering
from raysal.finetuning.pictures import INDEX, gather_pictures
from raysal.sources.folder import Folder

KEYS = ["2.jpg", "0.jpg", "1.jpg"]
BACKBONE = Backbone(name="none", module=torch.nn.Identity(), size=8, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for at in range(3):
        Image.fromarray(rng.integers(255, size=(160, 200, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{at}.jpg")
    return tmp_path / "photos"


def gathered(photos: Path, work: Path, keys: list[str] = KEYS, **changes: Any) -> tuple[list[Any], str]:
    work.mkdir(exist_ok=True)
    found = gather_pictures(Folder(path=photos), keys, replace(BACKBONE, **changes), work, 1)
    return [found.pixels[: len(keys)].tolist(), found.kept, found.lost], (work / INDEX).read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"size": 6},
        {"fast": True},
        {"rendering": Rendering(channels=("red",))},
        {"keys": KEYS[:2]},
        {"keys": KEYS[::-1]},
    ],
    ids=str,
)
def test_what_was_seen_otherwise_is_not_taken_for_them(photos: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    gathered(photos, tmp_path / "used")
    assert gathered(photos, tmp_path / "used", **change) == gathered(photos, tmp_path / "fresh", **change)


def test_the_same_are_not_decoded_again(photos: Path, tmp_path: Path) -> None:
    first = gathered(photos, tmp_path / "work")
    for path in photos.iterdir():
        Image.new("RGB", (20, 16)).save(path)
    assert gathered(photos, tmp_path / "work") == first
    assert gathered(photos, tmp_path / "other") != first
