"""A key that is no item's says why: lost in embedding, spelled in another way, or unknown; at every door alike."""

from __future__ import annotations

import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused

import raysal
from raysal.errors import LabelError
from raysal.pool import Pool, open_pool
from raysal.pool.absent import pasted
from raysal.pool.owners import OwnersOf
from raysal.sources.memory import Memory
from raysal.sources.table import Table

KEYS = ["cats/IMG_0007.jpg", "cats/broken.jpg", "dogs/harbour.png", "img_0012.png", "dogs/torn.png", "ö, x.tif", "last"]
LOST = (1, 4)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Seven items, of which two could not be embedded; several chunks."""
    vectors = np.random.default_rng(0).normal(size=(len(KEYS), 4)).astype(np.float32)
    vectors[list(LOST)] = np.nan
    path = tmp_path_factory.mktemp("absent") / "pool"
    source = Memory(vectors=vectors, keys=KEYS)
    raysal.embed(source, "precomputed", out=path, chunk_rows=3, max_quarantine=0.5)
    return open_pool(path)


def said_of(pool: Pool, *keys: str) -> str:
    with pytest.raises(LabelError) as raised:
        pool.ids_of(keys)
    return str(raised.value)


@pytest.mark.parametrize("key", ['it\'s "q"/$HOME `0`.jpg', "a\\b.jpg", "'", "plain.jpg"])
def test_a_key_that_is_suggested_can_be_pasted_into_a_shell(key: str) -> None:
    assert shlex.split(pasted(key)) == [key]


def test_what_was_lost_says_at_which_stage_and_why(pool):
    said = said_of(pool, "last", "cats/broken.jpg")
    assert "1 key is not in the pool: 'cats/broken.jpg' (quarantined at decode: " in said
    assert "not finite" in said
    assert f"`raysal pool quarantine {pool.path}`" in said
    assert "raysal pool export" not in said, "what was lost is no slip of the hand"
    both = said_of(pool, "dogs/torn.png", "nonesuch")
    assert "'dogs/torn.png' (quarantined at decode: " in both
    assert "'nonesuch'" in both
    assert f"`raysal pool export {pool.path} -o keys.csv`" in both


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("IMG_0007.jpg", "cats/IMG_0007.jpg"),  # the file name alone
        ("/home/me/cats/IMG_0007.jpg", "cats/IMG_0007.jpg"),  # the whole path
        ("cats/img_0007.JPG", "cats/IMG_0007.jpg"),
        ("IMG_0012", "img_0012.png"),
        ("dogs/harbor.png", "dogs/harbour.png"),
        ("ö,x.tif", "ö, x.tif"),
        ("IMG_0008.jpg", None),  # another number is another item
        ("dogs/torn", None),  # it was lost: no item
        ("", None),
        ("a", None),
        ("\udcff", None),
    ],
)
def test_the_key_that_was_meant_is_named(pool, asked, meant):
    said = said_of(pool, asked)
    assert ("did you mean" in said) == (meant is not None), said
    if meant is not None:
        assert f"{asked!r} (did you mean {meant!r}?)" in said


def test_every_door_says_why(pool, tmp_path):
    run, ranked = tmp_path / "run", tmp_path / "ranked"
    why = ("not in the pool", "quarantined at decode", "not finite")
    refused(cli("find", pool.path, "-e", "cats/broken.jpg", "-o", run), *why)
    assert not run.exists()
    (tmp_path / "labels.csv").write_text("key,label\nlast,a\ncats/broken.jpg,b\nIMG_0007.jpg,c\n")
    refused(cli("label", "import", run, tmp_path / "labels.csv", "--pool", pool.path), *why, "line 3", "--skip-unknown",
            "line 4: 'IMG_0007.jpg' (did you mean 'cats/IMG_0007.jpg'?)")  # fmt: skip
    refused(cli("index", "search", pool.path, "--key", "dogs/torn.png"), *why)
    assert cli("find", pool.path, "-e", "last", "-o", run, "-k", 1).code == 0
    refused(cli("label", "skip", run, "dogs/torn.png"), *why)
    assert cli("rank", run, "-o", ranked).code == 0
    refused(cli("rank", ranked, "--find", "cats/broken.jpg"), *why)
    refused(cli("rank", ranked, "--find", "harbour"), "did you mean 'dogs/harbour.png'?")
    assert cli("rank", run, "-o", ranked, "--top", 1).code == 0
    first = cli("rank", ranked, "--json").json["rows"][0]["key"]
    other = next(key for i, key in enumerate(KEYS) if i not in LOST and key != first)
    refused(cli("rank", ranked, "--find", other), f"{other!r} is not in this ranking", "rank without --top")


def test_keys_of_parts_and_of_owners_are_told_apart(tmp_path):
    """At each door. Of an owner, where parts are asked for, the parts are named."""
    keys, owners = [f"{page}#{box}" for page in "ab" for box in range(3)], [page for page in "ab" for _ in range(3)]
    table = pa.table({"key": keys, "page": owners, "vector": np.eye(6, dtype=np.float32).tolist()})
    pq.write_table(table, tmp_path / "boxes.parquet")
    path = tmp_path / "pool"
    raysal.embed(Table(path=tmp_path / "boxes.parquet", owner="page"), "precomputed", out=path)
    parts = open_pool(path)
    owner = "1 key is not in the pool: 'b' (the key of an owner; its parts: b#0, b#1, b#2); keys are listed by"
    part = "1 key is not in the pool: 'b#1' (the key of a part, not of an owner); keys of owners (the column owner_key)"
    assert owner in said_of(parts, "a#0", "b")
    assert part in said_of(OwnersOf(parts), "a", "b#1")
    assert owner in cli("pool", "remove", str(path), "b").err
    assert owner in cli("index", "search", str(path), "--key", "b").err
    with raysal.Session(tmp_path / "run", path, parts={"by": "owner"}, oracle="files"):
        pass
    (tmp_path / "labels.csv").write_text("key,label\nb#1,x\n")
    imported = cli("label", "import", str(tmp_path / "run"), str(tmp_path / "labels.csv"))
    refused(imported, "(line 2: 'b#1' (the key of a part, not of an owner)); keys of owners")
    assert "(the key" not in said_of(parts, "c"), "what is of neither kind is said to be of none"
