"""Parts of FITS files, and squares that are cut out of them at the positions of a catalogue."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

import raysal
from raysal.embedding import decode
from raysal.embedding.decode import decode_image
from raysal.errors import BadItem, ConfigError, MissingExtra, SourceError
from raysal.sources import check_keys, detect_source
from raysal.sources.base import OfFiles
from raysal.sources.cutouts import Cutouts
from raysal.sources.fits import Fits
from raysal.sources.fits_images import MAX_PIXELS
from raysal.sources.folder import Folder
from raysal.types import Item

H, W = 40, 50
SKY = (np.arange(H * W).reshape(H, W) * 0.5 - 100).astype(np.float32)


def items(source: Any, chunk_rows: int = 4) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def values_of(item: Item) -> NDArray[Any]:
    """The pixels of an item, lowest row first."""
    if isinstance(item.payload, BadItem):
        raise item.payload
    return np.asarray(getattr(item.payload, "values", item.payload))[::-1]


def bad(found: list[Item]) -> dict[str, str]:
    return {item.key: item.payload.problem for item in found if isinstance(item.payload, BadItem)}


def write(path: Path, *parts: Any) -> Path:
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path, overwrite=True, output_verify="exception")
    return path


# parts of files


def many(path: Path) -> Path:
    """A file of many parts."""
    whole = fits.ImageHDU(np.arange(H * W, dtype=np.int16).reshape(H, W), name="DQ")
    whole.header["BLANK"] = 77
    scaled = fits.ImageHDU(SKY.copy(), name="SCALED")
    scaled.scale("int16", bscale=0.5, bzero=-100)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(3.0))], name="CAT")
    return write(
        path,
        fits.ImageHDU(SKY, name="SCI", ver=1),
        fits.ImageHDU(SKY + 7, name="SCI", ver=2),
        whole,
        scaled,
        fits.CompImageHDU(SKY, name="RICE", compression_type="GZIP_2", quantize_level=0),
        fits.ImageHDU((SKY + 100).astype(np.uint16), name="WIDE"),
        fits.ImageHDU(np.stack([SKY, SKY + 1, SKY + 2]), name="CUBE"),
        fits.ImageHDU(np.zeros((2, 3, 4, 5), np.float32), name="DEEP"),
        fits.ImageHDU(name="EMPTY"),
        table,
    )


@pytest.mark.parametrize(
    ("hdu", "expected"),
    [
        (None, SKY),
        ("SCI", SKY),
        ("SCI,2", SKY + 7),
        ("sci", SKY),
        (1, SKY),
        ("2", SKY + 7),
        ("SCALED", SKY),
        ("RICE", SKY),
        ("WIDE", (SKY + 100).astype(np.uint16)),
    ],
)
def test_a_part_is_chosen_by_name_or_number(hdu: Any, expected: NDArray[Any], tmp_path: Path) -> None:
    many(tmp_path / "a.fits")
    (item,) = items(Fits(path=tmp_path, hdu=hdu))
    assert (item.key, values_of(item).dtype) == ("a.fits", expected.dtype)
    assert np.array_equal(values_of(item), expected)


@pytest.mark.parametrize(
    ("hdu", "problem"),
    [
        ("NONE", r"no part 'NONE'; its parts: 0 PRIMARY \(no data\), 1 SCI \(50 x 40 pixels\)"),
        (99, "no part 99"),
        ("SCI,3", "no part 'SCI,3'"),
        ("CAT", r"no image in its part 'CAT'.* 10 CAT \(a table\)"),
        ("EMPTY", "no image in its part 'EMPTY'"),
        ("DEEP", r"its axes are \(5, 4, 3, 2\)"),
    ],
)
def test_a_part_that_is_no_image_is_said_with_those_that_are(hdu: Any, problem: str, tmp_path: Path) -> None:
    many(tmp_path / "a.fits")
    (item,) = items(Fits(path=tmp_path / "a.fits", hdu=hdu))
    with pytest.raises(BadItem, match=problem):
        values_of(item)


def test_planes_of_a_cube_are_channels(tmp_path: Path) -> None:
    many(tmp_path / "a.fits")
    (item,) = items(Fits(path=tmp_path, hdu="CUBE", stated_range=(-100, 900)))
    assert np.array_equal(values_of(item), np.stack([SKY, SKY + 1, SKY + 2], -1))
    assert np.asarray(decode_image("a", item.payload)).shape == (H, W, 3)
    (item,) = items(Fits(path=tmp_path, hdu="CUBE", channels=(2,)))
    assert np.array_equal(values_of(item), SKY + 2)
    (item,) = items(Fits(path=tmp_path, hdu="CUBE", channels=(3,)))
    assert bad([item]) == {"a.fits": "it has no channel 3, but 0 to 2; correct `channels`"}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_picture_is_the_same_by_both_ways(compressed: bool, tmp_path: Path) -> None:
    """A folder of pictures hands over bytes, and this source reads a part."""
    for name, data in (
        ("wide", (SKY + 100).astype(np.uint16)),
        ("small", np.arange(H * W).reshape(H, W).astype(np.uint8)),
        ("real", SKY),
    ):
        part = (fits.CompImageHDU if compressed else fits.ImageHDU)(data)
        if name == "real":
            part.header["DATAMIN"], part.header["DATAMAX"] = -50.0, 700.0
        write(tmp_path / f"{name}.fits{'.fz' * compressed}", part)
    assert len(items(Folder(path=tmp_path))) == 3
    for one, other in zip(items(Folder(path=tmp_path)), items(Fits(path=tmp_path)), strict=True):
        assert one.key == other.key
        assert np.array_equal(decode_image(one.key, one.payload), decode_image(other.key, other.payload))


def test_pixels_without_a_value_are_never_filled_in(tmp_path: Path) -> None:
    holes = SKY.copy()
    holes[3, 4] = np.nan
    wide = fits.ImageHDU((SKY + 100).astype(np.uint16))
    wide.header["BLANK"] = 10 - 32768
    write(tmp_path / "nan.fits", fits.ImageHDU(holes))
    write(tmp_path / "wide.fits", wide)
    many(tmp_path / "x.fits")
    one = Fits(path=tmp_path / "n*.fits", stated_range=(-100, 900))
    two = Fits(path=tmp_path / "x.fits", hdu="DQ", stated_range=(0, 100))
    for item in (*items(one), *items(two)):
        assert np.isnan(values_of(item)).sum() == 1
        with pytest.raises(BadItem, match="not finite"):
            decode_image(item.key, item.payload)
    assert bad(items(Fits(path=tmp_path / "w*.fits"))) == {
        "wide.fits": "some pixels have no value (BLANK); fill them in"
    }


def test_files_without_data_and_damaged_ones_are_quarantined(tmp_path: Path) -> None:
    write(tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    (tmp_path / "empty.fits").write_bytes(b"")
    good = write(tmp_path / "good.fits", fits.ImageHDU((SKY + 100).astype(np.uint16)))
    (tmp_path / "cut.fits").write_bytes(good.read_bytes()[:-4000])
    write(tmp_path / "packed.fits.fz", fits.CompImageHDU(SKY.astype(np.int32)))
    data = (tmp_path / "packed.fits.fz").read_bytes()
    (tmp_path / "packed.fits.fz").write_bytes(data[:-2880])
    found = bad(items(Fits(path=tmp_path)))
    assert set(found) == {"none.fits", "text.fits", "empty.fits", "cut.fits", "packed.fits.fz"}
    assert "no image in this FITS file" in found["none.fits"]
    encoder = {"name": "torch:tiny_encoder:build", "size": 8}
    assert len(raysal.embed(Fits(path=tmp_path), encoder, out=tmp_path.parent / "pool", max_quarantine=1)) == 1


def test_without_the_extra_it_is_named(sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Cutouts(catalogue=of_csv(tmp_path, {"key": KEYS, "x": X, "y": Y}), path=sky, size=3)
    for name in [name for name in sys.modules if name.partition(".")[0] == "astropy"]:
        monkeypatch.setitem(sys.modules, name, None)
    for source in (cut, Fits(path=sky)):
        unit = next(iter(source.units(9)))
        with pytest.raises(MissingExtra, match=r"the module 'astropy' is not installed; pip install 'raysal\[fits\]'"):
            list(source.read(unit))


def test_one_file_is_a_source_and_so_is_a_folder(tmp_path: Path) -> None:
    many(tmp_path / "a.fits.fz")
    assert detect_source(tmp_path / "a.fits.fz") == Fits(path=tmp_path / "a.fits.fz")
    assert detect_source(tmp_path, hdu="SCI") == Fits(path=tmp_path, hdu="SCI")
    assert isinstance(detect_source(tmp_path), Folder)
    with pytest.raises(SourceError, match="no FITS files here"):
        items(Fits(path=tmp_path / "*.png"))
    assert MAX_PIXELS == decode.MAX_PIXELS


# cut-outs


X = [10.0, 25.2, 40.6, 3.0, 50.0, -30.0, 25.0]
Y = [10.0, 20.7, 30.5, 20.0, 40.0, 20.0, 1.0]
KEYS = [f"star {row}" for row in range(len(X))]


def of_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path / "c.parquet", row_group_size=3)
    return path / "c.parquet"


def of_csv(path: Path, columns: dict[str, Any]) -> Path:
    with (path / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return path / "c.csv"


def of_fits(path: Path, columns: dict[str, Any]) -> Path:
    Table(columns).write(path / "c.fits", overwrite=True)
    return path / "c.fits"


CATALOGUES: dict[str, Callable[[Path, dict[str, Any]], Path]] = {"parquet": of_parquet, "csv": of_csv, "fits": of_fits}


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return write(tmp_path / "images" / "sky.fits", fits.ImageHDU(SKY, name="SCI"))


@pytest.mark.parametrize("kind", CATALOGUES)
def test_each_row_of_a_catalogue_is_a_square_of_the_image(kind: str, sky: Path, tmp_path: Path) -> None:
    path = CATALOGUES[kind](tmp_path, {"key": KEYS, "x": X, "y": Y, "mag": [20.5] * len(X)})
    for size in (1, 4, 5):
        for chunk_rows in (2, 100):
            found = items(Cutouts(catalogue=path, path=sky, size=size, carry=("mag",)), chunk_rows)
            assert [item.key for item in found] == KEYS
            assert {float(item.carried["mag"]) for item in found} == {20.5}
            for item, x, y in zip(found, X, Y, strict=True):
                try:
                    cut = Cutout2D(SKY, (x - 1, y - 1), size, mode="strict").data
                except Exception:
                    assert isinstance(item.payload, BadItem), item
                else:
                    assert np.array_equal(values_of(item), cut)
    problems = bad(items(Cutouts(catalogue=path, path=sky, size=9)))
    assert set(problems) == {"star 3", "star 4", "star 5", "star 6"}
    assert problems["star 5"].endswith("x = -30, y = 20 lies outside of the image of 50 x 40 pixels")
    assert "x = 50, y = 40 reaches beyond the border of the image" in problems["star 4"]


def test_what_lies_beyond_the_border_is_a_stated_number(sky: Path, tmp_path: Path) -> None:
    path = of_csv(tmp_path, {"key": KEYS, "x": X, "y": Y})
    found = items(Cutouts(catalogue=path, path=sky, size=9, pad=-1.5))
    assert set(bad(found)) == {"star 5"}
    for item, x, y in zip(found, X, Y, strict=True):
        if item.key != "star 5":
            cut = Cutout2D(SKY, (x - 1, y - 1), 9, mode="partial", fill_value=-1.5).data
            assert np.array_equal(values_of(item), cut)
    wide = write(tmp_path / "wide.fits", fits.ImageHDU((SKY + 100).astype(np.uint16)))
    assert "pad = -1.5 is no uint16" in bad(items(Cutouts(catalogue=path, path=wide, size=9, pad=-1.5)))["star 3"]


def test_positions_count_from_one_or_from_zero(sky: Path, tmp_path: Path) -> None:
    path = of_csv(tmp_path, {"id": [7], "X": [1], "Y": [2]})
    names = {"key_column": "id", "x_column": "X", "y_column": "Y", "size": 1}
    (one,) = items(Cutouts(catalogue=path, path=sky, **names))
    (zero,) = items(Cutouts(catalogue=path, path=sky, origin=0, **names))
    assert (one.key, values_of(one)[0, 0], values_of(zero)[0, 0]) == ("7", SKY[1, 0], SKY[2, 1])


@pytest.mark.parametrize("compressed", [False, True])
def test_positions_in_the_sky_go_through_the_wcs(compressed: bool, tmp_path: Path) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (
        ["RA---TAN", "DEC--TAN"],
        [359.999, 60],
        [25, 20],
        [-1e-4, 1e-4],
    )
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    part = kind(
        SKY, header=wcs.to_header(), **({"compression_type": "GZIP_1", "quantize_level": 0} if compressed else {})
    )
    image = write(tmp_path / "sky.fits", part)
    ra, dec = wcs.all_pix2world(X, Y, 1)
    path = of_parquet(
        tmp_path, {"key": [*KEYS, "behind", "nan"], "ra": [*ra, 180.0, np.nan], "dec": [*dec, -60.0, 1.0]}
    )
    by_sky = items(Cutouts(catalogue=path, path=image, size=5, ra_column="ra", dec_column="dec"))
    by_pixel = items(Cutouts(catalogue=of_csv(tmp_path, {"key": KEYS, "x": X, "y": Y}), path=image, size=5))
    for one, other in zip(by_sky, by_pixel, strict=False):
        assert type(one.payload) is type(other.payload)
        assert isinstance(one.payload, BadItem) or np.array_equal(values_of(one), values_of(other))
    assert "lies outside of the image" in bad(by_sky)["behind"]
    assert bad(by_sky)["nan"] == "column 'ra' is nan"
    plain = write(tmp_path / "plain.fits", fits.ImageHDU(SKY))
    problems = bad(items(Cutouts(catalogue=path, path=plain, size=5, ra_column="ra", dec_column="dec")))
    assert "does not say where in the sky it is (WCS)" in problems["star 0"]


def test_a_column_names_the_image_of_each_row(sky: Path, tmp_path: Path) -> None:
    write(tmp_path / "images" / "b.fits", fits.ImageHDU(SKY + 1, name="SCI"))
    write(tmp_path / "images" / "none.fits")
    write(tmp_path / "secret.fits", fits.ImageHDU(SKY))
    names = ["b.fits", "sky.fits", "none.fits", "gone.fits", "../secret.fits", str(tmp_path / "secret.fits"), ""]
    path = of_csv(tmp_path, {"key": KEYS, "x": [9] * 7, "y": [9] * 7, "file": names})
    with pytest.raises(SourceError, match=r"several images here \(b.fits, none.fits ...\), .*source.image_column"):
        items(Cutouts(catalogue=path, path=sky.parent, size=3))
    found = items(Cutouts(catalogue=path, path=sky.parent, size=3, image_column="file"))
    assert [values_of(item)[1, 1] for item in found[:2]] == [SKY[8, 8] + 1, SKY[8, 8]]
    problems = bad(found)
    assert [*problems] == KEYS[2:]
    assert dict(Cutouts(catalogue=path, path=tmp_path, size=3).passed_over().counts) == {".csv": 1}
    assert problems["star 2"].startswith("none.fits: no image in this FITS file")
    assert all("there is no FITS file" in problems[key] for key in KEYS[3:])


def test_rows_that_are_no_positions_are_quarantined_by_name(sky: Path, tmp_path: Path) -> None:
    path = of_csv(tmp_path, {"key": ["a", "b", "c", "d"], "x": ["9", "", "12px", "inf"], "y": [9] * 4})
    assert bad(items(Cutouts(catalogue=path, path=sky, size=3))) == {
        "b": "column 'x' is '', which is no number",
        "c": "column 'x' is '12px', which is no number",
        "d": "column 'x' is 'inf'",
    }
    path = of_parquet(tmp_path, {"key": ["a", "b"], "x": [9, None], "y": [9.0, 9.0]})
    assert bad(items(Cutouts(catalogue=path, path=sky, size=3))) == {"b": "column 'x' is None, which is no number"}


def test_what_is_wrong_with_a_catalogue_is_said(sky: Path, tmp_path: Path) -> None:
    path = of_csv(tmp_path, {"key": ["a", "a"], "x": [9, 9], "y": [9, 9]})
    with pytest.raises(SourceError, match="duplicate keys: a"):
        check_keys(Cutouts(catalogue=path, path=sky, size=3), 10)
    with pytest.raises(SourceError, match=r"no column 'X'; its columns: key, x, y; choose one with source.x_column"):
        items(Cutouts(catalogue=path, path=sky, size=3, x_column="X"))
    with pytest.raises(SourceError, match="no table in this FITS file"):
        items(Cutouts(catalogue=sky, path=sky, size=3))
    (tmp_path / "c.csv").write_text("key,x,y\na,1\n")
    with pytest.raises(SourceError, match="a line of 2 cells, where the header has 3"):
        items(Cutouts(catalogue=path, path=sky, size=3))
    for fields in (
        {"size": 0},
        {"size": 3, "ra_column": "ra"},
        {"size": 3, "carry": ("key",)},
        {"size": 3, "origin": 2},
    ):
        with pytest.raises(ConfigError):
            Cutouts(catalogue=path, path=sky, **fields)


def test_a_changed_image_is_a_changed_file(sky: Path, tmp_path: Path) -> None:
    source = Cutouts(catalogue=of_csv(tmp_path, {"key": KEYS, "x": X, "y": Y}), path=sky, size=3)
    assert isinstance(source, OfFiles)
    before, stamp = list(source.files()), source.stamp()
    assert [one.name for one in before] == ["c.csv"]
    assert [list(source.spans(unit)) for unit in source.units_in(["c.csv"], 4)] == [[("c.csv", 4)], [("c.csv", 3)]]
    assert not list(source.units_in([], 4))
    sky.write_bytes(sky.read_bytes())
    assert list(source.files()) != before
    assert source.stamp().digest != stamp.digest


def test_a_pool_of_cut_outs_from_a_config(sky: Path, tmp_path: Path) -> None:
    of_csv(tmp_path, {"key": KEYS, "x": X, "y": Y})
    source = {"name": "cutouts", "catalogue": tmp_path / "c.csv", "path": sky, "size": 8, "stated_range": [-100, 900]}
    pool = raysal.embed(
        source, {"name": "torch:tiny_encoder:build", "size": 8}, out=tmp_path / "pool", max_quarantine=1
    )
    assert set(pool.ids_there(KEYS)) == {"star 0", "star 1", "star 2"}
