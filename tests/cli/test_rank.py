"""`raysal rank` as people use it: rank, look, fill in, export. What is refused, and what is lost, is said."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, process, refused
from PIL import Image
from pools import make_pool, mixture
from programs import local, random_head
from tiers import deep
from warm import python

import raysal
from raysal.errors import FingerprintMismatch, OutputExists
from raysal.labels.remarks import Remark, Remarks
from raysal.pool import Pool
from raysal.ranking import Options, Ranking, rank_pool
from raysal.report import export_items
from raysal.rounds.session import Session


def key_of(i: int) -> str:
    return f"{'sub/' if i % 2 else ''}<a> & b{i:02d}.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, red and blue, and a run over a pool of them that has four labels."""
    home = tmp_path_factory.mktemp("rank")
    rng = np.random.default_rng(0)
    (home / "photos" / "sub").mkdir(parents=True)
    for i in range(30):
        pixels = rng.integers(0, 60, (24, 30, 3), dtype=np.uint8)
        pixels[..., 0 if i % 3 == 0 else 2] += 150
        Image.fromarray(pixels).save(home / "photos" / key_of(i))
    words = ("--encoder", "torch:tiny_encoder:build", "--size", 12, "--out", home / "pool")
    assert cli("embed", home / "photos", *words).code == 0
    labels = [{"key": key_of(i), "label": "red" if i % 3 == 0 else "blue"} for i in (0, 1, 2, 3)]
    (home / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in labels), encoding="utf-8")
    assert cli("label", "import", home / "run", home / "labels.jsonl", "--pool", home / "pool").code == 0
    assert cli("rank", home / "run", "-o", home / "ranking", "--target", "red").code == 0
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of the ranking and the run; pool and pictures stay where they are."""
    for name in ("run", "ranking"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_ranking_again_finds_it_and_new_labels_add_a_version(home: Path) -> None:
    words = ("rank", home / "run", "-o", home / "ranking", "--target", "red", "--json", "-n", 3)
    found = cli(*words).json
    assert (found["made"], found["version"], found["items"], found["score"]) == (False, "0000", 30, "log_odds")
    assert [row["rank"] for row in found["rows"]] == [1, 2, 3]
    assert {row["class"] for row in found["rows"]} == {"red"}
    (home / "more.csv").write_text(f"key,label\n{key_of(6)},red\n", encoding="utf-8")
    assert cli("label", "import", home / "run", home / "more.csv").code == 0
    found = cli(*words).json
    assert (found["made"], found["version"], found["labels"]) == (True, "0001", 5)
    answer = cli("rank", home / "run", "-o", home / "ranking", "--target", "red", "-n", 2)
    assert "version 0001: 30 items by log_odds of red, head 0 (all labels), 5 labels (it was there)" in answer.out
    assert cli("rank", home / "ranking", "--version", "0000", "--json").json["labels"] == 4


def test_background_items_are_no_labels(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", mixture(90, 5)[0])
    with raysal.find(
        pool, examples=["item-000001", "item-000002"], update={"background": 40}, out=tmp_path / "run"
    ) as s:
        assert s.current_head().labels_seen > 2
    assert cli("rank", tmp_path / "run", "-o", tmp_path / "ranking", "--json").json["labels"] == 2


def test_a_ranking_is_exported_with_what_its_own_head_predicts(tmp_path: Path) -> None:
    """The run has a newer head by then; of a ranking whose head was not kept there is no prediction, and a word."""
    x, names = mixture(40, 4, classes=2)
    keys = [f"item-{i:06d}" for i in range(40)]
    pool, run, ranking = make_pool(tmp_path / "pool", x, labels=names), tmp_path / "run", tmp_path / "ranking"
    with Session(run, pool, select="random", start="random", target=["class-0"]) as session:
        session.tell({keys[i]: ("class-0", "class-1")[i % 2] for i in range(6)})
        session.query(2)
        raysal.rank(run, out=ranking)
        session.tell({keys[i]: names[i] for i in range(6, 30)} | {keys[i]: names[i] for i in range(6)})
        session.query(2)
    words = ("label", "export", run, "--ranking", ranking, "--format", "csv", "--top", 40, "-o")
    assert "without predictions" not in cli(*words, tmp_path / "a.csv").out
    told = [(row["key"], row["prediction"]) for row in rows_of(tmp_path / "a.csv")]
    ranked = Ranking.open(ranking).page(0, 40).to_pylist()
    assert list(dict.fromkeys(told)) == [(row["key"], row["class"]) for row in ranked]
    (ranking / "versions" / "0000" / "head.safetensors").unlink()
    assert (
        "without predictions: the head of the ranking was not kept; rank again" in cli(*words, tmp_path / "b.csv").out
    )
    assert "prediction" not in rows_of(tmp_path / "b.csv")[0]


def test_pages_are_shown_from_anywhere(home: Path) -> None:
    every = cli("rank", home / "ranking", "-n", 100, "--json").json["rows"]
    assert len(every) == 30
    assert {row["key"] for row in every[:10]} == {key_of(i) for i in range(0, 30, 3)}
    assert cli("rank", home / "ranking", "--start", 12, "-n", 5, "--json").json["rows"] == every[12:17]
    refused(cli("rank", home / "ranking", "--start", 99), "--start: 99 is past the end", "has 30 items")
    found = cli("rank", home / "ranking", "--find", every[7]["key"], "-n", 2, "--json").json
    assert (found["start"], found["rows"]) == (7, every[7:9])
    shown = cli("rank", home / "ranking", "-n", 2).out
    assert every[0]["key"] in shown
    assert "labeled" in shown or "unlabeled" in shown


def test_the_best_items_go_to_a_label_tool_with_rank_and_score(home: Path, tmp_path: Path) -> None:
    best = cli("rank", home / "ranking", "-n", 6, "--json").json["rows"]
    words = ("label", "export", home / "run", "--ranking", home / "ranking", "--format")
    done = cli(*words, "label-studio", "--top", 6, "-o", home / "tasks.json", "--json").json
    assert (done["items"], done["labels"]) == (6, sum(row["state"] == "labeled" for row in best))
    tasks = json.loads((home / "tasks.json").read_text(encoding="utf-8"))
    told = [{name: task["data"][name] for name in ("raysal_key", "rank", "score")} for task in tasks]
    assert told == [{"raysal_key": row["key"], "rank": row["rank"], "score": row["score"]} for row in best]
    assert {task["data"]["reason"] for task in tasks} == {"ranked by log_odds of red, version 0000"}
    annotated = {task["data"]["raysal_key"] for task in tasks if task.get("annotations")}
    assert annotated <= {row["key"] for row in best if row["state"] == "labeled"}
    assert cli("label", "import", home / "run", home / "tasks.json", "--json").json["new"] == 0
    assert cli(*words, "csv", "-o", home / "todo.csv", "--json").json["items"] == 30
    assert [row["key"] for row in rows_of(home / "todo.csv")][:6] == [row["key"] for row in best]
    name = next(row["key"] for row in best if row["state"] == "labeled")
    remarks = Remarks(home / "run")
    remarks.add("me", [(name, Remark("look", 4)), (best[-1]["key"], Remark("twice"))])
    remarks.close()
    assert cli(*words, "csv", "--top", 6, "-o", home / "todo.csv", "--force").code == 0
    noted = [(row["key"], row["note"], row["rating"]) for row in rows_of(home / "todo.csv") if row["note"]]
    assert sorted(noted) == sorted([(name, "look", "4"), (best[-1]["key"], "twice", "")])
    refused(cli(*words[:5], "-o", home / "x.csv"), "--ranking", "raysal rank", "-n 100 -o")
    refused(cli(*words, "csv", "--waiting", "-o", home / "x.csv"), "--ranking", "name different items")
    refused(cli("label", "export", home / "run", "--top", 3, "-o", home / "x.csv"), "--top", "--ranking")
    refused(cli(*words, "embedding-atlas", "-o", home / "x.parquet"), "takes the whole pool")
    pool = make_pool(tmp_path / "other-pool", mixture(30, 4)[0])
    assert cli("find", pool.path, "-e", "item-000001", "-k", 3, "-o", tmp_path / "other").code == 0
    words = ("label", "export", tmp_path / "other", "--ranking", home / "ranking", "--format", "csv")
    refused(cli(*words, "-o", home / "x.csv"), "the pool that was ranked", "rank the pool of this run")
    assert not (home / "x.csv").exists()


def test_a_page_is_filled_in_and_comes_back(home: Path) -> None:
    page = home / "page.csv"
    assert cli("rank", home / "ranking", "-n", 8, "--start", 2, "-o", page).code == 0
    rows = rows_of(page)
    assert list(rows[0]) == [
        "rank",
        "id",
        "key",
        "score",
        "class",
        "probability",
        "state",
        "known_label",
        "held_out",
        "label",
    ]
    wanted = cli("rank", home / "ranking", "-n", 8, "--start", 2, "--json").json["rows"]
    assert [row["key"] for row in rows] == [row["key"] for row in wanted]
    for row in rows:
        row["label"] = "red"
    with open(page, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    refused(cli("rank", home / "ranking", "-n", 8, "--start", 2, "-o", page), "is there already")
    assert cli("rank", home / "ranking", "-o", page, "--force").code == 0
    assert rows_of(home / "page.csv.1") == rows, "somebody's work is kept"
    (home / "page.csv.1").rename(home / "mine.csv")
    assert cli("label", "import", home / "run", home / "mine.csv").code == 0
    assert cli("label", "export", home / "run", "-o", home / "told.csv").code == 0
    told = {row["key"]: row["label"] for row in rows_of(home / "told.csv")}
    assert all(told[row["key"]] == "red" for row in rows)
    for suffix in (".tsv", ".parquet", ".jsonl", ".json"):
        assert cli("rank", home / "ranking", "-o", home / f"page{suffix}").code == 0


def test_what_people_answered_is_shown_kept_and_may_be_left_out(home: Path, tmp_path: Path) -> None:
    """Beside what the head predicts, which may differ; in files in a column of its own, which no import reads."""
    told = {key_of(i): "red" if i % 3 == 0 else "blue" for i in (0, 1, 2, 3)}
    with raysal.Session.open(home / "run") as session:
        asked = session.query(2).keys
        session.tell({key_of(6): "blue"})  # the head will say red
    told[key_of(6)] = "blue"
    words = ("rank", home / "run", "-o", home / "ranking", "--target", "red", "-n", 30)
    rows = cli(*words, "--json").json["rows"]
    assert {row["key"]: row["known_label"] for row in rows if row["known_label"]} == told
    shown = " ".join(cli(*words).out.split())
    assert "predicted" in shown
    assert "labeled blue" in shown
    assert "asked for" in shown
    assert "leased" not in shown
    assert cli("rank", home / "ranking", "-n", 30, "-o", home / "page.csv").code == 0
    page = rows_of(home / "page.csv")
    assert {row["key"]: row["known_label"] for row in page if row["known_label"]} == told
    assert not any(row["label"] for row in page)
    assert "0 labels read" in cli("label", "import", home / "run", home / "page.csv").out
    left = cli("rank", home / "ranking", "-n", 7, "--unlabeled", "--json").json["rows"]
    assert left == [row for row in rows if row["key"] not in told][:7]
    assert {row["key"] for row in rows if row["state"] == "leased"} == set(asked)
    words = ("rank", home / "ranking", "-n", 30, "--export")
    assert cli(*words, home / "all").code == 0
    assert cli(*words, home / "left", "--unlabeled").code == 0
    assert "labeled blue" in (home / "all" / "index.html").read_text(encoding="utf-8")
    every = rows_of(home / "all" / "table.csv")
    assert {row["key"]: row["known_label"] for row in every if row["known_label"]} == told
    assert [row["key"] for row in rows_of(home / "left" / "table.csv")] == [
        row["key"] for row in every if row["key"] not in told
    ]


def test_what_is_refused_says_what_to_do(home: Path, made: Path) -> None:
    ranking, run = home / "ranking", home / "run"
    refused(cli("rank", run), "out: is missing", "--out RANKING")
    refused(cli("rank", run, "-o", home / "new"), "target", "--target")
    refused(cli("rank", run, "-o", home / "new", "--target", "green"), "'green' is none of the classes", "blue, red")
    refused(cli("rank", run, "-o", home / "new.csv", "--target", "red"), "name a directory")
    refused(cli("rank", run, "-o", made / "pool", "--target", "red"), "is the directory of a pool")
    refused(cli("rank", run, "-o", home / "new", "--target", "red", "--score", "doubt"), "doubt")
    refused(cli("rank", run, "-o", home / "new", "--version", "0"), "--version")
    refused(cli("rank", home / "nothing", "-o", home / "new"), "no run is there")
    making = {
        "target": "red", "novelty": "distance", "top": 3, "round": 0, "draws": 128, "seed": 0, "partitions": 1,
        "device": "cpu", "backend": "local", "address": "auto",
    }  # fmt: skip
    for name, value in making.items():
        refused(cli("rank", ranking, f"--{name}", value), f"--{name} is for ranking a run", "name the run")
    refused(cli("rank", ranking, "--seed", 1, "--round", 0), "--round, --seed are for ranking a run")
    refused(cli("rank", ranking, "--version", "12"), "no finished version 12")
    refused(cli("rank", ranking, "--find", "nobody"), "1 key is not in the pool: 'nobody'", "pool export")
    refused(cli("rank", ranking, "-o", home / "page.xlsx"), "unknown extension")
    refused(cli("rank", ranking, "--export", ranking), "is there already", "name another folder")
    refused(cli("rank", ranking, "--export", home / "a" / "b"), "its directory does not exist")
    assert not (home / "new").exists()


def test_an_export_has_pictures_a_table_and_a_page(home: Path, made: Path) -> None:
    answer = cli("rank", home / "ranking", "--start", 1, "-n", 6, "--export", home / "best", "--json")
    assert answer.code == 0, answer
    assert answer.json["export"]["files"] == 6
    table = rows_of(home / "best" / "table.csv")
    wanted = cli("rank", home / "ranking", "--start", 1, "-n", 6, "--json").json["rows"]
    assert [row["key"] for row in table] == [row["key"] for row in wanted]
    assert "label" in table[0]
    for row in table:
        copied = home / "best" / row["file"]
        assert copied.read_bytes() == (made / "photos" / row["key"]).read_bytes()
        assert copied.name.startswith(f"{int(row['rank']):06d}_")
    page = (home / "best" / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 6
    assert "&lt;a&gt; &amp; b" in page
    assert "<a> & b" not in page
    assert "http" not in page
    assert len(list((home / "best" / "previews").iterdir())) == 6
    assert not list(home.glob(".tmp-*"))
    assert cli("label", "import", home / "run", home / "best" / "table.csv").code == 0


def test_what_an_export_lacks_is_named_and_the_rest_is_there(home: Path, made: Path, monkeypatch) -> None:
    """A corrupt picture, and one that is gone, so that all others have another place in the source."""
    shutil.copytree(made / "photos", home / "photos")
    kept = made / "kept"
    corrupt, gone = key_of(3), key_of(0)
    (made / "photos").rename(kept)
    try:
        shutil.copytree(kept, made / "photos")
        (made / "photos" / corrupt).write_bytes(b"not a picture")
        (made / "photos" / gone).unlink()
        answer = cli("rank", home / "ranking", "-n", 30, "--export", home / "best")
        assert answer.code == 3
        assert "28 of 30 items" in answer.out
        assert f"{corrupt}: not an image of a known format" in answer.out
        assert f"{gone}: not in the source any more" in answer.out
        table = {row["key"]: row for row in rows_of(home / "best" / "table.csv")}
        assert {key for key, row in table.items() if row["problem"]} == {corrupt, gone}
        for key, row in table.items():
            if not row["problem"]:
                assert (home / "best" / row["file"]).read_bytes() == (kept / key).read_bytes()
        assert (home / "best" / "index.html").read_text(encoding="utf-8").count("<img ") == 28
    finally:
        shutil.rmtree(made / "photos")
        kept.rename(made / "photos")


def test_an_export_appears_whole_or_not_at_all(home: Path, made: Path, monkeypatch) -> None:
    import raysal.report.ranked as ranked

    real, left = ranked._write, [5]

    def full(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(path, content)

    ranking = Ranking.open(home / "ranking")
    with monkeypatch.context() as patched:
        patched.setattr(ranked, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            export_items(ranking, home / "best")
    assert sorted(path.name for path in home.iterdir()) == ["ranking", "run"]
    best = home / "best"
    assert export_items(ranking, best, n=3).files == 3
    content = {path: path.read_bytes() for path in best.rglob("*") if path.is_file()}
    for lost in ((), ("index.html", "previews"), ("table.csv", "items")):  # the same again, and parts of it
        for name in lost:
            shutil.rmtree(best / name) if (best / name).is_dir() else (best / name).unlink()
        assert export_items(ranking, best, n=3).files == 3
        assert {path: path.read_bytes() for path in best.rglob("*") if path.is_file()} == content
    with pytest.raises(OutputExists, match=r"with another (index\.html|table\.csv)"):
        export_items(ranking, best, n=4)
    with open(best / "table.csv", "a", encoding="utf-8") as file:
        file.write("filled in")
    with pytest.raises(OutputExists, match=r"with another table\.csv; name another folder"):
        export_items(ranking, best, n=3)
    assert (best / "table.csv").read_text(encoding="utf-8").endswith("filled in")
    assert not list(home.glob(".tmp-*"))
    assert export_items(ranking, home / "none", start=30, n=3).items == 0
    assert rows_of(home / "none" / "table.csv") == []


def test_texts_and_vectors_are_exported_as_what_they_are(tmp_path: Path) -> None:
    source = tmp_path / "notes.parquet"
    notes = {"key": [f"item-{i:06d}" for i in range(12)], "text": [f"<b>note</b> {i}" for i in range(12)]}
    pq.write_table(pa.table(notes), source)
    vectors, _ = mixture(12, 5)
    head, found = random_head(5, classes=2), {}
    for modality, config in (
        ("text", {"path": str(source), "key_column": "key", "text_column": "text"}),
        ("vector", {}),
    ):
        pool = make_pool(tmp_path / modality, vectors)
        manifest = replace(
            pool.manifest, modality=modality, source={"name": "table", "config": config, "fingerprint": modality}
        )
        manifest.write(pool.path)
        pool = Pool(pool.path)
        with local(pool) as fleet:
            own = replace(head, encoder=pool.vector_space)
            rank_pool(pool, fleet, own, tmp_path / f"{modality}-r", Options(target=("class-1",)))
        ranking = Ranking.open(tmp_path / f"{modality}-r")
        found[modality] = export_items(ranking, tmp_path / f"{modality}-best", n=5)
        assert (found[modality].items, found[modality].files) == (5, 5)
        assert sorted(path.name for path in (tmp_path / f"{modality}-best").iterdir()) == ["index.html", "table.csv"]
    page = (tmp_path / "text-best" / "index.html").read_text(encoding="utf-8")
    for row in rows_of(tmp_path / "text-best" / "table.csv"):
        assert row["text"] == f"<b>note</b> {int(row['key'][5:])}"
        assert f"&lt;b&gt;note&lt;/b&gt; {int(row['key'][5:])}" in page
    with pytest.raises(FingerprintMismatch, match="name the pool of the ranking"):
        export_items(ranking, tmp_path / "more", pool=tmp_path / "text")


def test_to_look_at_a_ranking_needs_no_torch(home: Path) -> None:
    words = ([], ["--unlabeled"], ["-o", str(home / "page.csv")], ["--find", key_of(9)])
    program = f"""
import sys
from raysal.cli import main
for words in {words!r}:
    assert main(["rank", {str(home / "ranking")!r}, *words]) == 0, words
    print(*[name for name in ("torch", "ray", "pandas") if name in sys.modules], file=sys.stderr)
"""
    answer = process(python=["-c", program])
    assert answer.code == 0, answer
    assert answer.err.split() == []


@deep
def test_an_interrupted_command_says_how_to_go_on(home: Path) -> None:
    program = "import os, signal, raysal.ranking.job as job\n"
    program += "job.find_cuts = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
    program += "import sys; from raysal.cli import main; sys.exit(main())"
    done = python(program, "rank", home / "run", "-o", home / "new", "--target", "red")
    assert done.returncode == 130 == 128 + signal.SIGINT
    assert "run the same command again to go on" in done.stderr
    refused(cli("rank", home / "new"), "no finished version")
    assert cli("rank", home / "run", "-o", home / "new", "--target", "red").code == 0
    assert cli("rank", home / "new", "--json").json["rows"] == cli("rank", home / "ranking", "--json").json["rows"]
