"""A round trip with a label tool puts every label on its item, whatever the tool does with the file meanwhile."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from label_tools import TOOLS
from pools import make_pool, mixture

import raysal
from raysal import Label, Session
from raysal.errors import ConfigError, FingerprintMismatch, LabelError
from raysal.labels import FORMATS
from raysal.pool import Manifest
from raysal.prediction.sampling import map_axes
from raysal.rounds.label_files import import_labels

ROWS, ASKED = 90, 40
KEYS = [f'sub {row % 3}/ä{row}, "n" & <{row}>.jpg' for row in range(ROWS)]
CLASSES = ['a "cat", or <two>', "dog", "007"]
TRUTH = {key: CLASSES[row % 3] for row, key in enumerate(KEYS)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A pool, and a run that has a head and waits for 40 labels."""
    make_pool(tmp_path / "pool", mixture(ROWS, 8, classes=3)[0], keys=KEYS)
    with Session(tmp_path / "run", tmp_path / "pool", select="margin") as session:
        first = session.query(6)
        session.tell([Label(key=key, label=TRUTH[key], annotator="before") for key in first.keys])
        session.query(ASKED)
    return tmp_path


def held(run: Path) -> dict[tuple[str, str], str]:
    """What the ledger holds: {(key, annotator): label}."""
    with Session.open(run, read_only=True) as session:
        return {(a.key, a.annotator): a.label for a in session.ledger.answers(skips=True)}


def waiting(run: Path) -> list[str]:
    with Session.open(run, read_only=True) as session:
        return [key for _, key in session.ledger.outstanding()]


def test_every_format_that_is_written_and_read_is_tried() -> None:
    assert set(TOOLS) == {name for name in FORMATS if FORMATS[name].suffixes and FORMATS[name].reads}


@pytest.mark.parametrize("tool", TOOLS)
def test_no_label_is_on_another_item_whatever_the_tool_does(home: Path, tool: str) -> None:
    run, path = home / "run", home / f"batch{'.json' if '.json' in FORMATS[tool].suffixes else '.xml'}"
    before, asked = held(run), waiting(run)
    assert len(asked) == ASKED
    done = raysal.export_labels(run, path, format=tool, which="waiting")
    assert (done.items, done.labels) == (ASKED, 0)
    assert import_labels(run, path).told.new == 0, "a file that nobody answered says nothing, predictions included"
    path.write_text(TOOLS[tool](path.read_text(encoding="utf-8"), random.Random(3), TRUTH), encoding="utf-8")
    told = import_labels(run, path).told
    after = held(run)
    new = {key: label for (key, who), label in after.items() if who == "ann"}
    assert len(new) == ASKED - ASKED // 10 == told.new
    assert new == {key: TRUTH[key] for key in new}
    assert set(new) <= set(asked)
    assert {pair: label for pair, label in after.items() if pair[1] != "ann"} == before
    assert set(waiting(run)) == set(asked) - set(new), "what was dropped still waits"
    again = import_labels(run, path, format=tool).told
    assert (again.new, again.corrected, held(run)) == (0, 0, after)


