"""Queries: what is looked for and is no item. They are embedded once, and stay with the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from cli_tools import cli, refused
from PIL import Image
from pools import make_pool, mixture

import raysal
from raysal.config import load_config, parse_config
from raysal.errors import ConfigError, Damaged, EncoderError, FingerprintMismatch
from raysal.pool import Pool
from raysal.rounds.configs import control_config
from raysal.rounds.directory import RunDir
from raysal.rounds.queries import queries_of
from raysal.rounds.run_labels import RunLabels
from raysal.rounds.session import Session
from raysal.sources.memory import Memory
from raysal.store import read_sealed, write_sealed

FIELDS = {
    "select": {"name": "search", "likeliest": 1, "uncertain": 0, "novel": 0},
    "start": {"name": "search", "likeliest": 1, "uncertain": 0, "novel": 0},
    "target": ["positive"],
}


def files_of(run: Path) -> dict[str, bytes]:
    """What lies in a run, but for files of the ledger and the lock, which are touched by looking at them."""
    found = (path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix in (".json", ".png", ".parquet"))
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


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


def test_vectors_cannot_move_to_another_space(pool, tmp_path):
    np.save(tmp_path / "like.npy", np.ones((2, 6)))
    with Session(tmp_path / "run", pool, like={"vectors": tmp_path / "like.npy"}, **FIELDS) as session:
        session.tell({"item-000003": "positive"})
        like = session.config.like
    encoder = {"name": "precomputed", "origin": "elsewhere"}
    raysal.embed(Memory(vectors=mixture(50, 6)[0], keys=list(map(str, range(50)))), encoder, out=tmp_path / "other")
    other = Pool(tmp_path / "other")
    run = RunDir(tmp_path / "run")
    assert queries_of(run, like, pool).shape == (2, 6)
    before = files_of(run.path)
    for door in (
        lambda: queries_of(run, like, other),
        lambda: Session(run.path, other, rebind=True),
        lambda: RunLabels.open(run.path, other.path, rebind=True),
        lambda: raysal.select(other, k=2, strategy="search", labels=run.path, rebind=True),
    ):
        with pytest.raises(FingerprintMismatch, match=r"like\.npy.*the space of its vectors.*begin a new run"):
            door()
    assert files_of(run.path) == before
    file = run.path / "like.json"
    file.write_bytes(file.read_bytes().replace(b"1.0", b"2.0", 1))
    with pytest.raises(Damaged, match=r"like\.json"):
        queries_of(run, like, pool)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and two pools of them, by two encoders; and a picture that is none of theirs."""
    home = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (home / "photos").mkdir()
    for i in range(12):
        pixels = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(home / "photos" / f"{i:02d}.png")
        if i == 7:
            Image.fromarray(pixels).save(home / "found.PNG")
    for name, network in (("before", "weighted"), ("after", "with_norms")):
        encoder = {"name": f"torch:tiny_models:{network}", "size": 16}
        raysal.embed(home / "photos", encoder, out=home / name)
    return home


def begun(photos: Path, home: Path) -> tuple[Path, Path]:
    """A run that looks for a picture, over the first pool; and the picture's own file."""
    picture = Path(shutil.copy(photos / "found.PNG", home / "found.PNG"))
    with Session(home / "run", photos / "before", like={"image": [picture]}, **FIELDS) as session:
        assert session.query(1).keys == ["07.png"]
    return home / "run", picture


def test_queries_are_embedded_anew_by_the_encoder_of_another_pool(photos, tmp_path):
    run, picture = begun(photos, tmp_path)
    picture.unlink()
    expected = raysal.search(photos / "after", image=photos / "found.PNG", k=4)["key"].to_pylist()
    seen = raysal.select(photos / "after", k=3, strategy="search", labels=run, rebind=True)["key"].to_pylist()
    with Session.open(run, photos / "after", rebind=True) as session:
        assert session.query(3).keys == expected[1:] == seen  # the first is out for labelling
    with Session.open(run) as session:  # it remembers
        assert session.pool.path == photos / "after"
        record = json.loads((run / "like.json").read_text())
        assert record["space"] == session.pool.vector_space
        assert list(record["pictures"]) == ["like/0.png"]
    with RunLabels.open(run, photos / "before", rebind=True) as labels:  # and back, by the other door
        assert labels.pool().path == photos / "before"
    record = json.loads((run / "like.json").read_text())
    assert record["space"] == Pool(photos / "before").vector_space


