"""Paths that people write in configs: from the working directory, from the config's own folder, from home."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli

from raysal.arguments import as_path
from raysal.config import Choice, LikeConfig, load_config, parse_config
from raysal.embedding import ENCODERS
from raysal.errors import ConfigError, SourceError
from raysal.labels import ORACLES
from raysal.models.trainers import TRAINERS
from raysal.narrowing import NARROWERS
from raysal.paths import AFTER_COLON, PATHS, from_config, with_home
from raysal.sources import SOURCES
from raysal.sources.places import place_of
from raysal.strategies import SELECTORS

REGISTRIES: dict[str, Any] = {
    "source": SOURCES, "encoder": ENCODERS, "oracle": ORACLES, "narrow": NARROWERS, "select": SELECTORS,
    "trainer": TRAINERS,
}  # fmt: skip


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A working directory, and a folder of configs elsewhere."""
    here, folder = tmp_path / "here", tmp_path / "configs"
    here.mkdir()
    folder.mkdir()
    monkeypatch.chdir(here)
    return here, folder


def test_every_field_that_holds_a_path_is_known() -> None:
    found: dict[str, set[str]] = {}
    for kind, registry in REGISTRIES.items():
        for name in registry:
            for field in dataclasses.fields(registry[name]):
                if "Path" in str(field.type) and not (field.name == "arg" and name in AFTER_COLON.get(kind, ())):
                    found.setdefault(kind, set()).add(field.name)
    found["like"] = {name for name, field in LikeConfig.model_fields.items() if "Path" in str(field.annotation)}
    assert found == {kind: set(names) for kind, names in PATHS.items()}


FIELDS = {"pool": "pool", **{f"{kind}.{name}": f"{kind} {name}" for kind, names in PATHS.items() for name in names}}


def config_with(field: str, value: str) -> str:
    kind, _, name = field.rpartition(".")
    if kind == "like":
        return f'pool = "elsewhere"\n[like]\n{name} = ' + (f'["{value}"]\n' if name == "image" else f'"{value}"\n')
    parts = {
        "source.path": "table", "source.also": "table", "source.data": "fashion_mnist", "source.keys": "npy",
        "source.catalogue": "cutouts", "oracle.labels": "simulated",
    }  # fmt: skip
    given = f'["{value}"]' if name == "also" else f'"{value}"'
    table = f'[{kind}]\nname = "{parts[field]}"\n{name} = {given}\n' if kind else ""
    table += 'path = "elsewhere.npy"\n' if name in ("keys", "also") else ""
    encoder = 'encoder = "precomputed"\n' if kind == "source" else ""
    return (f'pool = "{value}"\n' if not kind else 'pool = "elsewhere"\n') + encoder + table


def value_of(config: Any, field: str) -> Path:
    kind, _, name = field.rpartition(".")
    if kind == "like":
        return Path(config.like.image[0] if name == "image" else config.like.vectors)
    found = config.pool if not kind else (getattr(config, kind).model_extra or {})[name]
    return Path(found[0] if name == "also" else found)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("in_cwd", "in_folder"), [*product([False, True], repeat=2)])
@pytest.mark.parametrize("value", ["data", "sub/data", "./data"])
def test_a_relative_path_is_where_something_is(
    places: tuple[Path, Path], field: str, in_cwd: bool, in_folder: bool, value: str
) -> None:
    here, folder = places
    for place, there in ((here, in_cwd), (folder, in_folder)):
        if there:
            (place / value).mkdir(parents=True)
    file = folder / "c.toml"
    file.write_text(config_with(field, value))
    said: list[str] = []
    if in_cwd and in_folder:
        with pytest.raises(ConfigError, match="write the whole path") as caught:
            load_config(file, said.append)
        assert caught.value.where == field
        assert str(here / value) in str(caught.value)
        assert str(folder / value) in str(caught.value)
        return
    found = value_of(load_config(file, said.append), field)
    meant = folder / value if in_folder else Path(value)
    assert found in (meant, meant.absolute())
    assert len(said) == in_folder
    assert all(str(folder / value) in line and field in line for line in said)


