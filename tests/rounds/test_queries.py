"""Queries: what is looked for and is no item. They are embedded once, and stay with the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image
from pools import make_pool, mixture

import raysal
from raysal.config import load_config
from raysal.errors import ConfigError, Damaged, EncoderError, FingerprintMismatch
from raysal.pool import Pool
from raysal.rounds.directory import RunDir
from raysal.rounds.queries import queries_of
from raysal.rounds.session import Session
from raysal.sources.memory import Memory

FIELDS = {
    "select": {"name": "search", "likeliest": 1, "uncertain": 0, "novel": 0},
    "start": {"name": "search", "likeliest": 1, "uncertain": 0, "novel": 0},
    "target": ["positive"],
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("queries") / "pool", mixture(120, 6)[0], chunk_rows=50)


def test_vectors_from_a_file_lead_while_nothing_is_found(pool, tmp_path):
    x = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    np.save(tmp_path / "like.npy", x[[17]])
    with Session(tmp_path / "run", pool, like={"vectors": tmp_path / "like.npy"}, **FIELDS) as session:
        batch = session.query(5)
        assert batch.ids[0] == 17
        session.tell(dict.fromkeys(batch.keys, "negative"))
        (tmp_path / "like.npy").unlink()  # the run has what it needs
        nearest = raysal.search(pool, vector=x[17].astype(np.float32), k=10)["key"].to_pylist()
        assert session.query(5).keys == nearest[5:]
        table = raysal.select(pool, k=3, strategy="search", labels=tmp_path / "run")
        assert "near the example" in table["reason"][0].as_py()
    with Session.open(tmp_path / "run") as session:
        assert len(session.query(5)) == 5


def test_an_image_goes_through_the_encoder_of_the_pool_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(tiny_models.__file__).parent))
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    raysal.embed(tmp_path / "photos", {"name": "torch:tiny_models:weighted", "size": 16}, out=tmp_path / "pool")
    config = tmp_path / "search.toml"
    config.write_text(
        'pool = "pool"\ntarget = ["positive"]\nselect = "search"\nstart = "search"\n'
        '[fleet]\nbackend = "local"\n'
        '[like]\nimage = ["photos/07.png"]\n'
    )
    with Session(tmp_path / "run", config=load_config(config)) as session:
        assert session.query(3).keys[0] == "07.png"
        (tmp_path / "photos" / "07.png").unlink()
    with Session.open(tmp_path / "run") as session:
        session.query(3)
    with pytest.raises(EncoderError, match="holds images"):
        Session(tmp_path / "text", tmp_path / "pool", like={"text": ["a cat"]}, **FIELDS)


def test_what_cannot_be_a_query_is_refused(pool, tmp_path):
    np.save(tmp_path / "long.npy", np.zeros((1, 7)))
    for like, problem in (
        ({"vectors": tmp_path / "none.npy"}, "cannot be read"),
        ({"vectors": tmp_path / "long.npy"}, "6 numbers"),
        ({"image": [tmp_path / "none.png"]}, "none.png"),
    ):
        with pytest.raises(ConfigError, match=problem):
            Session(tmp_path / "run", pool, like=like, **FIELDS)
        assert not (tmp_path / "run" / "run.json").exists()


def test_an_altered_file_and_another_space_are_named(pool, tmp_path):
    np.save(tmp_path / "like.npy", np.ones((2, 6)))
    with Session(tmp_path / "run", pool, like={"vectors": tmp_path / "like.npy"}, **FIELDS):
        pass
    encoder = {"name": "precomputed", "origin": "elsewhere"}
    raysal.embed(Memory(vectors=mixture(50, 6)[0], keys=list(map(str, range(50)))), encoder, out=tmp_path / "other")
    other = Pool(tmp_path / "other")
    run = RunDir(tmp_path / "run")
    assert queries_of(run, pool).shape == (2, 6)
    with pytest.raises(FingerprintMismatch, match="encoder of the queries"):
        queries_of(run, other)
    file = run.path / "like.json"
    file.write_bytes(file.read_bytes().replace(b"1.0", b"2.0", 1))
    with pytest.raises(Damaged, match=r"like\.json"):
        queries_of(run, pool)