@pytest.mark.parametrize("tool", ["coco", "cvat"])
def test_a_name_that_is_no_key_is_named_and_never_guessed(home: Path, tool: str) -> None:
    """A tool that keeps the name of the file alone, and gave an upload a prefix."""
    run, path = home / "run", home / f"batch{FORMATS[tool].suffixes[0]}"
    raysal.export_labels(run, path, format=tool, which="waiting")
    text = TOOLS[tool](path.read_text(encoding="utf-8"), random.Random(3), TRUTH)
    renamed = text.replace("sub 1/", "sub 1/abcd1234-")
    path.write_text(renamed, encoding="utf-8")
    before = held(run)
    with pytest.raises(LabelError) as caught:
        import_labels(run, path)
    said = str(caught.value)
    assert re.search(rf"{path.name}, (row|line) \d+: \d+ keys are not in the pool .*abcd1234-.* and \d+ more", said)
    assert held(run) == before
    done = import_labels(run, path, skip_unknown=True)
    assert done.unknown
    assert all("abcd1234-" in key for key in done.unknown)
    new = {key: label for (key, who), label in held(run).items() if who == "ann"}
    assert new == {key: TRUTH[key] for key in new}
    assert not any(key.startswith("sub 1/") for key in new)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("l.csv", "key,label\nKNOWN,cat\nx,a\n\ny,a\n", "line 3: 2 keys are not in the pool (line 3: 'x'; line 5"),
        ("l.jsonl", '\n{"key": "x.jpg", "label": "dog"}\n', "line 2: 1 key is not in the pool (line 2: 'x.jpg')"),
        ("l.json", '[{"key": "x.jpg", "label": "dog"}]', "row 1: 1 key is not in the pool (row 1: 'x.jpg')"),
        ("l.csv", "key,label\n" + "".join(f"x{n},dog\n" for n in range(9)), "line 6: 'x4' and 4 more)"),
    ],
)  # fmt: skip
def test_unknown_keys_are_named_with_file_and_line(home: Path, name: str, text: str, says: str) -> None:
    known = '"' + KEYS[0].replace('"', '""') + '"'
    (home / name).write_text(text.replace("KNOWN", known), encoding="utf-8")
    before = held(home / "run")
    refused(cli("label", "import", home / "run", home / name), f"{name}, ", says, "--skip-unknown")
    assert held(home / "run") == before


def test_the_export_of_another_pool_is_refused_or_matched_by_key(home: Path) -> None:
    """The other pool has the same keys in another order."""
    order = np.random.default_rng(1).permutation(ROWS)
    make_pool(home / "other", mixture(ROWS, 8, classes=3, seed=4)[0][order], keys=[KEYS[row] for row in order])
    with Session(home / "theirs", home / "other", select="random") as session:
        session.query(9)
    path = home / "batch.json"
    for tool in ("label_studio", "argilla", "fiftyone", "table"):
        raysal.export_labels(home / "theirs", path, format=tool, which="waiting", overwrite=True)
        path.write_text(TOOLS[tool](path.read_text(encoding="utf-8"), random.Random(3), TRUTH), encoding="utf-8")
        before = held(home / "run")
        refused(cli("label", "import", home / "run", path), path.name, "exported for is", "--other-pool")
        assert held(home / "run") == before
    answer = cli("label", "import", home / "run", path, "--other-pool", "--json")
    assert answer.code == 0, answer.err
    assert {key: label for (key, who), label in held(home / "run").items() if who == "ann"}.items() <= TRUTH.items()
    with pytest.raises(FingerprintMismatch):
        import_labels(home / "new run", path, pool=home / "pool")
    assert not (home / "new run").exists(), "what was refused is undone"


def test_a_batch_that_was_out_while_the_pool_was_made_anew_comes_back(home: Path) -> None:
    """The run was matched with the new pool by key; so the old keys are known, and what the pool lacks is kept."""
    run, path = home / "run", home / "batch.json"
    raysal.export_labels(run, path, format="label_studio", which="waiting")
    asked = waiting(run)
    gone = asked[0]
    keys = [key for key in reversed(KEYS) if key != gone]
    make_pool(home / "anew", mixture(ROWS - 1, 8, classes=3)[0], keys=keys)
    assert cli("label", "import", run, path, "--pool", home / "anew", "--rebind").code == 0
    tasks = json.loads(path.read_text())
    for task in tasks:
        result = {"from_name": "label", "value": {"choices": [TRUTH[task["data"]["raysal_key"]]]}}
        task["annotations"] = [{"completed_by": 1, "result": [result]}]
    path.write_text(json.dumps(tasks))
    done = import_labels(run, path)
    assert (done.told.new, done.unknown) == (ASKED, [])
    with Session.open(run, read_only=True) as session:
        assert session.ledger.absent() == [gone]
        assert {item.key: item.label for item in session.ledger.labels()}.items() <= TRUTH.items()
        assert gone not in {item.key for item in session.ledger.labels()}
    assert held(run)[gone, "1"] == TRUTH[gone], "kept, and on nothing else"


