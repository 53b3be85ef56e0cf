"""Whatever a terminal or pipe can show, a command ends as it does elsewhere, and JSON is JSON."""

from __future__ import annotations

import io
import json
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import process
from tiers import deep_unless
from trees import picture

from raysal.cli import main
from raysal.pool import Pool

KEYS = ["Straße", "b – c", "雪.png", "a\x1b[1m", "no", "e"]
ENCODINGS = ["ascii", "latin-1", "cp1252", "utf-8"]


class Written(NamedTuple):
    code: int
    out: str
    err: str


def run_in(encoding: str, *words: object) -> Written:
    """Run a command whose output goes to streams of an encoding that are as strict as Python's own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code = main([str(word) for word in words])
    finally:
        sys.stdout, sys.stderr = before
    return Written(code, *(stream.buffer.getvalue().decode(encoding) for stream in (out, err)))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    vectors = pa.array([[float(i), 1.0] for i in range(len(KEYS))])
    labels = ["ä", "–", "雪", "x", "ä", "x"]
    pq.write_table(pa.table({"key": KEYS, "vector": vectors, "größe": labels}), home / "v.parquet")
    (home / "fotos").mkdir()
    for name in ("é.png", "雪.jpg", "x.svg", "notes ß.txt"):
        (home / "fotos" / name).write_bytes(picture())
    (home / "bad\udcff.txt").write_text("")
    (home / "l.csv").write_text("key,label\nStraße,größer\n雪.png,–\n", encoding="utf-8")
    (home / "wrong.csv").write_text("key,label\nStrasse 雪,x\n", encoding="utf-8")
    (home / "c.toml").write_text(
        'pool = "pool"\n[oracle]\nname = "simulated"\ncolumn = "größe"\n[fleet]\nbackend = "local"\n'
        "[rounds]\ncount = 1\nk = 2\n",
        encoding="utf-8",
    )
    assert main(["embed", str(home / "v.parquet"), "--out", str(home / "pool"), "--carry", "größe"]) == 0
    return home


COMMANDS: dict[str, tuple[object, ...]] = {
    "embed": ("embed", "v.parquet", "--out", "pool", "--carry", "größe"),
    "embed images": ("embed", "fotos", "--encoder", "torch:tiny_encoder:build", "--size", 4, "--out", "fotopool"),
    "embed nothing": ("embed", "nichts ß", "--out", "x"),
    "select": ("select", "pool", "-k", 6),
    "select out": ("select", "pool", "-k", 3, "-o", "ü.csv"),
    "select badly": ("select", "pool", "-k", 3, "--strategy", "größe"),
    "import": ("label", "import", "run", "l.csv", "--pool", "pool"),
    "import badly": ("label", "import", "run2", "wrong.csv", "--pool", "pool"),
    "status": ("status", "run"),
    "export": ("label", "export", "run", "-o", "ö.csv"),
    "withdraw": ("label", "withdraw", "run", "Straße"),
    "search": ("index", "search", "pool", "--key", "Straße", "-k", 5, "--columns", "größe"),
    "search badly": ("index", "search", "pool", "--key", "Straß", "-k", 5),
    "predict": ("predict", "pool", "--run", "runs", "--out", "vorhersage"),
    "run": ("run", "c.toml", "--out", "runs"),
    "plan": ("run", "c.toml", "--out", "runs", "--dry-run"),
    "resume": ("resume", "runs"),
    "config show": ("config", "show", "c.toml"),
    "config validate": ("config", "validate", "c.toml", "--pool"),
    "config badly": ("config", "validate", "ß.toml"),
    "info": ("pool", "info", "pool"),
    "verify": ("pool", "verify", "pool"),
    "pool export": ("pool", "export", "pool", "-o", "ä.parquet"),
    "index": ("index", "build", "pool", "--kind", "flat"),
    "index info": ("index", "info", "pool"),
    "doctor": ("doctor", "--quick"),
    "help": ("embed", "--help"),
    "help of all": ("--help",),
    "nothing": ("größe",),
}
NEEDS = {"status": ["import"], "export": ["import"], "withdraw": ["import"], "predict": ["run"], "resume": ["run"]}
FIRST = {"embed", "select", "select badly", "import", "status", "search", "run", "info", "help"}
"""One of each kind of output; the other commands are deep."""
VARY = {"seconds", "items_per_second", "embedded", "resumed", "build_seconds", "latency_ms", "findings", "age_s"}
"""Fields of JSON that depend on time, or on what was there before."""


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if name not in VARY}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", deep_unless(FIRST, COMMANDS))
def test_a_command_ends_alike_in_every_encoding(
    home: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[str, tuple[Written, Written]] = {}
    for encoding in ENCODINGS:
        place = tmp_path / "Büro – 雪"
        shutil.copytree(home, place)
        monkeypatch.chdir(place)
        for needed in NEEDS.get(name, ()):
            assert run_in("utf-8", *COMMANDS[needed]).code == 0
        answers[encoding] = run_in(encoding, *COMMANDS[name]), run_in(encoding, *COMMANDS[name], "--json")
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(place)
    shown, as_json = answers["utf-8"]
    for encoding in ENCODINGS[:-1]:
        other, other_json = answers[encoding]
        assert (other.code, other_json.code) == (shown.code, as_json.code), (other, shown)
        assert len(other.err.splitlines()) == len(shown.err.splitlines())
        assert "Traceback" not in other.err + other_json.err
        if "help" not in name:
            assert bool(other.out) == bool(shown.out)
            assert without_times(json.loads(other_json.out)) == without_times(json.loads(as_json.out))
    assert answers["ascii"][0].out.isascii()


def test_letters_that_cannot_be_shown_are_escapes_and_tables_stay_straight(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    lines = [line for line in run_in("ascii", *COMMANDS["search"]).out.splitlines() if "|" in line and "+" not in line]
    assert len({line.replace("+", "|").index("|", 10) for line in lines}) == 1
    assert any("a\\x1b[1m" in line for line in lines), "a key gives no orders to a terminal"
    assert any("\\u96ea.png" in line for line in lines)
    assert any("b - c" in line for line in lines)


SETTINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "no locale": {"LC_ALL": "C", "LANG": "C"},
    "no UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0"},
}


@pytest.mark.parametrize(("as_json", "encoding"), deep_unless({(True, "no UTF-8")}, product([True, False], SETTINGS)))
def test_a_process_with_an_ascii_terminal(
    home: Path, encoding: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PYTHONCOERCECLOCALE": "0", **SETTINGS[encoding]}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    answer = process("select", "pool", "-k", 6, "--strategy", "random", *["--json"] * as_json)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    if as_json:
        assert sorted(row["key"] for row in json.loads(answer.out)["rows"]) == sorted(KEYS)


def test_a_folder_of_photos_is_the_same_in_an_ascii_locale(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names are bytes of UTF-8 whatever the locale says."""
    monkeypatch.chdir(home)
    program = (
        "import sys; from pathlib import Path; from raysal.sources.folder import Folder\n"
        "source = Folder(path=Path(sys.argv[1]))\n"
        "for unit in source.units(2):\n"
        "    print(*[(ascii(i.key), len(i.payload)) for i in source.read(unit)], source.fingerprint())\n"
    )
    plain = process("fotos", python=("-c", program))
    for name, value in {"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    assert process("fotos", python=("-c", program)) == plain
    assert plain.code == 0
    assert "\\xe9.png" in plain.out


@pytest.mark.parametrize("option", ["--out=~/pool", "--out=~", "--out ~/pool", "--out ~"])
def test_an_option_with_the_home_directory(tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave `~` alone behind an equals sign, and inside quotes."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    pq.write_table(pa.table({"key": ["a"], "vector": [[1.0]]}), tmp_path / "v.parquet")
    assert run_in("utf-8", "embed", "~/../v.parquet", *option.split()).code == 0
    assert (home / option.partition("~")[2].strip("/") / "pool.json").exists()


def test_a_pattern_that_the_shell_replaced_is_the_same_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        pq.write_table(pa.table({"key": [name], "vector": [[1.0, 2.0]]}), f"{name}.parquet")
    assert run_in("utf-8", "embed", "*.parquet", "--out", "quoted").code == 0
    assert run_in("utf-8", "embed", "a.parquet", "b.parquet", "--out", "replaced").code == 0
    pools = [Pool(tmp_path / name) for name in ("quoted", "replaced")]
    assert pools[0].contents == pools[1].contents
