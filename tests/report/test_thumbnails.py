"""Items of batches are read again from their source, and what is wrong with it is said."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pools import make_pool

from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.pool import Manifest, Pool, open_pool
from raysal.report.batches import Batches, Pick, batches_section
from raysal.report.records import Answers, Arm
from raysal.report.thumbnails import THUMBNAIL_PIXELS, Gallery, read_gallery
from raysal.sources import SOURCES
from raysal.sources.memory import Memory


def decoded(uri: str) -> Image.Image:
    head, content = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def image_pool(folder: Path, count: int = 7, chunk_rows: int = 3) -> Pool:
    """A pool whose manifest says its items came from a folder of images; item i is of shade 30 i."""
    (folder / "images").mkdir()
    for i in range(count):
        Image.new("RGB", (200, 100), (30 * i, 0, 255)).save(folder / "images" / f"{i}.png")
    source = SOURCES["folder"](path=folder / "images")  # type: ignore[call-arg]
    return relabelled(folder, source_record("folder", {"path": str(folder / "images")}, source.fingerprint()),
                      "image", [f"{i}.png" for i in range(count)], chunk_rows)  # fmt: skip


def source_record(name: str, config: dict[str, object], fingerprint: str) -> dict[str, object]:
    return {"name": name, "config": config, "fingerprint": fingerprint}


def relabelled(folder: Path, source: dict[str, object], modality: str, keys: list[str], chunk_rows: int) -> Pool:
    pool = make_pool(folder / "pool", np.eye(len(keys), 4), chunk_rows=chunk_rows, keys=keys)
    fields = asdict(pool.manifest) | {"source": source, "modality": modality}
    Manifest(**fields).write(pool.path)
    return open_pool(pool.path)


def test_images_are_those_of_their_ids_and_small(tmp_path: Path):
    pool = image_pool(tmp_path)
    found = read_gallery(pool, {6: "6.png", 1: "1.png", 4: "4.png"})
    assert found.problem is None
    assert sorted(found.shown) == [1, 4, 6]
    for id, shown in found.shown.items():
        image = decoded(shown.image or "")
        assert image.size == (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS // 2)
        assert image.convert("RGB").getpixel((5, 5)) == (30 * id, 0, 255)


def test_a_changed_or_unreadable_item_is_said_of_that_item_alone(tmp_path: Path):
    pool = image_pool(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    found = read_gallery(pool, {1: "1.png", 2: "another.png", 3: "3.png"})
    assert found.problem is None
    assert "not an image" in (found.shown[1].problem or "")
    assert "'2.png' in its place" in (found.shown[2].problem or "")
    assert found.shown[3].image is not None


def test_a_source_that_is_gone_is_named(tmp_path: Path):
    pool = image_pool(tmp_path)
    (tmp_path / "images").rename(tmp_path / "moved")
    found = read_gallery(pool, {1: "1.png"})
    assert found.shown == {}
    assert "no such file or directory" in (found.problem or "")
    unknown = relabelled(tmp_path / "b", source_record("tape", {}, "f"), "image", ["a"], 1)
    assert "tape" in (read_gallery(unknown, {0: "a"}).problem or "")


def test_texts_are_shown_and_long_ones_cut(tmp_path: Path):
    file = tmp_path / "texts.csv"
    file.write_text("key,text\na,short <i>one</i>\nb," + "x" * 1000 + "\n", encoding="utf-8")
    pool = relabelled(tmp_path, source_record("text", {"path": str(file)}, "f"), "text", ["a", "b"], 1)
    found = read_gallery(pool, {0: "a", 1: "b"})
    assert found.shown[0].text == "short <i>one</i>"
    assert len(found.shown[1].text or "") < 300
    assert (found.shown[1].text or "").endswith("…")


def test_what_was_in_memory_is_not_there_any_more(tmp_path: Path):
    images = np.zeros((4, 8, 8), np.uint8)
    source = Memory(keys=list("abcd"), images=images)
    pool = relabelled(tmp_path, source_record("memory", {}, source.fingerprint()), "image", list("abcd"), 2)
    assert "in memory" in (read_gallery(pool, {0: "a"}).problem or "")


def test_vectors_have_nothing_to_show_and_that_is_no_problem(tmp_path: Path):
    vectors = np.eye(5, 4, dtype=np.float32)
    embed(Memory(keys=list("abcde"), vectors=vectors), Precomputed(), tmp_path / "pool")
    assert read_gallery(open_pool(tmp_path / "pool"), {0: "a"}) == Gallery(modality="vector", shown={})


def test_a_strip_shows_images_with_their_labels_in_pick_order(tmp_path: Path):
    pool = image_pool(tmp_path)
    picks = tuple(Pick(id=id, key=f"{id}.png", rank=r, score=0.5, reason=None) for r, id in enumerate((5, 2, 0), 1))
    record = {"round": 0, "strategy": "badge", "narrow": "all 7", "decision": "no labels yet"}
    arm = Arm(path=tmp_path, config=None, rounds=(record,), final=None)  # type: ignore[arg-type]
    answers = Answers(classes={"5.png": "blue & red"}, counts={})
    page = batches_section(arm, Batches(rounds=(picks,)), answers, pool, {"blue & red": "#123456"})
    places = [page.index(f'alt="{id}.png"') for id in (5, 2, 0)]
    assert places == sorted(places)
    assert "blue &amp; red" in page
    assert page.count("#123456") == 1


@pytest.mark.parametrize("rounds", [1, 50, 500, 5000])
def test_a_long_run_shows_fewer_of_each_batch(rounds: int):
    picks = tuple(Pick(id=i, key=str(i), rank=i + 1, score=None, reason=None) for i in range(30))
    shown = Batches(rounds=(picks,) * rounds).shown()
    assert all(part == picks[: len(part)] and part for part in shown)
    assert len(shown[0]) <= 100
    assert sum(map(len, shown)) <= max(2000, rounds)