@pytest.mark.parametrize("name", ["folder", "table"])
def test_a_url_is_no_path(places: tuple[Path, Path], name: str) -> None:
    """Slashes of a URL are not joined, and nothing is looked for on the disk."""
    here, folder = places
    (here / "s3:" / "bucket").mkdir(parents=True)
    (folder / "c.toml").write_text(
        f'pool = "p"\nencoder = "precomputed"\nsource = {{name = "{name}", path = "S3://bucket/a//"}}'
    )
    said: list[str] = []
    found = load_config(folder / "c.toml", said.append).source
    assert found is not None
    assert found.build("source", SOURCES).path == "s3://bucket/a"
    assert said == []
    assert Choice(name=name, path=f"file://{here}").build("source", SOURCES).path == here
    with pytest.raises(SourceError, match="write a URL as text"):
        place_of(Path("s3://bucket/a"))


def test_a_config_in_the_working_directory_changes_nothing(places: tuple[Path, Path]) -> None:
    here, _ = places
    (here / "data").mkdir()
    (here / "c.toml").write_text(config_with("source.path", "data"))
    for path in (Path("c.toml"), here / "c.toml", Path("../here/c.toml")):
        said: list[str] = []
        assert value_of(load_config(path, said.append), "source.path") == Path("data")
        assert said == []


@pytest.mark.parametrize("encoder", ['"finetuned:model"', '{ name = "finetuned:model" }'])
def test_a_path_after_a_colon_is_a_path(places: tuple[Path, Path], encoder: str) -> None:
    _, folder = places
    (folder / "model").mkdir()
    (folder / "c.toml").write_text(f'pool = "elsewhere"\nsource = "digits"\nencoder = {encoder}\n')
    said: list[str] = []
    config = load_config(folder / "c.toml", said.append)
    assert config.encoder is not None
    assert config.encoder.name == f"finetuned:{folder / 'model'}"
    assert len(said) == 1


def test_a_link_to_the_same_place_is_no_doubt(places: tuple[Path, Path]) -> None:
    here, folder = places
    (here / "data").mkdir()
    (folder / "data").symlink_to(here / "data")
    assert from_config("pool", Path("data"), folder) == Path("data")


def test_patterns_and_absolute_paths(places: tuple[Path, Path]) -> None:
    here, folder = places
    (folder / "data").mkdir()
    (folder / "data" / "a.parquet").write_bytes(b"")
    assert from_config("source.path", Path("data/*.parquet"), folder) == folder / "data" / "*.parquet"
    (here / "data").mkdir()
    assert from_config("source.path", Path("data/*.parquet"), folder) == folder / "data" / "*.parquet"
    (here / "data" / "b.parquet").write_bytes(b"")
    with pytest.raises(ConfigError):
        from_config("source.path", Path("data/*.parquet"), folder)
    assert from_config("source.path", folder / "data", folder) == folder / "data"


@pytest.mark.parametrize("field", FIELDS)
def test_the_home_directory(places: tuple[Path, Path], field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, folder = places
    monkeypatch.setenv("HOME", str(here))
    (folder / "c.toml").write_text(config_with(field, "~/data"))
    said: list[str] = []
    assert value_of(load_config(folder / "c.toml", said.append), field) == here / "data"
    assert said == []


def test_the_home_directory_in_python(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = places
    monkeypatch.setenv("HOME", str(here))
    assert as_path("out", "~/pool") == with_home("~/pool") == here / "pool"
    assert parse_config({"pool": "~"}).pool == here
    source = Choice.model_validate({"name": "folder", "path": "~/p"}).build("source", SOURCES)
    assert source.path == here / "p"  # type: ignore[attr-defined]
    assert with_home("a~/~") == Path("a~/~")


def test_commands_say_where_a_path_was_found(places: tuple[Path, Path]) -> None:
    here, folder = places
    vectors = {"key": [f"k{i}" for i in range(9)], "vector": [[float(i), 1.0] for i in range(9)]}
    pq.write_table(pa.table(vectors), folder / "v.parquet")
    (folder / "c.toml").write_text(
        'pool = "pool"\n[source]\nname = "table"\npath = "v.parquet"\n[encoder]\nname = "precomputed"\n'
        '[fleet]\nbackend = "local"\n[rounds]\nk = 2\n'
    )
    where = f"raysal: source.path: v.parquet is taken from the folder of the config: {folder / 'v.parquet'}\n"
    for words in (["config", "validate"], ["config", "show"], ["run"]):
        options = ["--out", here / "run"] if words == ["run"] else []
        answer = cli(*words, folder / "c.toml", *options)
        assert (answer.code, answer.err) == (0, where)
    assert (here / "pool" / "pool.json").exists(), "what is not there yet is made where it always was"
    assert cli("config", "show", folder / "c.toml", "--json").json["source"]["path"] == str(folder / "v.parquet")
