"""Configs: an error names a mistake by its dotted path, and a config that was kept is read back the same."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from raysal.config import Choice, Inner, Named, RunConfig, choice, load_config, parse_config
from raysal.config_sections import Section
from raysal.embedding import ENCODERS
from raysal.errors import ConfigError, UnknownName, UserError
from raysal.labels import ORACLES
from raysal.models.trainers import TRAINERS
from raysal.narrowing import NARROWERS
from raysal.rounds.arms import validate
from raysal.scoring.aggregators.registry import AGGREGATORS
from raysal.sources import SOURCES
from raysal.strategies import SELECTORS

PLAN = "curate.toml"
"""A plan of curation, and no config of a run."""
CONFIGS = [path for path in sorted((Path(__file__).parent.parent / "configs").glob("*.toml")) if path.name != PLAN]


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({}, "pool", "is not given"),
        ({"pool": "p", "sead": 1}, "sead", "no such field; the fields there: seed, pool"),
        ({"pool": "p", "rounds": {"cout": 3}}, "rounds.cout", "the fields there: count, k, holdout, tests, control"),
        ({"pool": "p", "rounds": {"k": "many"}}, "rounds.k", "'many'"),
        ({"pool": "p", "rounds": {"k": 0, "count": 0}}, "rounds.count", "1 more problem"),
        ({"pool": "p", "rounds": {"holdout": float("nan")}}, "rounds.holdout", "nan"),
        ({"pool": "p", "rounds": 3}, "rounds", "got 3"),
        ({"pool": "p", "fleet": {"backend": "dask"}}, "fleet.backend", "'local' or 'ray'"),
        ({"pool": "p", "embed": {"chunk_rows": 10**6}}, "embed.chunk_rows", "65536"),
        ({"pool": "p", "narrow": {"anchors": 3}}, "narrow.name", "is not given"),
        ({"pool": "p", "select": 3}, "select", "got 3"),
        ({"pool": "p", "update": {"trainer": {"l2": 1}}}, "update.trainer.name", "is not given"),
        ({"pool": "p", "source": "digits"}, "encoder", "come together"),
        ({"pool": "p", "encoder": "precomputed"}, "source", "come together"),
        ({"pool": list(range(5000))}, "pool", "..."),
    ],
)
def test_a_mistake_is_named_by_its_path(values: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    assert caught.value.where == path
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", [b"pool = ", b"\xff\xfe", b'pool = "p"\npool = "q"'])
def test_what_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a.toml: not valid TOML"):
        load_config(tmp_path / "a.toml")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"b.toml: no such file"):
        load_config(tmp_path / "b.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


@dataclass(frozen=True, kw_only=True)
class Plain:
    size: int = 3
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError("plain.size", "is negative")


@dataclass(frozen=True, kw_only=True)
class WithArgument:
    arg: str
    size: int = 3


@dataclass(frozen=True, kw_only=True)
class Around:
    of: Inner[object]


@dataclass(frozen=True, kw_only=True)
class Renamed:
    FORMER: ClassVar[dict[str, str]] = {"count": "size", "length": "size"}
    size: int = 3


KINDS: dict[str, Any] = {"around": Around, "named": WithArgument, "plain": Plain, "renamed": Renamed}


def test_a_choice_builds_what_it_names() -> None:
    assert choice("plain").build("kind", KINDS) == Plain()
    assert choice({"name": "plain", "size": 4, "shares": [1, 2]}).build("kind", KINDS) == Plain(
        size=4, shares=(1.0, 2.0)
    )
    assert choice("named:a:b").build("kind", KINDS) == WithArgument(arg="a:b")
    assert choice(Choice(name="named", arg="c")).build("kind", KINDS) == WithArgument(arg="c")
    assert choice("around:named:a").build("kind", KINDS) == Around(of=Named("named:a", WithArgument(arg="a")))
    small = {"name": "plain", "size": 4}
    assert choice({"name": "around", "of": small}).build("kind", KINDS) == Around(of=Named("plain", Plain(size=4)))


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"name": "plain", "sise": 4}, "kind.sise", "its fields: shares, size"),
        ({"name": "plain", "size": "x"}, "kind.size", "'x'"),
        ({"name": "plain", "shares": [1, "y"]}, "kind.shares.1", "'y'"),
        ({"name": "plain", "size": -1}, "plain.size", "negative"),
        ("plain:x", "kind.name", "takes nothing after a colon"),
        ("named", "kind.arg", "write it after a colon, as named:NAME"),
        ({"name": "named:a", "arg": "b"}, "kind.arg", "give one of them"),
        ({"name": "around:plain", "of": "named"}, "kind.of", "give one of them"),
        ({"name": "around:plain", "arg": "named"}, "kind.arg", "its fields: of"),
        ({"name": "around", "of": {"size": 3}}, "kind.of.name", "is not given"),
        ({"name": "around:around", "of": {"name": "around", "of": "plain"}}, "kind.of", "give one of them"),
        ({"name": "around:plain:x"}, "kind.of.name", "takes nothing after a colon"),
        (
            {"name": "around", "of": {"name": "around", "of": {"name": "plain", "sise": 4}}},
            "kind.of.of.sise",
            "no such",
        ),
    ],
)
def test_a_wrong_field_of_a_choice_is_named(given: Any, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choice(given).build("kind", KINDS)
    assert caught.value.where == path
    assert message in str(caught.value)


def test_an_unknown_name_inside_is_named_by_its_path() -> None:
    with pytest.raises(UnknownName, match="use one of: around, named, plain, renamed") as caught:
        choice("around:around:plane").build("kind", KINDS)
    assert caught.value.where == "kind.of.of"


def test_fields_may_be_given_by_the_names_they_had_before() -> None:
    for name in ("size", "count", "length"):
        assert choice({"name": "renamed", name: 4}).build("kind", KINDS) == Renamed(size=4)


@pytest.mark.parametrize("names", [("count", "size"), ("size", "count"), ("count", "length")])
def test_a_field_given_by_two_names_is_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"given twice, as {' and '.join(sorted(names))}") as caught:
        choice({"name": "renamed", **dict.fromkeys(names, 4)}).build("kind", KINDS)
    assert caught.value.where == "kind.size"


@pytest.mark.parametrize("name", ["plane", "", "Plain", ":x"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName, match="use one of: around, named, plain, renamed"):
        choice(name).build("kind", KINDS)


@pytest.mark.parametrize("given", [{}, {"nam": "x"}, {"name": 3}, 3, None])
def test_what_is_no_choice_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="choice"):
        choice(given)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_in_the_repository_are_valid_and_keep(path: Path) -> None:
    config = load_config(path)
    validate(config)
    kept = json.loads(json.dumps(config.model_dump(mode="json")))
    assert parse_config(kept) == config
    assert parse_config(tomllib.loads(path.read_text(encoding="utf-8"))) == config


def test_there_are_configs_to_test() -> None:
    assert CONFIGS


def test_every_field_comes_back() -> None:
    config = parse_config(
        {
            "pool": "p", "seed": 2**63, "source": {"name": "folder", "path": "x"}, "encoder": "timm:resnet18",
            "update": {"trainer": {"name": "logistic", "grid": [0.1, 1]}, "classes": ["b", "a"]},
            "fleet": {"backend": "local", "call_timeout": 1e9},
        }
    )  # fmt: skip
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_a_bare_name_is_a_choice() -> None:
    """`oracle = "simulated"`, as the messages advise."""
    config = parse_config({"pool": "p", "oracle": "simulated", "select": "coreset"})
    assert config == RunConfig(pool=Path("p"), oracle=Choice(name="simulated"), select=Choice(name="coreset"))


def test_a_relative_pool_is_taken_from_the_base(tmp_path: Path) -> None:
    assert parse_config({"pool": "p"}, tmp_path).pool == tmp_path / "p"
    assert parse_config({"pool": str(tmp_path)}, Path("elsewhere")).pool == tmp_path


def test_a_field_that_may_be_several_things_is_named_as_it_is_written() -> None:
    with pytest.raises(ConfigError) as caught:
        Choice(name="logistic", l2="cw").build("update.trainer", TRAINERS)  # type: ignore[call-arg]
    assert str(caught.value).startswith("update.trainer.l2: is no number")
    assert "got 'cw'; write one, as 0.5; use 'cv'" in str(caught.value)
    assert "more problem" not in str(caught.value)


PYDANTIC = ("Input ", "Field ", "Value error", "Extra inputs", "instance of", "<class", "validation")
"""Words of pydantic, which know nothing of a config."""
ODD = [{}, {"source": "x"}, [], [1], "x", "", -1, 1.5, True, [[]], [{}]]


def paths_of(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        yield (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from paths_of(field.annotation, (*above, name))


@pytest.mark.parametrize("path", list(paths_of(RunConfig)), ids=".".join)
def test_whatever_is_wrong_is_said_in_words_of_a_config(path: tuple[str, ...]) -> None:
    for value in ODD:
        values: dict[str, Any] = {"pool": "p"}
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
        if (error := refusal(lambda values=values: parse_config(values))) is not None:
            assert not any(word in str(error) for word in PYDANTIC), str(error)
            assert error.where.startswith((path[0], "encoder", "source")), str(error)
            assert error.fix or "use " in str(error) or "nearest" in str(error), str(error)


def refusal(call: Callable[[], object]) -> UserError | None:
    try:
        call()
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pool": {"source": "photos"}}, "pool: is no path.*write pool = ... above the first"),
        (
            {"pool": "p", "embed": {"metric": "l3"}},
            "embed.metric: is none of its values, got 'l3'; use 'cosine' or 'l2'",
        ),
        ({"pool": "p", "rounds": {"k": 0}}, "rounds.k: is out of range, got 0; use 1 or more"),
        ({"pool": "p", "rounds": {"k": 1.5}}, "rounds.k: is no whole number, got 1.5"),
        ({"pool": "p", "rounds": {"holdout": 1}}, "rounds.holdout: .*use less than 1"),
        ({"pool": "p", "rounds": 3}, "rounds: is no table, got 3"),
        ({"pool": "p", "select": 3}, "select: is neither the name of a part nor a table, got 3"),
        ({"pool": "p", "fleet": {"address": 3}}, "fleet.address: is no text, got 3; write it in quotes"),
        ({"pool": "p", "target": ["a", ""]}, "target.1: is empty"),
    ],
)
def test_an_error_says_what_to_write(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(values)


REGISTRIES: dict[str, Mapping[str, type[Any]]] = {
    "source": SOURCES,
    "encoder": ENCODERS,
    "narrow": NARROWERS,
    "select": SELECTORS,
    "oracle": ORACLES,
    "trainer": TRAINERS,
    "aggregate": AGGREGATORS,
}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_name_alone_makes_the_part_or_says_what_it_lacks(kind: str) -> None:
    registry = REGISTRIES[kind]
    lacking = 0
    for name in [*registry, *getattr(registry, "short", {})]:
        for written in (name, f"{name}:"):
            error = refusal(lambda written=written: Choice(name=written).build(kind, registry))
            if isinstance(error, ConfigError):
                lacking += 1
                assert not any(word in str(error) for word in PYDANTIC), str(error)
                assert error.where.startswith((f"{kind}.", name)), str(error)
                assert error.fix or "needs one of" in str(error), str(error)
    assert lacking or kind in ("narrow", "select", "oracle")


def test_what_goes_around_another_part_shows_how_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"encoder.of: 'spectrogram' .* as spectrogram:<encoder of images>"):
        Choice(name="spectrogram").build("encoder", ENCODERS)
