"""Channels by name and the stretch: every format, every encoder, what a pool keeps, and what is quarantined."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import astropy
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from astropy.io import fits
from astropy.visualization import AsinhStretch, MinMaxInterval, PercentileInterval, ZScaleInterval
from astropy.wcs import WCS
from cli_tools import cli, refused
from growing_pools import held
from numpy.typing import NDArray
from PIL import Image
from tiers import deep_unless, one_of_each
from tiny_finetuned import write_tiny_model

import raysal
from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.embedding.custom import Torch
from raysal.embedding.decode import decode_image
from raysal.embedding.finetuned import FineTuned, ModelRecord
from raysal.embedding.job import embed
from raysal.embedding.precision import MOST_SLOWER, times_as_long
from raysal.embedding.queries import encoder_of_pool
from raysal.embedding.recorded import encoder_fields, source_fields
from raysal.embedding.rendering import PLAIN, Rendering, Renders, rendering_in
from raysal.embedding.stretch import STRETCHES, Asinh, Linear, stretch_of
from raysal.embedding.torch_model import weights_sha256
from raysal.errors import BadItem, ConfigError, FingerprintMismatch, SourceError
from raysal.pool import Pool
from raysal.pool.contents import item_digest
from raysal.report.thumbnails import read_gallery
from raysal.rounds.run_labels import RunLabels
from raysal.sources import detect_source
from raysal.sources.array import Array
from raysal.sources.base import Source
from raysal.sources.cutouts import Cutouts
from raysal.sources.fits import Fits
from raysal.sources.folder import Folder
from raysal.sources.memory import Memory
from raysal.sources.npy import Npy
from raysal.store import digest_of, write_sealed
from raysal.types import Cut, Item, Pixels, Whole
from raysal.web.catalogue import Entry
from raysal.web.media import Media
from raysal.web.payloads import Payloads

SIDE = 12
BANDS = ("G", "I", "R", "H")
"""In this order in every file; encoders ask for another one."""
WANTED = ("I", "R", "G")
PLACES = [BANDS.index(name) for name in WANTED]
ASINH = Asinh(softening=0.2, low=1, high=99)


def sky(count: int = 2, kind: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    """Pictures [n, 4, h, w], the highest row first, of which no two rows or columns are alike."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 5, (count, len(BANDS), SIDE, SIDE)) + rng.exponential(30, (count, len(BANDS), 1, SIDE))
    values *= np.array([1, 3, 9, 27])[:, None, None]
    return values.astype(kind) if np.dtype(kind).kind == "f" else np.rint(values).astype(kind)


def seen(planes: NDArray[Any], places: list[int] = PLACES) -> NDArray[np.uint8]:
    """What an encoder gets of planes [4, h, w], by astropy: [h, w, 3]."""
    limits, curve = PercentileInterval(98), AsinhStretch(0.2)
    return np.stack([np.rint(255 * curve(limits(planes[at].astype(np.float64)))) for at in places], -1).astype(np.uint8)


