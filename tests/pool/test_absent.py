"""A key that is no item's says why: lost in embedding, spelled in another way, or unknown; at every door alike."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from cli_tools import cli, refused

import raysal
from raysal.errors import LabelError
from raysal.pool import Pool, open_pool
from raysal.pool.absent import pasted
from raysal.sources.memory import Memory

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
