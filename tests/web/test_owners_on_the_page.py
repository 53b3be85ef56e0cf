"""The page of a run by owner: an owner is seen by its parts, labelled by its key, and ordered by its mean."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browsers import Visit, complaints
from page_server import page_of
from part_pools import make_part_pool, owners_by_size
from PIL import Image
from pools import mixture
from served_pages import ServedPage
from served_runs import Lengths, Shades

import raysal
from raysal.errors import BadItem
from raysal.pool import Pool, open_pool
from raysal.pool.owners import OwnersOf
from raysal.pool.removing import remove_items
from raysal.prediction.sheets import Seer
from raysal.sources.boxes import Boxes
from raysal.sources.folder import Folder
from raysal.sources.text import Text, text_of_parts
from raysal.web.catalogue import Catalogue, Entry
from raysal.web.composed import CELL, EDGE, GAP, Composed, evenly
from raysal.web.label_studio import Backend
from raysal.web.media import Media
from raysal.web.payloads import Payloads

BY = {"parts": {"by": "owner"}, "start": {"name": "random"}, "select": {"name": "margin"}, "rounds": {"k": 6}}
COLOURS = ((200, 30, 30), (30, 160, 30), (30, 30, 200))


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def boxes_pool(folder: Path, count: int = 24, chunk_rows: int = 7) -> Pool:
    """Pictures of 60 x 40 pixels whose owner `p3` has boxes 3 % 4, of a colour by 3 % 3."""
    pictures = [np.full((40, 60, 3), COLOURS[row % 3], np.uint8) for row in range(count)]
    boxes = [[[4 + 14 * place, 5, 14 + 14 * place, 30] for place in range(row % 4)] for row in range(count)]
    folder.mkdir(exist_ok=True)
    table = {"key": [f"p{row}" for row in range(count)], "image": list(map(png, pictures)), "boxes": boxes}
    pq.write_table(pa.table(table), folder / "pages.parquet")
    source = Boxes(path=folder / "pages.parquet", boxes="boxes")
    return raysal.embed(source, Shades(), out=folder / "pool", chunk_rows=chunk_rows)


def frames_pool(folder: Path) -> Pool:
    for video, count in (("long", 25), ("one", 1), ("some", 4)):
        (folder / "videos" / video).mkdir(parents=True)
        for place in range(count):
            frame = np.full((30, 40, 3), (10 * place, 200, 255 - 10 * place), np.uint8)
            Image.fromarray(frame).save(folder / "videos" / video / f"{place:03d}.png")
    source = Folder(path=folder / "videos", owner="folder")
    return raysal.embed(source, Shades(), out=folder / "pool", chunk_rows=26)


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


def windows_pool(folder: Path, chunk_rows: int = 5) -> Pool:
    folder.mkdir(exist_ok=True)
    texts = "".join(f"t{row},{words(3 + 5 * row, 100 * row)}\n" for row in range(4))
    (folder / "texts.csv").write_text(f"key,text\n{texts}", encoding="utf-8")
    source = Text(path=folder / "texts.csv", window=6, overlap=2)
    return raysal.embed(source, Lengths(), out=folder / "pool", chunk_rows=chunk_rows)


def of_owners(pool: Pool) -> tuple[Catalogue, Media, Payloads]:
    owners = OwnersOf(pool)
    catalogue = Catalogue(owners)
    payloads = Payloads(owners, None, catalogue.parts)
    return catalogue, Media(owners, payloads), payloads


def entry_of(pool: Pool, catalogue: Catalogue, key: str) -> Entry:
    return catalogue.entries(OwnersOf(pool).ids_of([key]).values()).popitem()[1]


def picture(packed: Any) -> Image.Image:
    return Image.open(io.BytesIO(packed.data)).convert("RGB")


@pytest.mark.parametrize("chunk_rows", [4, 7, 100])
@pytest.mark.parametrize("grown", [False, True])
def test_an_image_is_seen_whole_with_the_boxes_that_are_its_parts(chunk_rows, grown, tmp_path):
    pool = boxes_pool(tmp_path, chunk_rows=chunk_rows)
    if grown:
        remove_items(pool.path, ["p5#0", "p7#1"])
        pool = open_pool(pool.path)
    catalogue, media, payloads = of_owners(pool)
    assert [one.key for one in catalogue.parts(entry_of(pool, catalogue, "p7").id)] == [
        key for key in ("p7#0", "p7#1", "p7#2") if not grown or key != "p7#1"
    ]
    for key in ("p3", "p6", "p7", "p23"):
        entry = entry_of(pool, catalogue, key)
        seen = np.asarray(picture(media.picture(entry, 400, small=False)))
        assert seen.shape == (40, 60, 3)
        assert media.sizes[entry.id] == (60, 40)
        row, there = int(key[1:]), [3, 2, 3, 3][("p3", "p6", "p7", "p23").index(key)]
        edges = [place for place in range(there) if tuple(seen[5, 8 + 14 * place]) == EDGE]
        assert edges == [place for place in range(there) if not (grown and key == "p7" and place == 1)]
        assert tuple(seen[20, 9]) == COLOURS[row % 3], "a box is not filled"
    plain = entry_of(pool, catalogue, "p4")  # without a box
    assert np.array_equal(picture(media.picture(plain, 400, small=False)), np.full((40, 60, 3), COLOURS[1]))
    assert payloads.kind(plain, False) == "image"


def test_frames_are_seen_side_by_side_and_of_many_some(tmp_path):
    pool = frames_pool(tmp_path)
    catalogue, media, payloads = of_owners(pool)
    shown = payloads.read(entry_of(pool, catalogue, "long"))
    assert isinstance(shown, Composed)
    assert [key for key, _ in shown.parts] == [f"long/{place:03d}.png" for place in evenly(25)]
    assert evenly(25)[0] == 0
    assert evenly(25)[-1] == 24
    large = picture(media.picture(entry_of(pool, catalogue, "long"), 2000, small=False))
    assert large.size == (3 * (40 + GAP) + GAP, 3 * (30 + GAP) + GAP)
    assert large.getpixel((GAP + 5, GAP + 5)) == (0, 200, 255)
    assert large.getpixel((large.width - GAP - 5, large.height - GAP - 5)) == (240, 200, 15)
    assert picture(media.picture(entry_of(pool, catalogue, "one"), 2000, small=False)).size == (40, 30)
    (tmp_path / "videos" / "some" / "001.png").write_bytes(b"no picture")
    four = picture(media.picture(entry_of(pool, catalogue, "some"), 2000, small=False))
    assert four.size == (2 * (40 + GAP) + GAP, 2 * (30 + GAP) + GAP), "what cannot be read is left out"
    big = Composed(key="k", parts=[("a", np.zeros((900, 900, 3), np.uint8))] * 2)
    assert big.image(4000).size == (2 * (CELL + GAP) + GAP, CELL + 2 * GAP)
    with pytest.raises(BadItem, match="empty"):
        Composed(key="k", parts=[("a", b""), ("b", BadItem("b", "gone"))]).image(100)


@pytest.mark.parametrize("chunk_rows", [5, 100])
def test_windows_are_seen_as_the_text_that_they_were_cut_from(chunk_rows, tmp_path):
    pool = windows_pool(tmp_path, chunk_rows)
    catalogue, media, _ = of_owners(pool)
    for row in range(4):
        assert media.text(entry_of(pool, catalogue, f"t{row}")) == words(3 + 5 * row, 100 * row)
    remove_items(pool.path, ["t3#0", "t3#2"])
    pool = open_pool(pool.path)
    catalogue, media, _ = of_owners(pool)
    text = media.text(entry_of(pool, catalogue, "t3"))
    assert text == f"… {words(6, 304)} … {words(6, 312)}"


def test_of_ready_vectors_the_file_of_the_owner_is_shown_or_that_of_its_first_part(tmp_path):
    (tmp_path / "files").mkdir()
    for name, side in (("a0.png", 5), ("a1.png", 6), ("b.png", 7), ("b0.png", 8)):
        Image.new("RGB", (side, 4)).save(tmp_path / "files" / name)
    keys, owners = ["a0.png", "a1.png", "b0.png", "c"], ["a", "a", "b.png", None]
    pool = make_part_pool(tmp_path / "pool", np.eye(4), owners, keys=keys)
    catalogue = Catalogue(OwnersOf(pool))
    payloads = Payloads(OwnersOf(pool), tmp_path / "files", catalogue.parts)
    media = Media(OwnersOf(pool), payloads)
    for key, width in (("a", 5), ("b.png", 7)):
        entry = entry_of(pool, catalogue, key)
        assert payloads.kind(entry, False) == "image"
        assert picture(media.picture(entry, 64, small=False)).width == width
    assert payloads.kind(entry_of(pool, catalogue, "c"), False) == "vector"
    assert catalogue.carried(entry_of(pool, catalogue, "a").id) == {}, "the owner's key is not said twice"


def test_parts_that_are_no_windows_are_joined_by_lines():
    assert text_of_parts([("a", "one two"), ("b", "three")], 0) == "one two\n\nthree"
    assert text_of_parts([("a#0", "one two"), ("a#1", "two three")], 1) == "one two three"


def test_rows_of_a_pool_of_parts_are_found_whatever_their_chunks(tmp_path):
    """Chunks of parts have as many rows as their owners leave them."""
    owners = owners_by_size([1, 4, 2, 3, 4, 1, 2])
    x, _ = mixture(len(owners), 4)
    pool = make_part_pool(tmp_path / "pool", x, owners, chunk_rows=4)
    catalogue = Catalogue(pool)
    assert [one.key for one in catalogue.entries(range(len(owners))).values()] == [
        f"part-{row:06d}" for row in range(len(owners))
    ]
    boxes = boxes_pool(tmp_path / "boxes", chunk_rows=4)
    payloads, catalogue = Payloads(boxes), Catalogue(boxes)
    for key, id in boxes.ids_of(["p0", "p7#2", "p22#1", "p1#0"]).items():
        assert payloads.read(catalogue.entries([id])[id]) is not None, key


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owners")
    boxes_pool(folder, 60)
    with raysal.Session(folder / "run", folder / "pool", **BY, target=["red"]) as session:
        session.query()
    return folder / "run"


def test_the_page_hands_out_owners_and_orders_them_by_their_means(run):
    with page_of(run) as page, page.browser() as ann:
        batch = ann.look("/api/items", order="batch")["items"]
        keys = [item["key"] for item in batch]
        assert len(keys) == 6
        assert all("#" not in key for key in keys)
        told = [
            {"id": item["id"], "key": item["key"], "label": "red" if int(item["key"][1:]) % 3 == 0 else "other"}
            for item in batch
        ]
        assert len(ann.tell("/api/answers", answers=told, nonce="n")["items"]) == 6
        page.ready("likeliest", "uncertain", "diverse", "random", "novel")
        for order in ("likeliest", "uncertain", "diverse", "random", "novel"):
            found = ann.look("/api/items", order=order, n=200)["items"]
            assert {item["key"] for item in found} <= {f"p{row}" for row in range(60)} - {*keys}, order
            assert len(found) == 54 or order == "diverse"
        nearest = ann.look("/api/items", order="nearest", key=keys[0], n=200)["items"]
        assert {item["key"] for item in nearest} == {f"p{row}" for row in range(60)} - {keys[0]}
        assert len(ann.look("/api/map", n=1000)["ids"]) == 60
        session = page.desk.session
        with raysal.Session.open(run, read_only=True) as other:
            assert {item.key for item in other.ledger.labels()} == set(keys)
        assert session.status().items == 60


def test_label_studio_is_told_what_the_head_says_of_owners(tmp_path):
    """Also by a process that has chosen no batch, whose fleet shows parts at first."""
    owned = owners_by_size([3] * 40)
    x = np.random.default_rng(0).normal(size=(len(owned), 5))
    pool = make_part_pool(tmp_path / "pool", x, owned, chunk_rows=10)
    keys = list(dict.fromkeys(owned))
    with raysal.Session(tmp_path / "run", pool.path, **BY) as session:
        session.query()
        session.tell({key: "ab"[int(x[3 * place : 3 * place + 3, 0].sum() > 0)] for place, key in enumerate(keys[:20])})
        session.finish()
    with raysal.Session(tmp_path / "run") as session:
        found = Backend(session).predict([{"data": {"raysal_key": key}} for key in keys])
        said = {
            key: one["result"][0]["value"]["choices"][0] for key, one in zip(keys, found, strict=True) if one["result"]
        }
        owners = OwnersOf(pool)
        ids = np.concatenate([chunk.ids() for chunk in owners.chunks])
        vectors = np.concatenate([chunk.vectors() for chunk in owners.chunks])
        wanted, _ = Seer(head=session.current_head()).predict(vectors)
    assert said == {key: wanted[ids.tolist().index(id)] for key, id in owners.ids_of(keys).items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    folder = tmp_path_factory.mktemp("browser")
    boxes_pool(folder, 40)
    with raysal.Session(folder / "run", folder / "pool", **BY, target=["red"]) as session:
        session.query()
    page = ServedPage(folder / "run")
    yield page
    page.stop()


def test_people_see_the_whole_image_and_label_its_key(browser: Any, served: ServedPage) -> None:
    one = Visit(browser, served.address, "ana")
    try:
        one.tiles()
        keys = one.keys()
        assert len(keys) == 6
        assert all("#" not in key for key in keys)
        one.page.wait_for_function("() => document.querySelector('#gallery .tile img')?.naturalWidth > 0")
        assert complaints(one.page) == []
        one.press("1")
        one.saved()
        assert served.said("ana") == {keys[0]: "red"}
    finally:
        one.leave()