def mef(path: Path, planes: NDArray[Any], names: tuple[str, ...] = BANDS, *, packed: bool = False) -> Path:
    """A file with an extension for each plane, by astropy."""
    kind = fits.CompImageHDU if packed else fits.ImageHDU
    more = {"compression_type": "GZIP_2", "quantize_level": 0} if packed and planes.dtype.kind == "f" else {}
    parts = [kind(plane[::-1], name=name, **more) for plane, name in zip(planes, names, strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path, overwrite=True)
    return path


def cube(path: Path, planes: NDArray[Any]) -> Path:
    fits.PrimaryHDU(planes[:, ::-1]).writeto(path, overwrite=True)
    return path


def stored(path: Path, values: NDArray[Any], version: int, names: bool, axes: tuple[str, ...]) -> Path:
    """A dataset of images in HDF5 (0) or a Zarr store."""
    if version == 0:
        with h5py.File(path, "w") as file:
            made = file.create_dataset("images", data=values)
            if names:
                made.attrs["band_names"] = list(BANDS)
            for at, name in enumerate(axes):
                made.dims[at].label = name
        return path
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    more: dict[str, Any] = {"dimension_names": axes} if version == 3 else {}
    attributes = {"channel_names": list(BANDS)} if names else {}
    attributes |= {"_ARRAY_DIMENSIONS": list(axes)} if version == 2 else {}
    group.create_array("images", data=values, attributes=attributes, **more)
    return path


NUMBERS = tuple(map(str, PLACES))
Make = Callable[[Path, NDArray[Any]], tuple[Source, tuple[str, ...]]]


def folder_of(write: Callable[[Path, NDArray[Any]], object], suffix: str, names: tuple[str, ...] = WANTED) -> Make:
    """A folder of a file for each picture."""

    def make(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
        path.mkdir()
        for at, planes in enumerate(given):
            write(path / f"{at}{suffix}", planes)
        return (Fits if suffix == ".FITS" else Folder)(path=path), names

    return make


def parts_of_fits(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    path.mkdir()
    for at, planes in enumerate(given):
        mef(path / f"{at}.fits", planes)
    return Fits(path=path, hdu=("H", "G", 3, "I")), WANTED


def named_cubes(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    path.mkdir()
    for at, planes in enumerate(given):
        cube(path / f"{at}.fits", planes)
    return Fits(path=path, channel_names=BANDS, channels=(3, 2, 1, 0)), WANTED


def cutouts(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    """One mosaic, the pictures beside each other."""
    path.mkdir()
    mosaic = np.concatenate(list(given), axis=2)
    mef(path / "sky.fits", mosaic)
    x = [SIDE * at + SIDE / 2 - 0.5 for at in range(len(given))]
    rows = {"key": list(map(str, range(len(given)))), "x": x, "y": [SIDE / 2 - 0.5] * len(given)}
    pq.write_table(pa.table(rows), path / "stars.parquet")
    table, parts = path / "stars.parquet", ("I", "G", "R")
    return Cutouts(path=path / "sky.fits", catalogue=table, size=SIDE, origin=0, hdu=parts), WANTED


def cutouts_of_files(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    """A mosaic in a file for each band, each with other borders, and so with the sky at another place."""
    path.mkdir()
    mosaic = np.concatenate(list(given), axis=2)
    sky_of: dict[str, WCS] = {}
    for border, (name, plane) in enumerate(zip(BANDS, mosaic, strict=True), 1):
        sky_of[name] = wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [-1e-4, 1e-4], [150.0, 2.0]
        wcs.wcs.crpix = [border + 1, 2 * border + 1]
        wide = np.pad(plane[::-1], ((2 * border, 3), (border, 0)))
        fits.PrimaryHDU(wide, wcs.to_header()).writeto(path / f"{name}.fits")
    x = [SIDE * at + SIDE / 2 - 0.5 for at in range(len(given))]
    ra, dec = sky_of["G"].all_pix2world(np.array(x) + 1, np.full(len(x), SIDE / 2 - 0.5 + 2), 0)
    files = {column: [f"{name}.fits"] * len(x) for column, name in (("u", "R"), ("v", "I"), ("w", "G"))}
    rows = {"key": list(map(str, range(len(x)))), "ra": ra, "dec": dec, **files}
    pq.write_table(pa.table(rows), path.with_suffix(".parquet"))
    how = {"ra_column": "ra", "dec_column": "dec", "image_column": ("u", "v", "w"), "channel_names": ("R", "I", "G")}
    return Cutouts(path=path, catalogue=path.with_suffix(".parquet"), size=SIDE, **how), WANTED  # type: ignore[arg-type]


def array_of(version: int, *, last: bool, names: bool = True, **fields: Any) -> Make:
    def make(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
        axes = ("n", "y", "x", "channel") if last else ("n", "channel", "y", "x")
        place = path.with_suffix(".zarr" if version else ".h5")
        stored(place, np.moveaxis(given, 1, -1) if last else given, version, names, axes)
        return Array(path=place, **fields), WANTED if names or fields else NUMBERS

    return make


def bands(path: Path, planes: NDArray[Any]) -> None:
    tifffile.imwrite(path, np.moveaxis(planes, 0, -1), photometric="minisblack", planarconfig="contig")


def separate(path: Path, planes: NDArray[Any]) -> None:
    tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate", compression="zlib")


def rgb_and_more(path: Path, planes: NDArray[Any]) -> None:
    """Red, green, blue and one band of which nobody says that it is alpha."""
    tifffile.imwrite(path, np.moveaxis(planes, 0, -1), photometric="rgb", extrasamples=("unspecified",))


def of_npy(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    np.save(path.with_suffix(".npy"), given)
    source = detect_source(path.with_suffix(".npy"), axes="chw", channel_names=BANDS)
    assert isinstance(source, Array)
    return source, WANTED


def npy_each(path: Path, given: NDArray[Any]) -> tuple[Source, tuple[str, ...]]:
    """A file for each picture [h, w, c]."""
    path.mkdir()
    for at, planes in enumerate(given):
        np.save(path / f"{at}.npy", np.moveaxis(planes, 0, -1))
    return detect_source(f"{path}/*.npy", axes="hwc"), NUMBERS


FORMATS: dict[str, Make] = {
    "FITS extensions": folder_of(mef, ".fits"),
    "FITS extensions, compressed": folder_of(lambda path, planes: mef(path, planes, packed=True), ".fits.fz"),
    "FITS extensions, without names": folder_of(
        lambda path, planes: mef(path, planes, ("",) * 4), ".fits", ("2", "3", "1")
    ),
    "FITS parts of a source": parts_of_fits,
    "FITS cubes": folder_of(cube, ".fits", NUMBERS),
    "FITS cubes of a source": folder_of(cube, ".FITS", NUMBERS),
    "FITS cubes with names": named_cubes,
    "cut-outs": cutouts,
    "cut-outs of a file each": cutouts_of_files,
    "TIFF pages": folder_of(
        lambda path, planes: tifffile.imwrite(path, planes, photometric="minisblack"), ".tif", NUMBERS
    ),
    "TIFF bands": folder_of(bands, ".tif", NUMBERS),
    "TIFF planes": folder_of(separate, ".tif", NUMBERS),
    "TIFF RGB and more": folder_of(rgb_and_more, ".tif", ("G", "B", "R")),
    "Zarr 2, last": array_of(2, last=True),
    "Zarr 3, first": array_of(3, last=False),
    "Zarr 3, named by the source": array_of(3, last=False, names=False, channel_names=BANDS),
    "HDF5, first": array_of(0, last=False),
    "HDF5, without names": array_of(0, last=True, names=False),
    "npy": of_npy,
    "npy, one each": npy_each,
    "NumPy": lambda path, given: (Memory(images=list(np.moveaxis(given, 1, -1)), keys=range(len(given))), NUMBERS),
}
KINDS = (np.float32, np.uint16, np.int16)


def looking(names: tuple[str, ...] = WANTED, stretch: Any = ASINH, **fields: Any) -> Torch:
    return Torch(arg="tiny_models:weighted", size=SIDE, channels=names, stretch=stretch, **fields)


def items(source: Source) -> list[Item]:
    return [item for unit in source.units(4) for item in source.read(unit)]


@pytest.mark.parametrize(("form", "kind"), one_of_each(product(FORMATS, KINDS)))
def test_an_encoder_sees_its_channels_in_its_order(form: str, kind: Any, tmp_path: Path) -> None:
    given = sky(2, kind)
    source, names = FORMATS[form](tmp_path / "x", given)
    encoder = looking(names)
    found = items(source)
    assert len(found) == 2
    for item, planes in zip(found, given, strict=True):
        assert np.array_equal(encoder.prepare(item.key, item.payload), seen(planes))
        one = looking(names[:1]).prepare(item.key, item.payload)
        assert np.array_equal(one, seen(planes, PLACES[:1] * 3)), "one name is grey"
        turned = looking(names[::-1]).prepare(item.key, item.payload)
        assert np.array_equal(turned, seen(planes, PLACES[::-1]))
        assert not np.array_equal(turned, seen(planes)), "the order matters"
        with pytest.raises(BadItem, match=r"no channel 'Q'; its channels: \w") as caught:
            looking(("Q", *names[:2])).prepare(item.key, item.payload)
        assert all(name in caught.value.problem for name in names)


@pytest.mark.parametrize("form", ["FITS cubes", "TIFF bands", "NumPy", "Zarr 2, last"])
def test_of_more_channels_than_it_takes_an_encoder_asks_which(form: str, tmp_path: Path) -> None:
    source, _ = FORMATS[form](tmp_path / "x", sky())
    item = items(source)[0]
    with pytest.raises(BadItem, match=r"4 channels \(.*\), and an encoder takes 1 or 3; say which"):
        looking(()).prepare(item.key, item.payload)


def test_a_square_lacks_what_one_of_its_images_lacks(tmp_path: Path) -> None:
    source, _ = cutouts_of_files(tmp_path / "x", sky())
    assert isinstance(source, Cutouts)
    assert items(source)[0].uri == "R.fits, I.fits, G.fits"
    named = dataclasses.replace(source, channel_names=())
    assert [item.payload.channels for item in items(named)] == [("u", "v", "w")] * 2
    (tmp_path / "x" / "I.fits").unlink()
    assert ["there is no FITS file 'I.fits'" in item.payload.problem for item in items(source)] == [True, True]
    fits.writeto(tmp_path / "x" / "I.fits", sky(1)[0, 0], fits.getheader(tmp_path / "x" / "R.fits"))
    *_, second = items(source)
    assert second.payload.problem.startswith("v: the square around")
    refused_fields: list[dict[str, Any]] = [{"channels": (0,)}, {"hdu": (0, 1)}, {"channel_names": ("a", "b")}]
    for wrong in refused_fields:
        with pytest.raises(ConfigError, match=f"source.{next(iter(wrong))}"):
            dataclasses.replace(source, **wrong)


def test_without_a_stretch_channels_have_the_range_that_is_stated(tmp_path: Path) -> None:
    given = sky(1, np.uint16)
    source, names = FORMATS["Zarr 3, first"](tmp_path / "x", given)
    (item,) = items(source)
    expected = np.rint(np.stack([given[0, at] for at in PLACES], -1) * (255 / 65535))
    assert np.array_equal(looking(names, None).prepare("0", item.payload), expected)
    (item,) = items(dataclasses.replace(source, stated_range=(0, 4095)))  # type: ignore[type-var]
    expected = np.rint(np.clip(np.stack([given[0, at] for at in PLACES], -1) * (255 / 4095), 0, 255))
    assert np.array_equal(looking(names, None).prepare("0", item.payload), expected)
    source, names = FORMATS["FITS extensions"](tmp_path / "y", sky(1, np.float32))
    with pytest.raises(BadItem, match=r"no fixed range; .* choose a `stretch`"):
        looking(names, None).prepare("0", items(source)[0].payload)


SKIES = Path(astropy.__file__).parent
REAL = {
    "globular cluster": ("io/fits/hdu/compressed/tests/data/m13.fits", 0),
    "the same, compressed": ("io/fits/hdu/compressed/tests/data/m13_rice.fits", 1),
    "pixels without a number": ("io/fits/hdu/compressed/tests/data/compressed_with_nan.fits", 1),
    "spectrum of a slit": ("io/fits/tests/data/o4sp040b0_raw.fits", 1),
}
"""Images that astropy's own tests have."""


@pytest.mark.parametrize("name", REAL)
def test_real_skies_are_as_astropy_shows_them(name: str) -> None:
    """Of both ways that a FITS file is read, with its lowest row in its place."""
    file, hdu = REAL[name]
    path = SKIES / file
    if not path.exists():
        pytest.skip(f"this astropy has no {file}")
    with fits.open(path) as opened:
        data = opened[hdu].data.astype(np.float64)
    (item,) = items(Fits(path=path, hdu=hdu))
    percentiles = PercentileInterval(99.5)
    expected = {
        "linear": MinMaxInterval()(data),
        "percentile": percentiles(data),
        "zscale": ZScaleInterval()(data),
        "asinh": AsinhStretch(0.1)(percentiles(data)),
    }
    for stretch, shares in expected.items():
        rendering = Rendering(stretch=stretch_of(stretch))
        levels = 255 * np.nan_to_num(shares)[::-1]
        for payload in (item.payload, path.read_bytes()):
            grey = np.asarray(decode_image("x", payload, 0, rendering))[..., 0]
            assert np.abs(grey - levels).max() < 0.501
            assert stretch == "zscale" or np.array_equal(grey, np.rint(levels))


def test_parts_of_several_types_and_sizes(tmp_path: Path) -> None:
    """Types are joined where nothing is lost; sizes are not mended."""
    given = sky(1)[0]
    parts = [fits.ImageHDU(given[0, ::-1].astype(np.int16), name="A"), fits.ImageHDU(given[1, ::-1], name="B")]
    parts += [fits.ImageHDU(given[2, ::-2], name="HALF"), fits.ImageHDU(given[3, ::-1].astype(np.int64), name="LONG")]
    parts += [fits.ImageHDU(given[2, ::-1], name="B", ver=2), fits.BinTableHDU.from_columns([], name="T")]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "a.fits")
    data = (tmp_path / "a.fits").read_bytes()
    mixed = np.stack([given[0].astype(np.int16), given[1], given[2], given[0]]).astype(np.float64)
    got = looking(("A", "B", "B,2")).prepare("a", data)
    assert np.array_equal(got, seen(mixed, [0, 1, 2]))
    for names, problem in (
        (("A", "B", "HALF"), "not flat and of one size: A 12 x 12, B 12 x 12, HALF 12 x 6"),
        (("A", "B", "LONG"), "int16, float32, int64, which no type holds"),
        (("A", "B", "T"), "no channel 'T'; its channels: A, B, HALF, LONG, B,2"),
        (("A", "B", "b"), "no channel 'b'"),
    ):
        with pytest.raises(BadItem, match=problem):
            looking(names).prepare("a", data)
    with pytest.raises(BadItem, match="is named twice"):
        raise items(Fits(path=tmp_path, hdu=("A", 1)))[0].payload
    tifffile.imwrite(tmp_path / "b.tif", given[0], photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", given[1, ::2], photometric="minisblack", append=True)
    tifffile.imwrite(tmp_path / "b.tif", given[1].astype(np.uint16), photometric="minisblack", append=True)
    data = (tmp_path / "b.tif").read_bytes()
    assert np.array_equal(looking(("0",)).prepare("b", data), seen(given, [0] * 3))
    for names, problem in (
        (("0", "1", "0"), "not of one size: 0 12 x 12, 1 12 x 6"),
        (("0", "2", "0"), "several types"),
    ):
        with pytest.raises(BadItem, match=problem):
            looking(names).prepare("b", data)


def test_an_npy_file_is_images_or_vectors_by_its_axes(tmp_path: Path) -> None:
    given = np.arange(6 * 7 * 5 * 3).reshape(6, 7, 5, 3).astype(np.uint8)
    np.save(tmp_path / "rows.npy", given)
    source = detect_source(tmp_path / "rows.npy")
    assert [item.key for item in items(source)] == list("012345")
    assert np.array_equal([item.payload for item in items(source)], given)
    assert embed(source, Torch(arg="tiny_models:weighted", size=8), tmp_path / "pool").items == 6
    np.save(tmp_path / "one.npy", given[0])
    with pytest.raises(SourceError, match="may be grey images, or one of several channels; set `axes`"):
        items(detect_source(tmp_path / "one.npy"))
    (item,) = items(detect_source(tmp_path / "one.npy", axes="hwc"))
    assert np.array_equal(item.payload, given[0])
    assert [item.payload.shape for item in items(detect_source(tmp_path / "one.npy", axes="hw"))] == [(5, 3)] * 7
    for shape in ((6, 20), (6, 1, 20)):
        np.save(tmp_path / "v.npy", np.zeros(shape, np.float32))
        assert isinstance(detect_source(tmp_path / "v.npy"), Npy)
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "rows.npy", given)
    with pytest.raises(SourceError, match="name images by a pattern"):
        items(detect_source(tmp_path / "more"))
    found = items(detect_source(tmp_path / "more" / "*.npy"))
    assert [item.key for item in found][:2] == ["rows.npy:0", "rows.npy:1"]
    np.save(tmp_path / "o.npy", np.array([[[None]]] * 3, object))
    with pytest.raises(SourceError, match="Python objects"):
        items(detect_source(tmp_path / "o.npy"))


def test_ordinary_pictures_are_stretched_too() -> None:
    rng = np.random.default_rng(1)
    colours = rng.integers(40, 90, (SIDE, SIDE, 3)).astype(np.uint8)
    planes = np.moveaxis(colours, -1, 0)
    for form in ("PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(colours).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
        assert np.array_equal(looking(()).prepare("x", file.getvalue()), seen(planes, [0, 1, 2]))
        assert np.array_equal(looking(("B",)).prepare("x", file.getvalue()), seen(planes, [2, 2, 2]))
    file = io.BytesIO()
    Image.fromarray(colours).resize((400, 300)).save(file, "JPEG", quality=90)
    fast = Choice(name="efficientnet_lite0:fast", size=32, stretch="linear").build("encoder", ENCODERS)
    whole = np.asarray(decode_image("x", file.getvalue(), 0, Rendering(stretch=Linear())))
    assert (whole.min(), whole.max()) == (0, 255)
    plain = Choice(name="efficientnet_lite0:fast", size=32).build("encoder", ENCODERS)
    assert np.array_equal(fast.prepare("x", file.getvalue()), plain.prepare("x", whole)), "decoded at full size"
    wide = rng.integers(30_000, 31_000, (SIDE, SIDE)).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    assert np.array_equal(looking(()).prepare("x", file.getvalue()), seen(wide[None], [0] * 3)), "all 16 bits count"
    with pytest.raises(BadItem, match="no channel 'R'; its channels: 0"):
        looking(("R", "G", "B")).prepare("x", file.getvalue())
    palette = Image.fromarray(colours).quantize(4)
    file = io.BytesIO()
    palette.save(file, "TIFF")
    assert np.array_equal(
        looking(()).prepare("x", file.getvalue()),
        seen(np.moveaxis(np.asarray(palette.convert("RGB")), -1, 0), [0, 1, 2]),
    )


@pytest.mark.parametrize("bits", [1, 4, 12])
@pytest.mark.parametrize("zero", ["minisblack", "miniswhite"])
def test_a_tiff_of_few_bits_is_its_numbers(bits: int, zero: str) -> None:
    values = np.random.default_rng(2).integers(0, 2**bits, (SIDE, SIDE)).astype(np.uint8 if bits < 9 else np.uint16)
    values[0, :2] = 0, 2**bits - 1
    file = io.BytesIO()
    tifffile.imwrite(file, values.astype(bool) if bits == 1 else values, photometric=zero, bitspersample=bits)
    light = values if zero == "minisblack" else 2**bits - 1 - values
    expected = np.rint(light * (255 / (2**bits - 1)))
    for stretch in (None, Linear()):
        got = looking(("0",), stretch).prepare("x", file.getvalue())[..., 0]
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_upright(orientation: int) -> None:
    values = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack", extratags=[(274, "H", 1, orientation)])
    plain = np.asarray(decode_image("x", file.getvalue()))
    rendered = np.asarray(decode_image("x", file.getvalue(), 0, Rendering(channels=("0",))))
    assert np.array_equal(plain, rendered)


def test_a_part_of_a_picture_looks_as_in_the_whole() -> None:
    values = np.moveaxis(sky(1)[0], 0, -1)
    whole = Whole(Pixels(values=values, channels=BANDS), 1)
    cut = looking().prepare("x", Cut(whole=whole, box=(2, 3, 8, 9)))
    direct = decode_image("x", Pixels(values=values, channels=BANDS), 0, looking().rendering).crop((2, 3, 8, 9))
    assert np.array_equal(cut, np.asarray(direct.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))


# encoders and their fingerprints


def built(name: str, tmp_path: Path, **fields: Any) -> Any:
    own: dict[str, Any] = {"efficientnet_lite0": {"size": 32}, "torch": {"arg": "tiny_models:weighted", "size": 16}}
    own = own.get(name, {"arg": str(tmp_path / "model")})
    if name == "finetuned" and not (tmp_path / "model").exists():
        write_tiny_model(tmp_path / "model", "with_norms")
    return Choice(name=name, **own, **fields).build("encoder", ENCODERS)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "finetuned", "torch"])
def test_by_default_an_encoder_is_what_it_was(name: str, tmp_path: Path) -> None:
    """Older pools know neither field: name, config, preprocessing and fingerprint are those of before."""
    encoder = built(name, tmp_path)
    said = json.dumps([encoder_fields(encoder), encoder.preprocessing()])
    assert not any(f'"{word}"' in said for word in ("channels", "stretch", "rendering"))
    if name != "finetuned":
        assert built(name, tmp_path, channels=(), stretch=None).fingerprint() == encoder.fingerprint()
    if isinstance(encoder, Torch):
        from tiny_models import weighted

        before: dict[str, Any] = {"resize": "stretched to a square, Pillow bicubic", "size": 16}
        before |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        assert encoder.fingerprint() == digest_of({"weights": weights_sha256(weighted()), "preprocessing": before})
        config = {key: value for key, value in before.items() if key != "resize"}
        assert json.loads(json.dumps(encoder_fields(encoder)[1])) == config


def test_every_encoder_of_pictures_has_the_fields() -> None:
    pictures = {name for name in ENCODERS if issubclass(ENCODERS[name], Renders)}
    assert pictures == {"efficientnet_lite0", "open_clip", "timm", "torch"}, "finetuned has those of its model"


@pytest.mark.parametrize("name", deep_unless(["torch"], ["efficientnet_lite0", "torch"]))
def test_channels_and_stretch_are_in_the_fingerprint(name: str, tmp_path: Path) -> None:
    some: list[dict[str, Any]] = [{"channels": ["a"]}, {"channels": ["a", "b", "c"]}, {"channels": ["c", "b", "a"]}]
    some += [{"stretch": one} for one in STRETCHES]
    some += [{"stretch": {"name": one, "together": True}} for one in STRETCHES]
    some += [{"stretch": {"name": "asinh", "softening": 0.2}}, {"channels": ["a"], "stretch": "asinh"}, {}]
    made = [built(name, tmp_path, **fields) for fields in some]
    assert len({one.fingerprint() for one in made}) == len(made)
    for one in made:
        called, fields = encoder_fields(one)
        again = Choice(name=called, **json.loads(json.dumps(fields))).build("encoder", ENCODERS)
        assert again == one, "a pool gives the encoder back"
        assert rendering_in(json.loads(json.dumps(one.preprocessing()))) == one.rendering
    assert built(name, tmp_path, channels="7").fingerprint() == built(name, tmp_path, channels=7).fingerprint()
    assert rendering_in({"rendering": "of another's"}) == rendering_in({"rendering": {"stretch": "log"}}) == PLAIN
    for wrong in (["a", "b"], ["a", "b", "c", "d"], ["a", "", "c"]):
        with pytest.raises(ConfigError, match=r"encoder\.channels"):
            built(name, tmp_path, channels=wrong)


def test_a_model_keeps_what_its_network_was_trained_to_see(tmp_path: Path) -> None:
    """A model without either is written as before; one with them is not for a raysal that does not know them."""
    plain = built("finetuned", tmp_path)
    assert isinstance(plain, FineTuned)
    assert plain.record.to_json()["version"] == 1
    before = plain.fingerprint()
    changed = dataclasses.replace(plain.record, rendering=looking().rendering)
    write_sealed(tmp_path / "model" / "model.json", changed.to_json())
    record = ModelRecord.read(tmp_path / "model")
    assert record == changed
    assert record.to_json()["version"] == 2
    other = FineTuned(arg=tmp_path / "model")
    assert other.fingerprint() != before
    assert other.backbone().rendering == looking().rendering
    values = np.moveaxis(sky(1)[0], 0, -1)
    expected = decode_image("x", Pixels(values=values, channels=BANDS), 0, looking().rendering)
    size = (record.size, record.size)
    got = other.prepare("x", Pixels(values=values, channels=BANDS))
    assert np.array_equal(got, np.asarray(expected.resize(size, Image.Resampling.BICUBIC)))
    with pytest.raises(ConfigError, match="has no such field"):
        Choice(name=f"finetuned:{tmp_path / 'model'}", stretch="asinh").build("encoder", ENCODERS)


# pools


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A folder of eight pictures with four extensions each; one lacks a channel, and of one nothing is a number."""
    folder = tmp_path / "night"
    folder.mkdir()
    for at, planes in enumerate(sky(8)):
        mef(folder / f"{at}.fits", planes)
    mef(folder / "3.fits", sky(1)[0], ("G", "I", "B", "H"))
    mef(folder / "5.fits", np.full((4, SIDE, SIDE), np.nan, np.float32))
    return folder


def test_a_missing_channel_is_quarantined_alone(night: Path, tmp_path: Path) -> None:
    report = embed(Folder(path=night), looking(), tmp_path / "pool", max_quarantine=0.5)
    assert (report.items, report.quarantined) == (8, 2)
    pool = Pool(tmp_path / "pool")
    (chunk,) = pool.chunks
    reasons = {row["key"]: row["error"] for row in chunk.quarantine().to_pylist()}
    assert reasons["3.fits"] == "no channel 'R'; its channels: G, I, B, H"
    assert reasons["5.fits"].startswith("no pixel of it is a finite number")
    for at, key in ((0, "0.fits"), (7, "7.fits")):
        (vector,) = looking().encode([seen(sky(8)[at])])
        assert held(pool)[key][1] == vector.astype(np.float16).tobytes()


def test_threads_and_chunks_change_no_byte(night: Path, tmp_path: Path) -> None:
    one = embed(Folder(path=night), looking(), tmp_path / "a", max_quarantine=0.5, decode_threads=1, batch_size=4)
    assert one.quarantined == 2
    for at, (threads, rows) in enumerate([(4, 8), (3, 4), (2, 1024)]):
        out = tmp_path / f"b{at}"
        options = {"max_quarantine": 0.5, "decode_threads": threads, "chunk_rows": rows, "batch_size": 4}
        embed(Folder(path=night), looking(), out, **options)  # type: ignore[arg-type]
        assert held(Pool(out)) == held(Pool(tmp_path / "a"))


def test_a_pool_grows_by_what_it_sees(night: Path, tmp_path: Path) -> None:
    """New files go through the same channels; one without them is quarantined, and the rest stays as it is."""
    pool, source = tmp_path / "pool", Folder(path=night)
    embed(source, looking(), pool, max_quarantine=0.5)
    before = held(Pool(pool))
    more = sky(3, seed=1)
    mef(night / "new.fits", more[0])
    mef(night / "late.fits", more[1], ("G", "I", "Z", "H"))
    mef(night / "3.fits", more[2])  # it has the channel now
    report = embed(Folder(path=night), looking(), pool, max_quarantine=0.5)
    assert (report.added, report.embedded) == (2, 3)
    after = held(Pool(pool))
    assert {key: after[key] for key in before} == before
    assert set(after) == {*before, "new.fits", "3.fits"}
    for key, planes in (("new.fits", more[0]), ("3.fits", more[2])):
        (vector,) = looking().encode([seen(planes)])
        assert after[key][1] == vector.astype(np.float16).tobytes()
    assert embed(Folder(path=night), looking(), pool, max_quarantine=0.5).embedded == 0


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_renamed_channels_are_a_change(kind: Any, tmp_path: Path) -> None:
    """The numbers of a file are the same, and what they mean is not; a file that was only touched is as it was."""
    given = np.rint(sky(6) / 30).astype(kind)
    path, out = stored(tmp_path / "x.h5", given, 0, True, ("n", "channel", "y", "x")), tmp_path / "pool"
    encoder = looking(stretch="linear")
    embed(Array(path=path), encoder, out)
    before = held(Pool(out))
    with h5py.File(path, "a") as file:
        file["images"].attrs["more"] = "of no interest"
    touched = embed(Array(path=path), encoder, out)
    assert (touched.embedded, touched.replaced) == (0, 0)
    with h5py.File(path, "a") as file:
        file["images"].attrs["band_names"] = [*BANDS[1:], BANDS[0]]
    changed = embed(Array(path=path), encoder, out)
    assert (changed.embedded, changed.replaced) == (6, 6)
    after = held(Pool(out))
    assert all(after[key][1] != before[key][1] for key in before)
    assert {key: row[1] for key, row in after.items()} == {
        str(at): encoder.encode([seen_linear(planes)]).astype(np.float16).tobytes()
        for at, planes in enumerate(np.roll(given, 1, axis=1))
    }


def test_pixels_of_older_pools_have_the_digests_they_had() -> None:
    """A name for one channel, and pixels of 8 bits that were bare arrays, change no digest; names of several do."""

    def digest(payload: Any) -> int:
        return item_digest(3, Item(key="k", payload=payload))

    for shape in ((5, 6), (5, 6, 1), (5, 6, 3)):
        bare = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        assert digest(bare) == digest(Pixels(values=bare)) == digest(Pixels(values=bare, stated=(0, 9)))
    wide = np.arange(90, dtype=np.uint16).reshape(5, 6, 3)
    assert digest(Pixels(values=wide[..., 0])) == digest(Pixels(values=wide[..., 0], channels=("SCI",)))
    given = [Pixels(values=wide), Pixels(values=wide, stated=(0, 9)), Pixels(values=wide, channels=("a", "b", "c"))]
    given += [Pixels(values=wide, channels=("c", "b", "a")), Pixels(values=wide.astype(np.int16))]
    assert len({digest(one) for one in given}) == len(given)


def seen_linear(planes: NDArray[Any]) -> NDArray[np.uint8]:
    """As `seen`, from the smallest number to the largest."""
    wide = [planes[at].astype(np.float64) for at in PLACES]
    return np.stack([np.rint(255 * ((x - x.min()) / (x.max() - x.min()))) for x in wide], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stretch": None}, "the encoder's stretch is none, expected asinh high=99 low=1 softening=0.2 together=False"),
        ({"stretch": "zscale"}, "the encoder's stretch is zscale .*, expected asinh"),
        ({"stretch": dataclasses.replace(ASINH, high=98)}, "stretch is asinh .*high=98.*, expected asinh .*high=99"),
        ({"channels": ("G", "I", "R")}, r"the encoder's channels is \['G', 'I', 'R'\], expected \['I', 'R', 'G'\]"),
        ({"channels": (), "stretch": ASINH}, r"the encoder's channels is none, expected \['I', 'R', 'G'\]"),
        ({"precision": "bfloat16"}, "the encoder's precision is bfloat16, expected float32"),
        ({"size": 13}, "the encoder's size is 13, expected 12"),
        ({"arg": "tiny_models:other_weights"}, "the encoder is torch:tiny_models:other_weights, expected torch:"),
    ],
)
def test_another_way_of_seeing_is_refused_by_field_and_values(
    change: dict[str, Any], message: str, night: Path, tmp_path: Path
) -> None:
    if "precision" in change and times_as_long("bfloat16") > MOST_SLOWER:
        pytest.skip("this CPU has no instructions for bfloat16")
    encoder = looking()
    embed(Folder(path=night), encoder, tmp_path / "pool", max_quarantine=0.5)
    with pytest.raises(FingerprintMismatch, match=message):
        embed(Folder(path=night), dataclasses.replace(encoder, **change), tmp_path / "pool", max_quarantine=0.5)


def test_a_pool_that_cannot_grow_says_it_as_well(tmp_path: Path) -> None:
    source = Memory(images=list(np.moveaxis(sky(3), 1, -1)), keys=range(3))
    embed(source, looking(NUMBERS), tmp_path / "pool")
    with pytest.raises(FingerprintMismatch, match=r"the encoder's stretch is zscale .*, expected asinh"):
        embed(source, looking(NUMBERS, "zscale"), tmp_path / "pool")


def test_without_astropy_a_fits_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mef(tmp_path / "a.fits", sky(1)[0]).read_bytes()
    for name in [name for name in sys.modules if name.partition(".")[0] == "astropy"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadItem, match=r"FITS needs the module 'astropy'; pip install 'raysal\[fits\]'"):
        looking().prepare("a", data)


def test_pixels_have_as_many_names_as_channels() -> None:
    with pytest.raises(BadItem, match=r"4 channels, and 3 names of them \(I, R, G\)"):
        looking().prepare("a", Pixels(values=np.moveaxis(sky(1)[0], 0, -1), channels=WANTED))


def test_names_that_a_source_gives_are_in_its_fingerprint(tmp_path: Path) -> None:
    mef(tmp_path / "a.fits", sky(1)[0])
    np.save(tmp_path / "a.npy", sky(1))
    pq.write_table(pa.table({"key": ["a"], "x": [5], "y": [5]}), tmp_path / "stars.parquet")
    for source in (
        Fits(path=tmp_path / "a.fits"),
        Cutouts(path=tmp_path / "a.fits", catalogue=tmp_path / "stars.parquet", size=3),
        Array(path=tmp_path / "a.npy", axes="chw"),
    ):
        for wrong in (("a", "a"), ("",)):
            with pytest.raises(ConfigError, match=r"source\.channel_names"):
                dataclasses.replace(source, channel_names=wrong)
        named = dataclasses.replace(source, channel_names=("sky",))
        assert named.fingerprint() != source.fingerprint()
        assert "channel_names" not in source_fields(source)[1]
        assert source_fields(named)[1]["channel_names"] == ("sky",)


def test_what_a_pool_was_begun_without_is_refused_too(night: Path, tmp_path: Path) -> None:
    """A field that is not recorded has its default; by a run, too, which compares no fingerprints."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for at in range(6):
        Image.fromarray(np.full((12, 12, 3), 40 * at, np.uint8)).save(photos / f"{at}.png")
    plain = {"name": "torch:tiny_models:weighted", "size": 12}
    raysal.embed(photos, plain, out=tmp_path / "pool")
    with pytest.raises(FingerprintMismatch, match="the encoder's stretch is linear together=False, expected none"):
        raysal.embed(photos, {**plain, "stretch": "linear"}, out=tmp_path / "pool")
    config = tmp_path / "run.toml"
    config.write_text(
        f'pool = "{tmp_path}/pool"\nsource = {{ name = "folder", path = "{photos}" }}\n'
        'encoder = { name = "torch:tiny_models:weighted", size = 12, stretch = "linear" }\n'
        "rounds = { count = 1, k = 2 }\n"
    )
    refused(
        cli("run", config, "--out", tmp_path / "run"), "the encoder's stretch is linear together=False, expected none"
    )


def test_a_pool_gives_its_encoder_back_and_shows_what_it_saw(night: Path, tmp_path: Path) -> None:
    pool = raysal.embed(
        night,
        {"name": "torch:tiny_models:weighted", "size": SIDE, "channels": list(WANTED), "stretch": ASINH.record()},
        out=tmp_path / "pool",
        max_quarantine=0.5,
    )
    recorded = json.loads((tmp_path / "pool" / "pool.json").read_text())["encoder"]
    assert recorded["config"]["channels"] == list(WANTED)
    assert recorded["config"]["stretch"] == {"name": "asinh", "together": False, "low": 1, "high": 99, "softening": 0.2}
    assert recorded["preprocessing"]["rendering"] == {key: recorded["config"][key] for key in ("channels", "stretch")}
    assert encoder_of_pool(pool) == looking()
    assert raysal.search(pool, image=night / "2.fits", k=1)["key"].to_pylist() == ["2.fits"]
    with pytest.raises(BadItem, match=r"3.fits: no channel 'R'"):
        raysal.search(pool, image=night / "3.fits", k=1)
    expected = seen(sky(8)[2])
    media = Media(pool, Payloads(pool))
    shown = Image.open(io.BytesIO(media.picture(Entry(2, "2.fits", None), 64, small=True).data))
    assert np.array_equal(np.asarray(shown), expected)
    gallery = read_gallery(pool, {2: "2.fits", 3: "3.fits"})
    assert gallery.shown[2].image is not None
    assert gallery.shown[3].problem == "no channel 'R'; its channels: G, I, B, H"


def test_the_command_line_says_channels_stretch_and_parts(night: Path, tmp_path: Path) -> None:
    encoder = ("--encoder", "torch:tiny_models:weighted", "--size", SIDE, "--max-quarantine", 0.5)
    three = ("--channel", "I", "--channel", "R", "--channel", "G")
    stretch = ("--stretch", "asinh:softening=0.2,low=1,high=99")
    pool = tmp_path / "pool"
    answer = cli("embed", night, "--out", pool, *encoder, *three, *stretch, "--json")
    assert answer.code == 0, answer
    assert (answer.json["items"], answer.json["quarantined"]) == (8, 2)
    assert encoder_of_pool(Pool(pool)) == looking()
    again = cli("embed", night, "--out", pool, *encoder, *three, "--stretch", "zscale")
    refused(again, "the encoder's stretch is zscale", "expected asinh", "embed into another directory")
    refused(
        cli("embed", night, "--out", tmp_path / "q", *encoder, "--channel", "I", "--channel", "R"), "encoder.channels"
    )
    refused(cli("embed", night, "--out", tmp_path / "q", *encoder, "--stretch", "log"), "use one of: asinh, linear")
    parts = ("--hdu", "G", "--hdu", "R", "--hdu", "I")
    answer = cli("embed", night, "--out", tmp_path / "parts", *encoder, *parts, *three, *stretch, "--json")
    assert answer.code == 0, answer
    assert {key: row[1] for key, row in held(Pool(pool)).items()} == {
        key: row[1] for key, row in held(Pool(tmp_path / "parts")).items()
    }
    for name in STRETCHES:
        assert name in cli("embed", "--help").out


def test_a_network_is_trained_on_what_its_pool_saw(tmp_path: Path) -> None:
    """The model keeps it, and the next pool, its predictions and another network by name see the same."""
    photos, truth = tmp_path / "photos", {}
    photos.mkdir()
    for at, planes in enumerate(sky(16)):
        planes[PLACES[0], :: 2 + at % 2] += 100
        mef(photos / f"{at:02d}.fits", planes)
        truth[f"{at:02d}.fits"] = "ab"[at % 2]
    seeing = {"channels": list(WANTED), "stretch": ASINH.record()}
    pool = raysal.embed(photos, {"name": "torch:tiny_models:with_norms", "size": SIDE, **seeing}, out=tmp_path / "pool")
    raysal.Session(tmp_path / "run", pool=pool, fleet={"backend": "local"}).close()
    with RunLabels.open(tmp_path / "run") as told:
        told.tell(dict(list(truth.items())[:12]))
    few: dict[str, Any] = {"steps": 2, "batch_size": 4, "ratio": 1, "average_steps": 1, "sample": 4, "threads": 1}
    raysal.finetune(tmp_path / "run", out=tmp_path / "model", **few)
    rendering = Rendering(channels=WANTED, stretch=ASINH)
    record = ModelRecord.read(tmp_path / "model")
    assert record.rendering == rendering
    assert record.to_json()["rendering"] == rendering.record()
    again = raysal.embed(photos, f"finetuned:{tmp_path / 'model'}", out=tmp_path / "pool2")
    assert again.quarantined == 0
    assert rendering_in(again.manifest.encoder["preprocessing"]) == rendering
    head = tmp_path / "model" / "head.safetensors"
    found = cli("predict", again.path, "--head", head, "--out", tmp_path / "predictions", "--json")
    assert (found.code, found.json["items"]) == (0, 16)
    raysal.finetune(tmp_path / "run", out=tmp_path / "other", encoder="torch:tiny_models:weighted", size=SIDE, **few)
    assert ModelRecord.read(tmp_path / "other").rendering == rendering