def test_a_run_that_stopped_between_both_steps_of_a_rebind_mends_itself(photos, tmp_path, monkeypatch):
    run, _ = begun(photos, tmp_path)

    def stop(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raysal.rounds.session.meet_pool", stop)
        with pytest.raises(KeyboardInterrupt):
            Session.open(run, photos / "after", rebind=True)
    before = Pool(photos / "before")
    assert json.loads((run / "like.json").read_text())["space"] != before.vector_space
    with Session.open(run) as session:
        expected = raysal.search(before, image=photos / "found.PNG", k=4)["key"].to_pylist()
        assert session.query(3).keys == expected[1:]


def test_a_picture_that_is_gone_or_altered_is_named_and_nothing_is_touched(photos, tmp_path):
    run, picture = begun(photos, tmp_path)
    copy = run / "like" / "0.png"
    content = copy.read_bytes()
    copy.write_bytes(content[:-1])
    with pytest.raises(Damaged, match=r"like/0\.png: is not the picture"):
        Session.open(run, photos / "after", rebind=True)
    copy.unlink()
    with pytest.raises(Damaged, match=r"like/0\.png: is not the picture"):
        Session.open(run, photos / "after", rebind=True)
    record = read_sealed(run / "like.json")  # as an earlier version wrote it
    write_sealed(run / "like.json", {name: record[name] for name in ("space", "queries", "vectors")})
    picture.unlink()
    before = files_of(run)
    with pytest.raises(ConfigError, match=r"found\.PNG is gone.*put it back, or go on over the pool of before"):
        Session.open(run, photos / "after", rebind=True)
    assert files_of(run) == before
    with Session.open(run) as session:  # the pool of before needs nothing of it
        assert len(session.query(3)) == 3
    picture.write_bytes(content)
    with Session.open(run, photos / "after", rebind=True) as session:
        assert len(session.query(3)) == 3


def test_queries_that_nothing_goes_by_are_refused(pool, tmp_path):
    np.save(tmp_path / "like.npy", np.ones((1, 6)))
    like = {"vectors": tmp_path / "like.npy"}
    for fields in ({}, {"select": "margin"}, {"narrow": "uniform"}):
        with pytest.raises(ConfigError, match=r"like\.vectors.*no strategy of this run goes by it"):
            Session(tmp_path / "run", pool, like=like, target=["positive"], **fields)
        assert not (tmp_path / "run").exists()
    config = tmp_path / "run.toml"
    config.write_text(f'pool = "{pool.path}"\ntarget = ["positive"]\n[like]\ntext = ["a cat"]\n')
    refused(cli("config", "validate", config), "like.text", "no strategy of this run goes by it")
    with Session(tmp_path / "run", pool, like=like, target=["positive"], start=FIELDS["start"]) as session:
        assert len(session.query(2)) == 2
    with pytest.raises(ConfigError, match="names no class"):
        Session(tmp_path / "other", pool, start="search")


def test_a_run_that_began_with_queries_that_nothing_goes_by_goes_on(tmp_path):
    """As an older raysal took them, and kept them for the control arm."""
    x, names = mixture(120, 6, classes=2)
    pool = make_pool(tmp_path / "pool", x, chunk_rows=50, labels=names)
    np.save(tmp_path / "like.npy", np.ones((1, 6)))
    fields = {"like": {"vectors": tmp_path / "like.npy"}, "target": ["class-1"], "start": "random", "select": "margin"}
    more = {"oracle": "simulated", "rounds": {"k": 5, "count": 2, "holdout": 0.2, "control": True}}
    config = parse_config({"pool": pool.path, "fleet": {"backend": "local"}, **fields, **more})
    run = RunDir(tmp_path / "run")
    run.begin(config)
    run.control.begin(control_config(config))
    assert run.control.config().like == config.like
    assert cli("resume", run.path, "--json").json["rounds"] == 2
    for place in (run.path, run.control.path):
        Session.open(place, read_only=True).close()
