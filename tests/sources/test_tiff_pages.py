"""Each page of a TIFF file is the image that its file would be if the page were alone."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from image_files import fits, tiff
from PIL import Image
from tiers import one_of_each

import raysal
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem, SourceError
from raysal.sources.base import OfFiles
from raysal.sources.pages import Pages
from raysal.types import Item

COUNT = 5


def items(source: Any, chunk_rows: int = 3) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def page(number: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(number).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


LAYOUTS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "grey": ((40, 50), np.uint8, {}),
    "strips": ((40, 50), np.uint8, {"rowsperstrip": 7}),
    "tiles": ((40, 50), np.uint8, {"tile": (16, 32)}),
    "wide": ((40, 50), np.uint16, {}),
    "wide, packed": ((40, 50), np.uint16, {"compression": "zlib", "predictor": True}),
    "rgb": ((40, 50, 3), np.uint8, {"photometric": "rgb"}),
    "planes": ((3, 40, 50), np.uint8, {"photometric": "rgb", "planarconfig": "separate"}),
    "alpha": ((40, 50, 4), np.uint8, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "lzw": ((40, 50), np.uint8, {"compression": "lzw"}),
    "jpeg": ((48, 64, 3), np.uint8, {"photometric": "ycbcr", "compression": "jpeg", "tile": (16, 16)}),
    "stated": ((40, 50), np.int16, {"extratags": [(340, "h", 1, -10), (341, "h", 1, 900)]}),
}


def write(path: Path, layout: str, numbers: Any, **options: Any) -> Path:
    shape, dtype, fields = LAYOUTS[layout]
    with tifffile.TiffWriter(path, **options) as file:
        for number in numbers:
            file.write(page(number, *shape, dtype=dtype), contiguous=False, metadata=None, **fields)
    return path


@pytest.mark.parametrize(
    ("layout", "kind"), one_of_each((layout, kind) for layout in LAYOUTS for kind in ("plain", "big", "turned"))
)
def test_a_page_is_what_it_is_alone(layout: str, kind: str, tmp_path: Path) -> None:
    options = {"plain": {}, "big": {"bigtiff": True}, "turned": {"byteorder": ">"}}[kind]
    path = write(tmp_path / "stack.tif", layout, range(COUNT), **options)
    found = items(Pages(path=path))
    assert [item.key for item in found] == [f"stack.tif#{number}" for number in range(COUNT)]
    for number, item in enumerate(found):
        alone = write(tmp_path / "alone.tif", layout, [number], **options).read_bytes()
        assert np.array_equal(decode_image("a", item.payload), decode_image("a", alone))
        assert len(item.payload) <= len(alone) + 64


def test_pages_of_pillow_with_links_to_exif(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(page(number, 20, 30)) for number in range(3)]
    exif = Image.Exif()
    exif[274], exif.get_ifd(34665)[36867] = 6, "2026:11:30 00:00:00"
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_deflate", exif=exif)
    for number, item in enumerate(items(Pages(path=tmp_path))):
        upright = np.rot90(page(number, 20, 30), -1)
        assert np.array_equal(np.asarray(decode_image("a", item.payload))[..., 0], upright)


def test_pages_of_files_by_hand(tmp_path: Path) -> None:
    data = tiff(page(0, 9, 8, 3), photometric=2, planar=2, order=">", rows=2)
    (tmp_path / "a.tif").write_bytes(data)
    (item,) = items(Pages(path=tmp_path))
    assert np.array_equal(decode_image("a", item.payload), decode_image("a", data))


def test_what_cannot_be_read_is_quarantined_by_page(tmp_path: Path) -> None:
    good = write(tmp_path / "good.tif", "strips", range(3)).read_bytes()
    (tmp_path / "fits.tif").write_bytes(fits(page(0, 4, 4), 8))
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "head.tif").write_bytes(good[:100])
    with tifffile.TiffFile(io.BytesIO(good)) as file:
        second, third = file.pages[1].offset, file.pages[2]
        cut = third.dataoffsets[-1]
        fields = struct.unpack_from("<H", good, second)[0]
    (tmp_path / "cut.tif").write_bytes(good[: max(cut, third.offset + 400)])
    loop = bytearray(good)
    struct.pack_into("<I", loop, second + 2 + 12 * fields, second)
    (tmp_path / "loop.tif").write_bytes(bytes(loop))
    tifffile.imwrite(tmp_path / "imagej.tif", page(0, 7, 20, 30), imagej=True)
    imagej = (tmp_path / "imagej.tif").read_bytes()
    places = struct.unpack_from("<I", imagej, 4)[0]
    fields = struct.unpack_from("<H", imagej, places)[0]
    (tmp_path / "imagej.tif").write_bytes(
        imagej[: places + 2 + 12 * fields] + b"\0\0\0\0" + imagej[places + 6 + 12 * fields :]
    )
    found = items(Pages(path=tmp_path))
    bad = {item.key: item.payload.problem for item in found if isinstance(item.payload, BadItem)}
    good_ones = [item.key for item in found if item.key not in bad]
    assert good_ones == ["cut.tif#0", "cut.tif#1", *(f"good.tif#{number}" for number in range(3))]
    assert "truncated" in bad.pop("cut.tif#2")
    assert bad.pop("imagej.tif#0").startswith("a stack of ImageJ, of whose 7 images only the first is a page")
    assert bad == {
        "fits.tif#0": "not a TIFF file",
        "empty.tif#0": "not a TIFF file",
        "head.tif#0": "truncated: the file ends before the page does",
        "loop.tif#0": "page 2 is described twice",
    }


def test_a_file_is_not_made_larger_than_it_is(tmp_path: Path) -> None:
    """Strips that all lie in one place, as in an archive that bursts."""
    data = bytearray(tiff(page(0, 64, 64), rows=1))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        counts = file.pages[0].tags[279].valueoffset
    struct.pack_into("<64I", data, counts, *[4000] * 64)
    (tmp_path / "a.tif").write_bytes(bytes(data))
    (item,) = items(Pages(path=tmp_path))
    assert isinstance(item.payload, BadItem)
    assert "lengths of" in item.payload.problem


def test_files_and_spans(tmp_path: Path) -> None:
    write(tmp_path / "b.tif", "grey", range(4))
    write(tmp_path / "a#1.tiff", "grey", range(3))
    (tmp_path / "c.png").write_bytes(b"")
    source = Pages(path=tmp_path)
    assert isinstance(source, OfFiles)
    assert [file.name for file in source.files()] == ["a#1.tiff", "b.tif"]
    assert [list(source.spans(unit)) for unit in source.units(5)] == [[("a#1.tiff", 3), ("b.tif", 2)], [("b.tif", 2)]]
    assert [key for unit in source.units_in(["b.tif"], 3) for key in unit.keys] == [f"b.tif#{at}" for at in range(4)]
    assert dict(source.passed_over().counts) == {".png": 1}
    unit = next(iter(source.units(9)))
    write(tmp_path / "b.tif", "grey", range(2))
    assert [item.key for item in source.read(unit) if isinstance(item.payload, BadItem)] == ["b.tif#2", "b.tif#3"]
    with pytest.raises(SourceError, match="no TIFF files here"):
        items(Pages(path=tmp_path / "*.png"))


def test_a_pool_of_pages(tmp_path: Path) -> None:
    write(tmp_path / "b.tif", "grey", range(4))
    source = {"name": "pages", "path": tmp_path / "b.tif"}
    pool = raysal.embed(source, {"name": "torch:tiny_encoder:build", "size": 8}, out=tmp_path / "pool")
    assert sorted(pool.ids_of([f"b.tif#{number}" for number in range(4)])) == [f"b.tif#{at}" for at in range(4)]