def test_annotators_who_contradict_each_other_are_both_kept(home: Path) -> None:
    run, (first, second, *_) = home / "run", waiting(home / "run")
    rows = [
        {"key": first, "label": "dog", "annotator": "ann"}, {"key": first, "label": "007", "annotator": "bob"},
        {"key": second, "label": "!skip", "annotator": "ann"}, {"key": second, "label": "dog", "annotator": "bob"},
    ]  # fmt: skip
    (home / "l.json").write_text(json.dumps(rows))
    answer = cli("label", "import", run, home / "l.json", "--json").json
    assert (answer["new"], answer["skipped"], answer["disputed"]) == (3, 1, 1)
    for tool in TOOLS:
        path = home / f"all{FORMATS[tool].suffixes[0]}"
        said = held(run)
        raysal.export_labels(run, path, format=tool, skips=True, overwrite=True)
        told = import_labels(run, path, format=tool).told
        assert (told.new, told.corrected, told.skipped) == (0, 0, 0), tool
        assert held(run) == said
    rows.append({"key": first, "label": "007", "annotator": "ann"})
    (home / "l.json").write_text(json.dumps(rows))
    refused(cli("label", "import", run, home / "l.json"), "rows 1 and 5", "two different values of label")


def test_a_sheet_is_the_same_however_the_pool_is_cut(tmp_path: Path) -> None:
    vectors, texts = mixture(50, 8, classes=3), {}
    for rows in (50, 7):
        folder = tmp_path / str(rows)
        make_pool(folder / "pool", vectors[0], keys=KEYS[:50], chunk_rows=rows)
        with Session(folder / "run", folder / "pool", select="margin") as session:
            session.tell({key: TRUTH[key] for key in KEYS[:9]})
            session.query(12)
        for name, which in (("label_studio", "waiting"), ("cvat", "labels"), ("embedding_atlas", None)):
            path = folder / f"{name}{FORMATS[name].suffixes[0]}"
            raysal.export_labels(folder / "run", path, format=name, which=which)
            content: Any = path.read_bytes()
            if name == "embedding_atlas":
                content = pq.read_table(path).to_pylist()
            texts.setdefault(name, []).append(content)
    for name, (one, other) in texts.items():
        assert one == other, name
    rows_of = {row["key"]: row for row in texts["embedding_atlas"][0]}
    assert len(rows_of) == 50
    assert {row["answer"] for key, row in rows_of.items() if key in KEYS[:9]} == set(CLASSES)
    assert {row["state"] for row in rows_of.values()} == {"labeled", "leased", "unlabeled"}
    path = tmp_path / "atlas.parquet"
    for url, shown in (("https://h/", True), ("/data/", False), (None, False)):
        done = raysal.export_labels(tmp_path / "7" / "run", path, format="embedding-atlas", url=url, overwrite=True)
        assert ("--image uri" in done.setup) == shown, "it shows pictures of the web alone"


def test_what_is_asked_for_must_be_there(home: Path) -> None:
    run = home / "run"
    with pytest.raises(ConfigError, match="COCO does not take 'pool'"):
        raysal.export_labels(run, home / "a.json", format="coco", which="pool")
    atlas = ("-o", home / "a.parquet", "--format", "embedding-atlas")
    refused(cli("label", "export", run, *atlas, "--waiting"), "does not take 'waiting'")
    refused(cli("label", "export", run, "-o", home / "a.csv", "--format", "cvat"), ".xml")
    refused(cli("label", "export", run, "-o", home / "a.json", "--format", "nonesuch"), "nonesuch", "label-studio")
    refused(cli("label", "export", run, "-o", home / "a.json", "--format", "prodigy"), "read, and not written")
    refused(cli("label", "export", run, "-o", home / "a.csv", "--url", "x/"), "--url", "--format")
    assert not list(home.glob("a.*"))
    words = ("-o", home / "a.json", "--format", "label-studio", "--waiting", "--url", "https://h/")
    answer = cli("label", "export", run, *words)
    assert 'name="image" value="$image"' in answer.out
    task = json.loads((home / "a.json").read_text())[0]
    assert task["data"]["image"].startswith("https://h/sub%20")
    assert task["data"]["raysal_key"] in KEYS
    assert {"rank", "reason", "prediction"} <= task["data"].keys()
    assert task["predictions"][0]["result"][0]["value"]["choices"] == [task["data"]["prediction"]]


