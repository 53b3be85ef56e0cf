"""Measures of quality: what slow, obvious loops say of pictures and texts; the same however a pool is made."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_sources import Bytes
from image_files import packed
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFilter, ImageOps
from pool_files import bytes_of
from tiers import deep

import raysal
from raysal.config import parse_config
from raysal.embedding.decode import decode_image
from raysal.embedding.measures import MEASURES, measures_of
from raysal.embedding.picture_measures import LONGEST, measure_picture
from raysal.embedding.seen import see, watching
from raysal.embedding.text_measures import measure_text
from raysal.errors import ConfigError, FingerprintMismatch, PoolError, SourceError, UnknownName
from raysal.pool import Pool, open_pool
from raysal.pool.compacting import compact
from raysal.rounds.ready import pool_is_ready
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory
from raysal.sources.table import Table
from raysal.sources.text import Text
from raysal.store import digest_of

TINY = {"name": "torch:tiny_encoder:build", "size": 12}
PICTURES = measures_of("image")


def picture(width: int, height: int, seed: int = 0, bands: int = 3) -> Image.Image:
    """A photograph of sorts: shapes that are neither noise nor blank."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 7, 2), max(width // 7, 2), bands), dtype=np.uint8)
    whole = Image.fromarray(small[..., 0] if bands == 1 else small).resize((width, height), Image.Resampling.BICUBIC)
    grain = np.asarray(whole) + rng.normal(size=np.asarray(whole).shape) * 4
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def columns(pool: Pool, names: Sequence[str] = PICTURES) -> dict[str, list[Any]]:
    """{key: values}."""
    tables = [table.to_pydict() for table in pool.items(["key", *names])]
    return {key: [table[name][row] for name in names] for table in tables for row, key in enumerate(table["key"])}


# A slow, obvious reference.


