"""The configs of docs/sources.md are those of sources that read what the page says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table
from cli_tools import cli
from object_store import ObjectStore, fresh_bucket
from pages import ROOT
from PIL import Image

from raysal.config import Choice
from raysal.embedding.decode import decode_image
from raysal.sources import SOURCES
from raysal.types import Pixels

PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
CONFIGS = [tomllib.loads(block)["source"] for block in re.findall(r"```toml\n(source = .*?)```", PAGE, re.DOTALL)]
CUBE = np.random.default_rng(0).normal(100, 30, (3, 80, 90)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    scenes = zarr.open_group("scenes.zarr", mode="w").create_array("scenes", data=np.ones((2, 4, 6, 7), np.uint16))
    scenes.attrs["band_names"] = ["blue", "green", "red", "nir"]
    Path("night").mkdir()
    parts = [fits.PrimaryHDU(), fits.CompImageHDU(CUBE, name="SCI", tile_shape=(1, 80, 90))]
    fits.HDUList(parts).writeto("night/a.fits.fz")
    fits.writeto("sky.fits", CUBE[0])
    Path("visits").mkdir()
    bands = [fits.ImageHDU(plane, name=name) for plane, name in zip(CUBE, "GRI", strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *bands]).writeto("visits/a.fits")
    Path("scans").mkdir()
    Image.new("L", (3, 2)).save("scans/a.tif", save_all=True, append_images=[Image.new("L", (3, 2))])
    Table({"key": ["a", "b"], "x": [40, 1], "y": [40, 1], "mag": [20.0, 21.0]}).to_pandas().to_parquet("stars.parquet")


def test_a_table_in_a_bucket_is_read_as_the_page_says(
    bucket_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"key": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 1.0]]}), "vectors.parquet")
    (words,) = (line.split()[2:] for line in PAGE.splitlines() if "raysal embed s3://bucket/vectors" in line)
    with fresh_bucket(bucket_store.proxy, bucket_store.backend, "bucket") as bucket:
        bucket.put("vectors.parquet", Path("vectors.parquet"))
        assert cli(*words, "--json").json["items"] == 2


def test_the_page_has_configs() -> None:
    assert [config["name"] for config in CONFIGS] == ["array", "fits", "fits", "cutouts", "pages"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["name"])
def test_a_config_is_that_of_a_source(config: dict[str, object], data: None) -> None:
    source = Choice.model_validate(config).build("source", SOURCES)
    (unit,) = source.units(10)
    first, *_ = source.read(unit)
    if config["name"] == "pages":
        assert first.key == "a.tif#0"
        assert decode_image(first.key, first.payload).size == (3, 2)
        return
    assert isinstance(first.payload, Pixels)
    if config["path"] == "visits":
        assert first.payload.channels == ("I", "R", "G")
        assert np.array_equal(first.payload.values[::-1, :, 0], CUBE[2])
        return
    assert first.payload.stated == tuple(config["stated_range"])  # type: ignore[arg-type]
    side = {"array": (6, 7, 3), "fits": (80, 90, 3), "cutouts": (64, 64)}
    assert first.payload.shape == side[source_name := str(config["name"])], source_name


def test_the_commands_for_arrays(data: None) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    with h5py.File("embeddings.h5", "w") as file:
        file["clip/image"], file["clip/text"], file["label"] = vectors, vectors, np.arange(9)
    (command,) = re.findall(r"\$ raysal (embed embeddings.h5 .*)", PAGE)
    assert cli(*command.split()).code == 0
    assert cli("pool", "info", "pool", "--json").json["items"] == 9