def of_texts(folder: Path, texts: Mapping[str, str], chunk_rows: int = 4) -> Path:
    """A pool whose manifest says that its items are the texts of a table."""
    lines = [f'{key},"{text}"' for key, text in texts.items()]
    (folder / "texts.csv").write_text("\n".join(["key,text", *lines]) + "\n", encoding="utf-8")
    pool = make_pool(folder / "pool", np.eye(len(texts), 4), chunk_rows=chunk_rows, keys=list(texts))
    source = {"name": "text", "config": {"path": str(folder / "texts.csv")}, "fingerprint": "f"}
    Manifest(**(asdict(pool.manifest) | {"source": source, "modality": "text"})).write(pool.path)
    return pool.path


def test_a_pool_of_texts_shows_its_texts_and_says_where_it_cannot(tmp_path: Path) -> None:
    texts = {f"k{row}": f"text no. {row}, ä <b>" for row in range(10)}
    pool = of_texts(tmp_path, texts)
    with Session(tmp_path / "run", pool, select="random") as session:
        session.query(5)
    path = tmp_path / "tasks.json"
    done = raysal.export_labels(tmp_path / "run", path, format="label-studio", which="waiting")
    tasks = [task["data"] for task in json.loads(path.read_text(encoding="utf-8"))]
    assert {task["raysal_key"]: task["text"] for task in tasks}.items() <= texts.items()
    assert len(tasks) == 5
    assert '<Text name="text" value="$text"/>' in done.setup
    assert done.problem is None
    raysal.export_labels(tmp_path / "run", tmp_path / "atlas.parquet", format="embedding-atlas")
    rows = pq.read_table(tmp_path / "atlas.parquet").to_pylist()
    assert {row["key"]: row["text"] for row in rows} == texts
    (tmp_path / "texts.csv").rename(tmp_path / "moved.csv")
    done = raysal.export_labels(tmp_path / "run", path, format="label-studio", which="waiting", overwrite=True)
    assert "texts.csv" in str(done.problem)
    assert [task["data"]["text"] for task in json.loads(path.read_text())] == [task["raysal_key"] for task in tasks]


def test_labels_of_another_pools_export_are_refused_by_select(home: Path) -> None:
    make_pool(home / "other", mixture(ROWS, 8, classes=3, seed=4)[0], keys=KEYS[::-1])
    path = home / "labels.json"
    raysal.export_labels(home / "run", path, format="label_studio")
    assert len(raysal.select(home / "pool", k=2, labels=path, strategy="margin")) == 2
    with pytest.raises(FingerprintMismatch, match="exported for"):
        raysal.select(home / "other", k=2, labels=path, strategy="margin")
    assert len(raysal.select(home / "other", k=2, labels=path, strategy="margin", rebind=True)) == 2


def test_a_search_that_knows_its_target_alone_offers_the_other_answer(home: Path) -> None:
    config: Any = {"target": ["lens"], "select": "random"}
    with Session(home / "search", home / "pool", **config) as session:
        session.tell({KEYS[0]: "lens"})
        session.query(3)
    done = raysal.export_labels(home / "search", home / "a.json", format="label_studio", which="waiting")
    assert re.findall(r'<Choice value="(\w+)"', done.setup) == ["lens", "negative"]


@pytest.mark.parametrize(("rows", "dim"), [(60, 8), (12, 40), (5, 1), (1, 3)])
def test_the_map_has_the_principal_axes(tmp_path: Path, rows: int, dim: int) -> None:
    """Wide vectors take another way, through the products of items, to the same axes."""
    vectors = np.random.default_rng(2).normal(size=(rows, dim)) * np.linspace(3, 1, dim)
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=7)
    centre, axes = map_axes(pool, seed=0)
    x = vectors.astype(np.float16).astype(np.float64)
    assert np.allclose(centre, x.mean(axis=0))
    _, values, wanted = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    for place in range(min(2, dim, rows - 1)):
        assert abs(axes[:, place] @ wanted[place]) == pytest.approx(1, abs=1e-6), values
        assert axes[np.argmax(np.abs(axes[:, place])), place] > 0
    assert axes.shape == (dim, 2)
    assert np.isfinite(axes).all()