def halved(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Means of 2 x 2 pixels, of fewer at the right and the lower edge."""
    height, width = values.shape[:2]
    rows = [
        [values[y : y + 2, x : x + 2].reshape(-1, *values.shape[2:]).mean(0) for x in range(0, width, 2)]
        for y in range(0, height, 2)
    ]
    return np.array(rows)


def reference(image: Image.Image) -> dict[str, float | None]:
    values = np.asarray(image).astype(np.float64)
    while max(values.shape[:2]) > LONGEST:
        values = halved(values)
    values = np.floor(values + 0.5)
    grey = np.floor(values @ [0.299, 0.587, 0.114] + 0.5) if values.ndim == 3 else values
    height, width = grey.shape
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    ]
    shares = [count / grey.size for count in Counter(grey.reshape(-1).tolist()).values()]
    return {
        "width": image.width,
        "height": image.height,
        "pixels": image.width * image.height,
        "sharpness": float(np.var(laplacian)) if laplacian else None,
        "entropy": -sum(share * np.log2(share) for share in shares),
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
    }


@pytest.mark.parametrize(
    ("width", "height", "bands"),
    [(30, 40, 3), (256, 3, 3), (2, 5, 1), (28, 28, 1), (257, 100, 3), (130, 301, 1), (600, 340, 3), (1, 1, 3)],
)
def test_pictures_are_measured_as_loops_measure_them(width: int, height: int, bands: int) -> None:
    image = picture(width, height, bands=bands)
    found, wanted = measure_picture(image, image.size, PICTURES), reference(image)
    rough = max(width, height) > 2 * LONGEST  # Pillow takes the means of 4 x 4 at once, and so rounds once
    assert found["sharpness"] is None or wanted["sharpness"] is not None
    for name in PICTURES:
        assert found[name] == pytest.approx(wanted[name], rel=2e-3 if rough else 1e-4), name
    pixels = np.asarray(image).reshape(height, width, -1)
    assert measure_picture(pixels, image.size, PICTURES) == found


@pytest.mark.parametrize("grey", [0, 17, 255])
def test_a_blank_has_nothing_and_is_no_minus_nothing(grey: int) -> None:
    found = measure_picture(Image.new("L", (40, 30), grey), (40, 30), PICTURES)
    assert (found["sharpness"], found["entropy"], found["contrast"], found["brightness"]) == (0, 0, 0, grey)
    assert str(found["entropy"]) == "0.0"


def test_a_blurred_picture_is_less_sharp() -> None:
    image = picture(200, 150)
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2, 4)]
    found = [measure_picture(one, one.size, ("sharpness",))["sharpness"] for one in blurred]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("one two three", {"characters": 13, "words": 3, "duplicate_lines": 0, "repetition": 0, "symbols": 0}),
        ("a\na\n\n b\na ", {"words": 4, "duplicate_lines": 0.5, "repetition": 0}),
        ("w x y z v " * 2, {"words": 10, "repetition": 1}),
        ("a b c d e f a b c d e ggg", {"words": 12, "repetition": 10 / 14}),
        ("#!? ä1", {"characters": 6, "words": 2, "symbols": 0.5}),
        ("", {"characters": 0, "words": 0, "duplicate_lines": 0, "repetition": 0, "symbols": 0}),
    ],
)
def test_texts_are_measured(text: str, wanted: dict[str, float]) -> None:
    found = measure_text(text, measures_of("text"))
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_repetition_is_that_of_marked_words() -> None:
    rng = np.random.default_rng(0)
    for length in (4, 20, 60):
        words = [["a", "bb", "ccc"][one] for one in rng.integers(0, 3, length)]
        runs = Counter(tuple(words[at : at + 5]) for at in range(length - 4))
        marked = {at + more for at in range(length - 4) if runs[tuple(words[at : at + 5])] > 1 for more in range(5)}
        wanted = sum(len(words[at]) for at in marked) / sum(map(len, words))
        assert measure_text(" ".join(words), ("repetition",))["repetition"] == pytest.approx(wanted)


# In pools.


def photos(folder: Path) -> dict[str, tuple[int, int]]:
    """Files of several formats; {name: width and height of the upright picture}."""
    folder.mkdir()
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    files: dict[str, tuple[bytes, tuple[int, int]]] = {
        "a.jpg": (packed(picture(640, 431), "JPEG", quality=90), (640, 431)),
        "b.jpg": (packed(picture(801, 530, 1), "JPEG", exif=turned, quality=90), (530, 801)),
        "c.png": (packed(picture(60, 50, 2), "PNG"), (60, 50)),
        "d.png": (packed(picture(40, 40, 3).convert("RGBA"), "PNG"), (40, 40)),
        "e.gif": (packed(picture(30, 20, 4, bands=1), "GIF"), (30, 20)),
        "f.jpg": (packed(picture(333, 200, 5).convert("CMYK"), "JPEG"), (333, 200)),
        "g.png": (packed(Image.new("RGB", (2, 9)), "PNG"), (2, 9)),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {name: size for name, (_, size) in files.items()}


@pytest.mark.parametrize("encoder", [TINY, {"name": "efficientnet_lite0:fast", "size": 64}])
def test_files_have_the_measures_of_their_upright_pictures(tmp_path: Path, encoder: dict[str, Any]) -> None:
    sizes = photos(tmp_path / "photos")
    pool = raysal.embed(tmp_path / "photos", encoder, out=tmp_path / "pool", measures=["all"])
    found = columns(pool)
    assert set(found) == set(sizes)
    for key, (width, height) in sizes.items():
        values = dict(zip(PICTURES, found[key], strict=True))
        assert (values["width"], values["height"], values["pixels"]) == (width, height, width * height)
        with Image.open(tmp_path / "photos" / key) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if image.mode in ("L", "P") else "RGB")
        wanted = measure_picture(upright, upright.size, PICTURES)
        # A JPEG that is decoded at a fraction of its size has other pixels, to a few percent.
        near = 0.1 if "fast" in encoder["name"] and key in ("a.jpg", "b.jpg") else 1e-6
        assert values == pytest.approx(dict(wanted), rel=near, nan_ok=True), key
    assert found["g.png"][PICTURES.index("sharpness")] is None
    schema = next(pool.items()).schema
    assert {name: str(schema.field(name).type) for name in PICTURES} == {
        name: MEASURES[name].kind.replace("float32", "float") for name in PICTURES
    }


def test_nothing_depends_on_batches_chunks_and_threads(tmp_path: Path) -> None:
    images = [np.asarray(picture(20 + i, 30, i)) for i in range(21)]
    source = Memory(images=images, keys=range(21))
    one = raysal.embed(source, TINY, out=tmp_path / "one", measures=PICTURES)
    for name, more in {
        "batches": {"batch_size": 1, "decode_threads": 1},
        "chunks": {"chunk_rows": 5, "batch_size": 4, "decode_threads": 3},
    }.items():
        assert columns(raysal.embed(source, TINY, out=tmp_path / name, measures=["all"], **more)) == columns(one)


@deep
def test_ray_measures_the_same(tmp_path: Path, ray_session: None) -> None:
    photos(tmp_path / "photos")
    here = raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "here", measures=["all"])
    there = raysal.embed(
        tmp_path / "photos", TINY, out=tmp_path / "there", measures=["all"], backend="ray", workers=2, chunk_rows=3
    )
    assert columns(there) == columns(here)


def test_a_pool_without_measures_is_what_it_was(tmp_path: Path) -> None:
    source = Memory(images=[np.asarray(picture(20, 20, i)) for i in range(6)], keys=range(6))
    plain = raysal.embed(source, TINY, out=tmp_path / "plain", chunk_rows=4)
    none = raysal.embed(source, TINY, out=tmp_path / "none", chunk_rows=4, measures=[])
    measured = raysal.embed(source, TINY, out=tmp_path / "measured", chunk_rows=4, measures=["sharpness"])
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "none")
    assert b"measures" not in (tmp_path / "plain" / "pool.json").read_bytes()
    assert measured.fingerprint == plain.fingerprint == none.fingerprint
    assert measured.columns == [*plain.columns, "sharpness"]
    for one, other in zip(plain.chunks, measured.chunks, strict=True):
        assert np.array_equal(one.mapped(), other.mapped())


def test_what_is_quarantined_has_no_measures_and_others_keep_theirs(tmp_path: Path) -> None:
    sizes = photos(tmp_path / "photos")
    (tmp_path / "photos" / "bb.jpg").write_bytes(b"no picture")
    pool = raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "pool", measures=["width"], max_quarantine=0.5)
    assert columns(pool, ["width"]) == {key: [width] for key, (width, _) in sizes.items()}


def test_a_grown_pool_measures_what_is_new(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    asked = ["sharpness", "width"]
    raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "pool", measures=asked)
    (tmp_path / "photos" / "h.png").write_bytes(packed(picture(44, 33, 8), "PNG"))
    (tmp_path / "photos" / "c.png").write_bytes(packed(picture(70, 80, 9), "PNG"))
    grown = raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "pool")
    assert grown.generation == 1
    assert grown.manifest.measures == ("width", "sharpness")
    fresh = raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "fresh", measures=asked)
    assert columns(grown, asked) == columns(fresh, asked)
    compact(tmp_path / "pool")
    compacted = open_pool(tmp_path / "pool")
    assert columns(compacted, asked) == columns(fresh, asked)
    assert next(compacted.items()).schema.field("sharpness").type == pa.float32()
    for other in (["width"], ["sharpness", "width", "entropy"], []):
        with pytest.raises(PoolError, match="was begun with the measures width, sharpness, now") as caught:
            raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "pool", measures=other)
        assert "another directory" in caught.value.fix


def test_a_begun_pool_goes_on_with_its_measures(tmp_path: Path) -> None:
    source = Memory(images=[np.asarray(picture(20, 20 + i, i)) for i in range(9)], keys=range(9))
    raysal.embed(source, TINY, out=tmp_path / "pool", chunk_rows=3, measures=["height"])
    (tmp_path / "pool" / "commits" / "00001.json").unlink()
    again = raysal.embed(source, TINY, out=tmp_path / "pool", chunk_rows=3)
    assert columns(again, ["height"]) == {str(i): [20 + i] for i in range(9)}


class Letters(Bytes):
    """How many letters a text has."""

    def prepare(self, key: str, payload: Any) -> int:
        return len(payload)


def test_texts_of_a_table_and_windows_have_measures(tmp_path: Path) -> None:
    texts = ["one two three four five six seven", "a\na", "#"]
    (tmp_path / "texts.csv").write_text(
        "key,text\n" + "\n".join(f'{key},"{text}"' for key, text in enumerate(texts)), encoding="utf-8"
    )
    names = measures_of("text")
    for place, source, wanted in [
        ("whole", Text(path=tmp_path / "texts.csv"), texts),
        (
            "windows",
            Text(path=tmp_path / "texts.csv", window=4),
            ["one two three four", "five six seven", "a\na", "#"],
        ),
    ]:
        pool = raysal.embed(source, Letters(modality="text"), out=tmp_path / place, measures=["all"])
        found = list(columns(pool, names).values())
        assert found == [
            [np.float32(value) if isinstance(value, float) else value for value in measure_text(text, names).values()]
            for text in wanted
        ]


def test_a_box_has_the_measures_of_what_is_cut_out(tmp_path: Path) -> None:
    whole = picture(60, 50)
    table = pa.table(
        {
            "key": ["p"],
            "image": [packed(whole, "PNG")],
            "boxes": pa.array([[[0, 0, 10, 20], [5, 5, 60, 50]]], pa.list_(pa.list_(pa.int32()))),
        }
    )
    pq.write_table(table, tmp_path / "boxes.parquet")
    source = raysal.api.embed.source_of(
        {"name": "boxes", "path": tmp_path / "boxes.parquet", "boxes": "boxes", "box_form": "xyxy"}
    )
    pool = raysal.embed(source, TINY, out=tmp_path / "pool", measures=["all"])
    cuts = [whole.crop((0, 0, 10, 20)), whole.crop((5, 5, 60, 50))]
    wanted = [measure_picture(cut, cut.size, PICTURES) for cut in cuts]
    found = [dict(zip(PICTURES, values, strict=True)) for values in columns(pool).values()]
    assert found == [pytest.approx(dict(one)) for one in wanted]


@dataclass(frozen=True, kw_only=True)
class OwnEyes:
    """An encoder that decodes by itself."""

    dim: int = 3

    @property
    def modality(self) -> Literal["image"]:
        return "image"

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return digest_of({"dim": self.dim})

    def prepare(self, key: str, payload: Any) -> NDArray[np.float32]:
        return np.asarray(Image.open(io.BytesIO(payload)).convert("RGB").resize((1, 1)), np.float32)[0, 0]

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        return np.stack(prepared) + 1


def test_an_encoder_that_decodes_by_itself_changes_no_measure(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    own = raysal.embed(tmp_path / "photos", OwnEyes(), out=tmp_path / "own", measures=["all"])
    ours = raysal.embed(tmp_path / "photos", TINY, out=tmp_path / "ours", measures=["all"])
    assert columns(own) == columns(ours)


def test_nobody_who_does_not_watch_sees_anything() -> None:
    image = picture(9, 8)
    see(image)
    with watching() as seen:
        assert seen.picture is None
        see(image)
        assert seen.picture is image
        assert seen.size == (9, 8)


def test_a_reduced_picture_is_known_by_its_full_size() -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    with watching() as seen:
        decode_image("a", packed(picture(801, 530), "JPEG", exif=turned), 64)
    assert seen.size == (530, 801)
    assert seen.picture is not None
    assert not isinstance(seen.picture, np.ndarray)
    assert max(seen.picture.size) < 200


# Bad input.


def test_a_column_of_the_source_that_has_the_name_of_a_measure_is_refused(tmp_path: Path) -> None:
    images = [packed(picture(20, 20, i), "PNG") for i in range(4)]
    pq.write_table(pa.table({"key": list("abcd"), "image": images, "width": [1, 2, 3, 4]}), tmp_path / "t.parquet")
    table = Table(path=tmp_path / "t.parquet", image_column="image", carry=("width",))
    memory = Memory(images=[np.asarray(picture(20, 20))], keys=["a"], carry={"width": [1]})
    for source in (table, memory):
        with pytest.raises(SourceError, match="carries a column 'width'") as caught:
            raysal.embed(source, TINY, out=tmp_path / "pool", measures=["width"])
        assert "rename the column" in caught.value.fix
        assert not (tmp_path / "pool").exists()
    assert raysal.embed(table, TINY, out=tmp_path / "pool", measures=["height"]).columns[-2:] == ["width", "height"]


@pytest.mark.parametrize(
    ("measures", "error", "words"),
    [
        (["sharpnes"], UnknownName, "sharpness"),
        (["words"], ConfigError, "words is measured of texts"),
        ("sharpness", ConfigError, "is no list of names"),
    ],
)
def test_measures_that_there_are_not_are_refused(
    tmp_path: Path, measures: Any, error: type[Exception], words: str
) -> None:
    source = Memory(images=[np.asarray(picture(20, 20))], keys=["a"])
    with pytest.raises(error, match=words):
        raysal.embed(source, TINY, out=tmp_path / "pool", measures=measures)
    assert not (tmp_path / "pool").exists()


def test_ready_vectors_have_none(tmp_path: Path) -> None:
    source = Memory(vectors=np.ones((3, 2), np.float32), keys=["a", "b", "c"])
    with pytest.raises(ConfigError, match="a vector has none"):
        raysal.embed(source, out=tmp_path / "pool", measures=["all"])
    assert raysal.embed(source, out=tmp_path / "pool", measures=[]).manifest.measures == ()


def test_a_run_says_when_its_pool_has_other_measures(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    source = Folder(path=tmp_path / "photos")
    raysal.embed(source, TINY, out=tmp_path / "pool", measures=["width"])
    values = {
        "pool": str(tmp_path / "pool"),
        "source": {"name": "folder", "path": str(tmp_path / "photos")},
        "encoder": TINY,
    }
    assert pool_is_ready(parse_config(values))
    assert pool_is_ready(parse_config({**values, "embed": {"measures": ["width"]}}))
    with pytest.raises(FingerprintMismatch, match="its measures"):
        pool_is_ready(parse_config({**values, "embed": {"measures": ["sharpness"]}}))
