"""Folders and files that Hugging Face's `datasets` wrote: every row as `datasets` itself reads it, or an error."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import BadItem, SourceError
from raysal.pool import open_pool
from raysal.sources import check_keys, detect_source
from raysal.sources.base import OfFiles
from raysal.sources.hf import OUTSIDE, SavedDataset
from raysal.sources.of_pool import source_of
from raysal.sources.table import Table
from raysal.types import Item

FULL = 10**6
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "caption": datasets.Value("string"),
        "many": datasets.Sequence(datasets.ClassLabel(names=["x", "y"])),
        "embedding": datasets.Sequence(datasets.Value("float32"), length=3),
    }
)
CARRY = ("label", "caption", "many")


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def png(shade: int) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(packed, "PNG")
    return packed.getvalue()


def rows(n: int = 11, first: int = 0) -> datasets.Dataset:
    """Row n - 1 lacks all that can be missing."""
    numbers = range(first, first + n)
    last = first + n - 1
    return datasets.Dataset.from_dict(
        {
            "image": [None if i == last else {"bytes": png(i), "path": None} for i in numbers],
            "label": [None if i == last else i % 2 for i in numbers],
            "caption": [None if i == last else f"text {i}" for i in numbers],
            "many": [None if i == last else [0, 1][: i % 3] for i in numbers],
            "embedding": [None if i == last else [float(i), 1.0, 2.0] for i in numbers],
        },
        features=FEATURES,
    )


def items(source: Any, chunk_rows: int = FULL) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def same_rows(found: list[Item], dataset: datasets.Dataset) -> None:
    """Items of the column of images against the rows of a data set, as that package reads them."""
    undecoded = dataset.cast_column("image", datasets.Image(decode=False))
    assert len(found) == len(undecoded)
    names, many = FEATURES["label"].names, FEATURES["many"].feature.names
    for item, row in zip(found, undecoded, strict=True):
        if row["image"] is None:
            assert isinstance(item.payload, BadItem)
        else:
            assert item.payload == row["image"]["bytes"]
        assert dict(item.carried) == {
            "label": None if row["label"] is None else names[row["label"]],
            "caption": row["caption"],
            "many": None if row["many"] is None else [many[one] for one in row["many"]],
        }


@pytest.mark.parametrize("chunk_rows", [1, 4, FULL])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_saved_data_set_is_read_row_by_row(tmp_path: Path, shards: int, chunk_rows: int) -> None:
    rows().save_to_disk(tmp_path / "saved", num_shards=shards)
    source = detect_source(tmp_path / "saved", image_column="image", carry=CARRY)
    assert isinstance(source, SavedDataset)
    assert isinstance(source, OfFiles)
    found = items(source, chunk_rows)
    same_rows(found, datasets.load_from_disk(tmp_path / "saved"))
    assert [item.key for item in found] == [str(number) for number in range(11)]
    assert [file.name for file in source.files()] == [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    last = [file.name for file in source.files()][-1]
    alone = list(source.units_in([last], FULL))
    assert [list(source.spans(unit)) for unit in alone] == [[(last, len(alone[0].keys))]]
    assert [item.key for item in source.read(alone[0])] == [item.key for item in found[-len(alone[0].keys) :]]


def test_splits_are_in_the_order_of_the_data_set_and_a_folder_of_one_is_one(tmp_path: Path) -> None:
    splits = {"train": rows(), "a.test": rows(3, 40), "few": rows().shuffle(seed=1).select([2, 5])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved", num_shards={"train": 2, "a.test": 1, "few": 1})
    source = detect_source(tmp_path / "saved", image_column="image", carry=(*CARRY, "split"))
    found = items(source, 4)
    loaded = datasets.load_from_disk(tmp_path / "saved")
    assert [item.key for item in found] == [f"{name}/{row}" for name in splits for row in range(len(loaded[name]))]
    assert [item.carried["split"] for item in found] == [name for name in splits for _ in range(len(loaded[name]))]
    for item in found:
        item.carried.pop("split")  # type: ignore[attr-defined]
    same_rows(found, datasets.concatenate_datasets(list(loaded.values())))
    one = detect_source(tmp_path / "saved" / "few", image_column="image", carry=CARRY)
    same_rows(items(one), loaded["few"])
    assert check_keys(source, 2) == (16, 8)
    by_caption = SavedDataset(path=tmp_path / "saved" / "few", key_column="caption", image_column="image")
    assert [item.key for item in items(by_caption)] == loaded["few"]["caption"][:]
    keyed = rows(4).add_column("key", list("abcd"))
    keyed.save_to_disk(tmp_path / "keyed")
    assert [unit.keys for unit in detect_source(tmp_path / "keyed").units(9)] == [tuple("abcd")]


def test_files_that_the_state_does_not_name_are_no_part_of_it(tmp_path: Path) -> None:
    """To save fewer shards over more leaves the old ones there, and `map` leaves its cache."""
    saved = tmp_path / "saved"
    rows().save_to_disk(saved, num_shards=3)
    rows(5, 100).save_to_disk(saved, num_shards=2)
    shutil.copy(saved / "data-00000-of-00003.arrow", saved / "cache-0123456789abcdef.arrow")
    source = detect_source(saved, image_column="image", carry=CARRY)
    same_rows(items(source), datasets.load_from_disk(saved))
    passed = source.passed_over()  # type: ignore[attr-defined]
    assert passed.counts == {OUTSIDE: 4, ".json": 2}
    assert (passed.taken, passed.lost) == (2, 0)


def test_a_pool_of_ready_vectors_is_made_and_its_items_are_found_again(tmp_path: Path) -> None:
    rows().save_to_disk(tmp_path / "saved", num_shards=2)
    source = detect_source(tmp_path / "saved", carry=CARRY)
    assert source.modality == "vector"
    embed(source, Precomputed(), tmp_path / "pool", chunk_rows=4, max_quarantine=0.1)
    pool = open_pool(tmp_path / "pool")
    assert (len(pool), pool.info().quarantined) == (10, 1)
    unit = list(source_of(pool).units(4))[1]
    (item,) = source_of(pool).read(unit, only={7})
    assert (item.key, list(item.payload)) == ("7", [7.0, 1.0, 2.0])
    before = source.fingerprint()
    rows(20).save_to_disk(tmp_path / "saved", num_shards=2)
    assert detect_source(tmp_path / "saved", carry=CARRY).fingerprint() != before


@pytest.mark.parametrize("decode", [True, False])
def test_parquet_of_datasets_is_read_row_by_row(tmp_path: Path, decode: bool) -> None:
    path = tmp_path / "rows.parquet"
    rows().cast_column("image", datasets.Image(decode=decode)).to_parquet(path)
    found = items(Table(path=path, key_column="#", image_column="image", carry=CARRY), 4)
    same_rows(found, rows())
    assert [item.key for item in found] == [str(number) for number in range(11)]
    for name in ("a", "b"):
        shutil.copy(path, tmp_path / f"{name}.parquet")
    path.unlink()
    assert items(Table(path=tmp_path, key_column="#", text_column="caption"))[12].key == "b.parquet:1"
    with pytest.raises(SourceError, match=r"no column 'key'; .* choose one with --key-column, where '#' is the number"):
        items(Table(path=tmp_path, text_column="caption"))


@pytest.mark.parametrize("described", [True, False])
def test_arrays_are_read_where_datasets_is_imported(tmp_path: Path, described: bool) -> None:
    """Then a column has the type of that package, and what the file says of it is no metadata any more."""
    pixels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    features = datasets.Features({"x": datasets.Array3D(shape=(4, 4, 3), dtype="uint8")})
    saved = datasets.Dataset.from_dict({"x": pixels.tolist()}, features=features)
    saved.save_to_disk(tmp_path / "saved")
    table = saved.data.table if described else saved.data.table.replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "x.parquet")
    for source in (SavedDataset(path=tmp_path / "saved"), Table(path=tmp_path / "x.parquet", key_column="#")):
        assert source.modality == "image"
        assert np.array_equal([item.payload for item in items(source)], pixels)


def test_a_stream_gives_the_rows_of_a_file(tmp_path: Path) -> None:
    table = pa.table({"key": [f"k{i}" for i in range(40)], "vector": np.arange(80.0).reshape(40, 2).tolist()})
    table = table.append_column("kind", pa.array(["a", "b"] * 20).dictionary_encode())
    for name, new, options in (
        ("file", pa.ipc.new_file, None), ("stream", pa.ipc.new_stream, None),
        ("packed", pa.ipc.new_stream, pa.ipc.IpcWriteOptions(compression="zstd")),
    ):  # fmt: skip
        with new(tmp_path / f"{name}.arrow", table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=7)
    expected = Table(path=tmp_path / "file.arrow", carry=("kind",))
    for name in ("stream", "packed"):
        source = Table(path=tmp_path / f"{name}.arrow", carry=("kind",))
        units = list(source.units(6))
        for unit, same in zip(reversed(units), reversed(list(expected.units(6))), strict=True):  # a stream goes back
            assert [str((i.key, list(i.payload), i.carried)) for i in source.read(unit)] == [
                str((i.key, list(i.payload), i.carried)) for i in expected.read(same)
            ]
        assert [unit.keys for unit in Table(path=source.path, key_column="#").units(50)] == [tuple(map(str, range(40)))]


def test_a_stream_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    rows().save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    data = file.read_bytes()
    for at in (0, 4, 100, *range(200, len(data) - 1, 97), len(data) - 8, len(data) - 1):
        file.write_bytes(data[:at])
        with pytest.raises(SourceError, match="data-00000-of-00001"):
            items(SavedDataset(path=tmp_path / "saved", image_column="image"))
    file.write_bytes(data)
    assert len(items(SavedDataset(path=tmp_path / "saved", image_column="image"))) == 11


def test_a_folder_that_is_not_whole_is_refused_by_name(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": rows(), "test": rows(3)}).save_to_disk(saved)
    state = json.loads((saved / "train" / "state.json").read_text())

    def refused(message: str) -> None:
        with pytest.raises(SourceError, match=message):
            items(SavedDataset(path=saved, image_column="image"))

    def with_state(**fields: Any) -> None:
        (saved / "train" / "state.json").write_text(json.dumps(state | fields))

    with_state(_indices_data_files=[{"filename": "indices.arrow"}])
    refused(r"train/state.json: _indices_data_files: its rows are chosen by indices .* flatten_indices\(\)")
    for name in ("../test/data-00000-of-00001.arrow", "/etc/passwd", ".."):
        with_state(_data_files=[{"filename": name}])
        refused("is no name of a file in this folder")
    for files in ([], None, [{}], ["a"], [{"filename": 1}]):
        with_state(_data_files=files)
        refused("state.json: names no files")
    with_state(_data_files=[{"filename": "data-00000-of-00002.arrow"}])
    refused("no such file, but state.json names it; copy the whole folder")
    (saved / "train" / "state.json").write_text("{")
    refused("state.json: is not JSON")
    (saved / "train" / "state.json").unlink()
    refused("state.json: cannot be read")
    for splits in ({"splits": ["../saved/test"]}, {"splits": []}, {}, []):
        (saved / "dataset_dict.json").write_text(json.dumps(splits))
        refused("is no name of a file|names no splits|no object of JSON")
    (saved / "dataset_dict.json").unlink()
    refused("holds neither state.json nor dataset_dict.json; pass a folder that `save_to_disk` made")
