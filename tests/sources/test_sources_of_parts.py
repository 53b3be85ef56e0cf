"""Sources of parts: boxes of images, frames of folders, windows of texts. Each part is what its owner has there."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import raysal
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem, ConfigError, SourceError
from raysal.exporting.base import media_of
from raysal.pool.contents import item_digest
from raysal.pool.owners import OwnersOf
from raysal.sources import SOURCES, Source, detect_source
from raysal.sources.boxes import Boxes
from raysal.sources.folder import Folder
from raysal.sources.text import Text
from raysal.types import Cut

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (8 + number, 12, 3), dtype=np.uint8) for number in range(4)]
BOXES: list[Any] = [[[0, 0, 4, 4], [2.5, 3.2, 7.1, 6.0], [-3, 5, 30, 99]], [], None, [[1, 1, 2, 3]]]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def table_of(path: Path, boxes: list[Any], pictures: list[bytes]) -> Path:
    column = pa.array(boxes, pa.list_(pa.list_(pa.float64())))
    rows = {
        "key": [f"p{row}" for row in range(len(boxes))],
        "image": pictures,
        "boxes": column,
        "page": range(len(boxes)),
    }
    pq.write_table(pa.table({**rows, "page": list(range(len(boxes)))}), path)
    return path


def listed(source: Source, chunk_rows: int = 100) -> list[tuple[str, str | None]]:
    return [
        pair
        for unit in source.units(chunk_rows)
        for pair in zip(unit.keys, unit.owners or [None] * len(unit.keys), strict=True)
    ]


@pytest.mark.parametrize("chunk_rows", [3, 4, 100])
@pytest.mark.parametrize("form", ["xyxy", "xywh"])
def test_a_box_is_the_pixels_that_it_touches(form, chunk_rows, tmp_path):
    rows = [[[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in row] if row and form == "xywh" else row for row in BOXES]
    path = table_of(tmp_path / "a.parquet", rows, list(map(png, PICTURES)))
    source = Boxes(path=path, boxes="boxes", box_form=form, carry=("page",))
    assert listed(source, chunk_rows) == [
        ("p0#0", "p0"), ("p0#1", "p0"), ("p0#2", "p0"), ("p1", None), ("p2", None), ("p3#0", "p3"),
    ]  # fmt: skip
    items = [item for unit in source.units(chunk_rows) for item in source.read(unit)]
    first = PICTURES[0]
    cuts = [first[0:4, 0:4], first[3:6, 2:8], first[5:, :], PICTURES[1], PICTURES[2], PICTURES[3][1:3, 1:2]]
    for item, pixels in zip(items, cuts, strict=True):
        assert np.array_equal(np.asarray(decode_image(item.key, item.payload)), pixels)
    assert [item.carried for item in items] == [{"page": page} for page in (0, 0, 0, 1, 2, 3)]
    assert len({item_digest(0, item) for item in items}) == 6
    assert {name for unit in source.units(chunk_rows) for name, _ in source.spans(unit)} == {"a.parquet"}
    assert sum(count for unit in source.units(chunk_rows) for _, count in source.spans(unit)) == 6


def test_a_picture_is_decoded_once_for_all_of_its_boxes(tmp_path):
    source = Boxes(path=table_of(tmp_path / "a.parquet", BOXES, list(map(png, PICTURES))), boxes="boxes")
    (unit,) = source.units(100)
    cuts = [item.payload for item in source.read(unit) if isinstance(item.payload, Cut)]
    decoded = []
    for _ in range(2):
        decoded.clear()
        for cut in (pickle.loads(pickle.dumps(one)) for one in cuts[:1]):
            cut.whole.decoded(lambda payload: decoded.append(payload) or "picture")
    assert len(decoded) == 1
    decoded.clear()
    found = [cut.whole.decoded(lambda payload: decoded.append(payload) or "picture") for cut in cuts[:3]]
    assert found == ["picture"] * 3
    assert len(decoded) == 1
    cuts[0].whole.decoded(lambda payload: decoded.append(payload) or "picture")
    assert len(decoded) == 2  # it was let go after the last box


def test_a_box_is_exported_as_its_pixels(tmp_path):
    source = Boxes(path=table_of(tmp_path / "a.parquet", BOXES, list(map(png, PICTURES))), boxes="boxes")
    (unit,) = source.units(100)
    media = media_of(list(source.read(unit))[1])
    assert media.suffix == ".png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(media.content))), PICTURES[0][3:6, 2:8])


def test_only_some_boxes_are_read(tmp_path):
    source = Boxes(path=table_of(tmp_path / "a.parquet", BOXES, list(map(png, PICTURES))), boxes="boxes")
    (unit,) = source.units(100)
    assert [item.key for item in source.read(unit, only={1, 2, 4})] == ["p0#1", "p0#2", "p2"]


def test_a_bad_box_or_picture_is_set_aside_by_name(tmp_path):
    rows = [[[0, 0, 4, 4], [5, 5, 5, 9], [50, 50, 60, 60], [1, 2, 3]], [[0, 0, 2, 2]]]
    source = Boxes(path=table_of(tmp_path / "a.parquet", rows, [png(PICTURES[0]), b"no picture"]), boxes="boxes")
    reasons = {}
    for unit in source.units(100):
        for item in source.read(unit):
            try:
                if isinstance(item.payload, BadItem):
                    raise item.payload
                decode_image(item.key, item.payload)
            except BadItem as error:
                reasons[item.key] = str(error)
    words = {"p0#1": "no area", "p0#2": "outside", "p0#3": "four numbers", "p1#0": "known format"}
    assert reasons.keys() == words.keys()
    assert all(word in reasons[key] for key, word in words.items())


def test_boxes_go_into_a_pool_and_are_chosen_by_picture(tmp_path):
    table_of(tmp_path / "a.parquet", BOXES, list(map(png, PICTURES)))
    source = detect_source(tmp_path / "a.parquet", boxes="boxes", carry=("page",))
    pool = raysal.embed(source, "efficientnet_lite0", out=tmp_path / "pool")
    assert len(pool) == 6
    assert set(OwnersOf(pool).ids_of(["p0", "p1", "p2", "p3"])) == {"p0", "p1", "p2", "p3"}
    found = raysal.select(pool, k=4, strategy="random", parts={"by": "owner"})
    assert set(found["key"].to_pylist()) == {"p0", "p1", "p2", "p3"}


@pytest.mark.parametrize("column", [[1.5], ["[[0, 0, 4, 4]]"]])
def test_a_column_that_holds_no_lists_is_refused_by_its_name(column, tmp_path):
    pq.write_table(pa.table({"key": ["a"], "image": [png(PICTURES[0])], "place": column}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"column 'place' holds (double|string), not boxes"):
        list(Boxes(path=tmp_path / "t.parquet", boxes="place").units(4))


def test_boxes_of_what_is_no_image_are_refused(tmp_path):
    table = pa.table({"key": ["a"], "text": ["b"], "boxes": [[[0.0, 0.0, 1.0, 1.0]]]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="have no boxes"):
        assert Boxes(path=tmp_path / "a.parquet", boxes="boxes", text_column="text").modality == "image"
    with pytest.raises(ConfigError, match="owner"):
        Boxes(path=tmp_path / "a.parquet", boxes="boxes", owner="text")


def test_frames_are_parts_of_their_folder(tmp_path):
    for name in ("v1/a.png", "v1/b.png", "v2/clip/a.png", "v2/clip/b.png", "top.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    assert listed(Folder(path=tmp_path, owner="folder"), 2) == [
        ("top.png", None),
        ("v1/a.png", "v1"),
        ("v1/b.png", "v1"),
        ("v2/clip/a.png", "v2/clip"),
        ("v2/clip/b.png", "v2/clip"),
    ]
    assert Folder(path=tmp_path).fingerprint() != Folder(path=tmp_path, owner="folder").fingerprint()
    assert SOURCES["folder"](path=tmp_path).owner is None


TEXTS = {"short": "one  two", "long": "a b\tc  d\ne f g", "exact": "x y z", "none": None}


@pytest.mark.parametrize(("window", "overlap"), [(3, 0), (3, 1), (3, 2), (1, 0), (100, 10)])
def test_windows_of_a_text_cover_every_word_in_order(window, overlap, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"key": key, "text": text, "l": key}) for key, text in TEXTS.items()))
    source = Text(path=path, window=window, overlap=overlap, carry=("l",))
    items = {item.key: item for unit in source.units(100) for item in source.read(unit)}
    for key, text in TEXTS.items():
        parts = [item.payload for name, item in items.items() if name.rpartition("#")[0] == key]
        assert [f"{key}#{number}" in items for number in range(len(parts))] == [True] * len(parts)
        if text is None:
            assert len(parts) == 1
            assert isinstance(parts[0], BadItem)
            continue
        words: list[str] = []
        for number, part in enumerate(parts):
            assert part in text
            assert len(part.split()) <= window
            own = part.split()
            assert number == 0 or words[len(words) - overlap :] == own[:overlap]
            words += own[overlap:] if number else own
        assert words == text.split()
        assert all(items[f"{key}#{number}"].carried == {"l": key} for number in range(len(parts)))
    assert {owner for _, owner in listed(source)} == set(TEXTS)
    with pytest.raises(ConfigError, match="overlap"):
        Text(path=path, window=3, overlap=3)
    with pytest.raises(ConfigError, match="there are no windows"):
        Text(path=path, overlap=2)
