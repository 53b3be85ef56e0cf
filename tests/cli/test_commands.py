"""The whole way through the command line, on small real pools."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import Answer, cli, labels_csv, refused, write_images, write_vectors

from raysal.labels import Ledger, read_labels

COLUMNS = ["id", "key", "rank", "score", "reason"]
CONFIG = """
pool = {pool}
[fleet]
backend = "local"
[oracle]
name = "{oracle}"
[rounds]
count = 2
k = 6
holdout = {holdout}
control = {control}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cli")
    out = home / "pool"
    answer = cli("embed", write_vectors(home / "vectors.parquet"), "--out", out, "--carry", "label")
    assert answer.code == 0, answer
    return out


def write_config(path: Path, pool: Path, oracle: str = "simulated") -> Path:
    simulated = oracle == "simulated"
    text = CONFIG.format(
        pool=json.dumps(str(pool)),
        oracle=oracle,
        holdout=0.2 if simulated else 0,
        control=str(simulated).lower(),
    )
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# embed


def test_embed_says_what_it_did_and_does_nothing_twice(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v.parquet")
    first = cli("embed", source, "--out", tmp_path / "pool", "--chunk-rows", 100, "--json").json
    again = cli("embed", source, "--out", tmp_path / "pool", "--chunk-rows", 100, "--json").json
    assert (first["items"], first["chunks"], first["embedded"], first["resumed"]) == (300, 3, 300, 0)
    assert (again["embedded"], again["resumed"]) == (0, 3)


def test_the_metric_of_a_pool_is_decided_once(tmp_path: Path) -> None:
    words = ("embed", write_vectors(tmp_path / "v.parquet"), "--out", tmp_path / "pool")
    assert cli(*words, "--metric", "l2").code == 0
    assert cli("pool", "info", tmp_path / "pool", "--json").json["metric"] == "l2"
    assert cli(*words, "--metric", "l2").code == 0
    refused(cli(*words), "its metric", "another directory")
    refused(cli(*words, "--metric", "angle"), "--metric", "cosine")


def test_columns_can_be_named(tmp_path: Path) -> None:
    table = pq.read_table(write_vectors(tmp_path / "v.parquet")).rename_columns(["name", "v", "kind"])
    pq.write_table(table, tmp_path / "w.parquet")
    words = ("embed", tmp_path / "w.parquet", "--out", tmp_path / "pool")
    refused(cli(*words), "'key'", "--key-column")
    refused(cli(*words, "--key-column", "name", "--vector-column", "nope"), "'nope'", "--vector-column")
    named = cli(*words, "--key-column", "name", "--vector-column", "v", "--carry", "kind")
    assert named.code == 0
    batch = cli("select", tmp_path / "pool", "-k", 2, "--json").json["rows"]
    assert all(row["key"].startswith("item-") for row in batch)


@pytest.mark.parametrize("as_json", [False, True])
def test_too_many_broken_items_exit_with_3_and_leave_a_usable_pool(tmp_path: Path, as_json: bool) -> None:
    source = write_vectors(tmp_path / "v.parquet", rows=50, bad=5)
    words = ["embed", source, "--out", tmp_path / "pool", *(["--json"] if as_json else [])]
    answer = cli(*words)
    assert answer.code == 3
    assert "5 of 50" in answer.err
    assert "--max-quarantine" in answer.err
    if as_json:
        assert (answer.json["exit_code"], answer.json["quarantined"], answer.json["items"]) == (3, 5, 50)
    else:
        assert answer.out == ""
    assert cli("pool", "info", tmp_path / "pool", "--json").json["quarantined"] == 5
    assert len(cli("select", tmp_path / "pool", "-k", 4, "--json").json["rows"]) == 4
    assert cli(*words, "--max-quarantine", 0.1).code == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("nothing-there", "--out", "p"), ("nothing-there", "no such file")),
        (("broken.parquet", "--out", "p"), ("broken.parquet",)),
        (("notes.docx", "--out", "p"), ("unknown kind", ".docx")),
        (("photos", "--out", "p"), ("encoder", "efficientnet_lite0")),
        (("photos", "--out", "p", "--encoder", "resnet"), ("'resnet'", "efficientnet_lite0", "precomputed")),
        (("photos", "--out", "p", "--encoder", "torch:nowhere:build"), ("nowhere",)),
        (("photos", "--out", "p", "--encoder", "precomputed"), ("precomputed", "vectors")),
        (("v.parquet", "--out", "p", "--size", "8"), ("encoder.size", "no such field")),
        (("v.parquet", "--out", "p", "--encoder", "efficientnet_lite0"), ("takes images",)),
        (("v.parquet", "--out", "p", "--carry", "nope"), ("'nope'", "--carry")),
        (("v.parquet",), ("--out", "raysal embed --help")),
        (("v.parquet", "--out", "p", "--backend", "spark"), ("spark", "local", "ray")),
        (("v.parquet", "--out", "p", "--chunk-rows", "99999999"), ("--chunk-rows",)),
    ],
)
def test_embed_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_vectors(tmp_path / "v.parquet", rows=20)
    write_images(tmp_path / "photos", count=3)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "notes.docx").write_text("x")
    refused(cli("embed", *words), *parts)


def test_a_pool_of_something_else_is_not_overwritten(tmp_path: Path, pool: Path) -> None:
    other = write_vectors(tmp_path / "other.parquet", rows=20)
    shutil.copytree(pool, tmp_path / "pool")
    refused(cli("embed", other, "--out", tmp_path / "pool"), "20 items, was 300", "another directory")


# select


def test_a_batch_has_its_columns(pool: Path) -> None:
    rows = cli("select", pool, "-k", 7, "--json").json["rows"]
    assert [list(row) for row in rows] == [COLUMNS] * 7
    assert [row["rank"] for row in rows] == list(range(1, 8))
    assert len({row["id"] for row in rows}) == 7
    assert all("no labels yet" in row["reason"] for row in rows)


def test_a_batch_for_people_cuts_no_key(tmp_path: Path) -> None:
    key = "a/very/long/path/" * 12 + "to an [image].jpg"
    table = pq.read_table(write_vectors(tmp_path / "v.parquet", rows=3))
    keys = pa.array([key, "b", "c"])
    pq.write_table(table.set_column(0, "key", keys), tmp_path / "w.parquet")
    cli("embed", tmp_path / "w.parquet", "--out", tmp_path / "pool")
    assert key in cli("select", tmp_path / "pool", "-k", 3).out


def test_batch_files_of_every_kind_hold_the_same_rows(tmp_path: Path, pool: Path) -> None:
    rows = cli("select", pool, "-k", 5, "--seed", 3, "--json").json["rows"]
    for kind in ("csv", "parquet", "jsonl"):
        answer = cli("select", pool, "-k", 5, "--seed", 3, "-o", tmp_path / f"batch.{kind}", "--json")
        assert answer.json["out"].endswith(kind)
        assert "rows" not in answer.json
    assert pq.read_table(tmp_path / "batch.parquet").to_pylist() == rows
    assert [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text().splitlines()] == rows
    table = rows_of(tmp_path / "batch.csv")
    assert list(table[0]) == [*COLUMNS, "label"]
    assert [row["key"] for row in table] == [row["key"] for row in rows]
    assert {row["label"] for row in table} == {""}


def test_labels_change_the_batch_and_are_not_offered_again(tmp_path: Path, pool: Path) -> None:
    labels = labels_csv(tmp_path / "labels.csv")
    rows = cli("select", pool, "-k", 20, "--labels", labels, "--json").json["rows"]
    told = {row["key"] for row in rows_of(labels)}
    assert not told & {row["key"] for row in rows}
    assert not any("no labels yet" in row["reason"] for row in rows)


def test_partitions_and_options(tmp_path: Path, pool: Path) -> None:
    labels = labels_csv(tmp_path / "labels.csv")
    words = ("select", pool, "-k", 6, "--labels", labels, "--json")
    narrowed = (
        *words,
        "--narrow",
        "anchoral",
        "--narrow-option",
        "subpool=40",
        "--narrow-option",
        "anchors=4",
    )
    assert cli(*narrowed).json == cli(*narrowed, "--partitions", 3).json
    rule = cli(*narrowed).json["candidates"]
    assert rule.startswith("40 of ")
    assert cli(*words).json["candidates"] == f"all {300 - len(rows_of(labels))}"
    shown = cli(*(word for word in narrowed if word != "--json")).out
    assert f"from {rule}" in " ".join(shown.split())
    saved = cli(*narrowed, "-o", tmp_path / "batch.csv").json
    assert saved["candidates"] == rule
    entropy = cli(*words, "--strategy", "top_score", "--option", "score=entropy").json["rows"]
    assert all(row["reason"].startswith("entropy") for row in entropy)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("-k", "301"), ("301 items wanted", "300 available")),
        (("-k", "0"), ("-k",)),
        (("-k", "many"), ("-k", "integer")),
        ((), ("-k", "raysal select --help")),
        (("-k", "2", "--budget", "5"), ("k, budget", "both are given")),
        (("--budget", "0.5"), ("budget", "cheapest item costs 1")),
        (("-k", "2", "--cost", "price"), ("cost", "there is no budget")),
        (("-k", "2", "--by", "owner"), ("part of an owner", "owner")),
        (("-k", "2", "--aggregate-scores", "max"), ("parts.aggregate_scores", 'by = "owner"')),
        (("-k", "2", "--by", "owner", "--aggregate-scores", "most"), ("'most'", "quantile")),
        (("-k", "2", "--strategy", "bagde"), ("'bagde'", "badge, ", "typiclust")),
        (("-k", "2", "--narrow", "nope"), ("'nope'", "anchoral")),
        (("-k", "2", "--option", "score=margin"), ("strategy.score", "badge")),
        (("-k", "2", "--option", "score"), ("NAME=VALUE",)),
        (("-k", "2", "--narrow", "uniform", "--narrow-option", "size=few"), ("narrow.size", "few")),
        (("-k", "2", "--narrow", "uniform", "--narrow-option", "size=0"), ("narrow.size",)),
        (
            ("-k", "2", "--strategy", "top_score", "--option", "score=x"),
            ("'x'", "bald, entropy, ", "variation_ratio"),
        ),
        (("-k", "2", "--labels", "nope.csv"), ("nope.csv", "no such")),
        (("-k", "2", "--labels", "unknown.csv"), ("who-is-this", "not in the pool")),
        (("-k", "2", "--labels", "columns.csv"), ("'key'",)),
        (("-k", "2", "--labels", "broken.parquet"), ("broken.parquet",)),
        (("-k", "2", "--labels", "."), ("no run is there",)),
        (("-k", "2", "-o", "batch.xlsx"), (".xlsx", ".csv, .tsv, .parquet")),
        (("-k", "2", "-o", "nowhere/batch.csv"), ("nowhere", "directory does not exist")),
        (("-k", "2", "--partitions", "0"), ("--partitions",)),
        (("-k", "2", "--strategi", "badge"), ("--strategi", "--strategy")),
    ],
)
def test_select_refuses_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pool: Path,
    words: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown.csv").write_text("key,label\nitem-0001,a\nwho-is-this,b\n")
    (tmp_path / "columns.csv").write_text("file,label\nitem-0001,a\n")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    refused(cli("select", pool, *words), *parts)


def test_select_refuses_what_is_no_pool(tmp_path: Path, pool: Path) -> None:
    refused(cli("select", tmp_path / "nope", "-k", 2), "nope", "not a pool", "raysal embed")
    shutil.copytree(pool, tmp_path / "pool")
    next((tmp_path / "pool" / "commits").iterdir()).unlink()
    refused(cli("select", tmp_path / "pool", "-k", 2), "0 of 1 chunks", "raysal embed")


# pool


def test_pool_info_verify_export(tmp_path: Path, pool: Path) -> None:
    info = cli("pool", "info", pool, "--json").json
    wanted = {
        "items": 300,
        "dim": 8,
        "dtype": "float16",
        "metric": "cosine",
        "chunks": 1,
        "encoder": "precomputed",
        "quarantined": 0,
    }
    assert wanted.items() <= info.items()
    assert cli("pool", "verify", pool, "--json").json == {"pool": str(pool), "files": 6, "ok": True}
    assert cli("pool", "export", pool, "-o", tmp_path / "all.parquet", "--json").json["rows"] == 300
    exported = pq.read_table(tmp_path / "all.parquet")
    assert {"id", "key", "label", "vector"} <= set(exported.column_names)
    refused(cli("pool", "export", pool, "-o", tmp_path / "all.txt"), ".csv, .tsv, .parquet")


def test_verify_names_the_damaged_file(tmp_path: Path, pool: Path) -> None:
    shutil.copytree(pool, tmp_path / "pool")
    file = tmp_path / "pool" / "vectors" / "00000.arrow"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused(cli("pool", "verify", tmp_path / "pool"), "vectors/00000.arrow", "sha256")


# run, resume, status


def test_a_run_with_its_control_arm(tmp_path: Path, pool: Path) -> None:
    config = write_config(tmp_path / "run.toml", pool)
    run = tmp_path / "run"
    made = cli("run", config, "--out", run, "--partitions", 2, "--json").json
    assert (made["rounds"], made["labels"], made["finished"]) == (2, 12, True)
    assert 0 < made["accuracy"] <= 1
    assert 0 < made["control_accuracy"] <= 1
    assert cli("resume", run, "--json").json == made
    status = cli("status", run, "--json").json
    assert (status["state"], status["labeled"], status["waiting"]) == ("finished", 12, 0)
    assert sum(status["classes"].values()) == 12
    table = cli("resume", run).out
    assert "saved" in table
    assert "accuracy" in cli("status", run).out


def test_a_run_with_people(tmp_path: Path, pool: Path) -> None:
    run = tmp_path / "run"
    truth = {
        row["key"]: row["label"]
        for row in pq.read_table(pool / "items" / "00000.parquet", columns=["key", "label"]).to_pylist()
    }
    config = write_config(tmp_path / "run.toml", pool, oracle="files")
    answer = cli("run", config, "--out", run)
    assert answer.code == 0
    assert f"raysal label import {run}" in answer.out
    for number in range(2):
        todo = tmp_path / f"todo-{number}.csv"
        assert cli("status", run, "--json").json["state"] == "waiting for labels"
        assert cli("label", "export", run, "--waiting", "-o", todo, "--json").json["waiting"] == 6
        keys = [row["key"] for row in rows_of(todo)]
        lines = [f"{key},{truth[key] if i else ''}" for i, key in enumerate(keys)]
        todo.write_text("key,label\n" + "\n".join(lines) + "\n")
        told = cli("label", "import", run, todo, "--json").json
        assert (told["labels"], told["new"], told["unanswered"]) == (5, 5, 1)
        todo.write_text(f"key,label\n{keys[0]},{truth[keys[0]]}\n")
        assert cli("label", "import", run, todo, "--json").json["new"] == 1
        assert cli("resume", run).code == 0
    assert cli("status", run, "--json").json["state"] == "finished"
    for kind in ("csv", "parquet", "jsonl"):
        out = tmp_path / f"labels.{kind}"
        assert cli("label", "export", run, "-o", out, "--json").json["labels"] == 12
        again = cli("label", "import", run, out, "--json").json
        assert (again["repeated"], again["new"], again["corrected"]) == (12, 0, 0)
    told = {row["key"]: row["label"] for row in rows_of(tmp_path / "labels.csv")}
    assert told.items() <= truth.items()


def test_labels_can_begin_a_run(tmp_path: Path, pool: Path) -> None:
    labels, run = labels_csv(tmp_path / "labels.csv"), tmp_path / "run"
    refused(cli("label", "import", run, labels), "no run is there", "--pool")
    (tmp_path / "wrong.csv").write_text("key,label\nnobody,a\n")
    refused(cli("label", "import", run, tmp_path / "wrong.csv", "--pool", pool), "'nobody'")
    assert not run.exists()
    assert cli("label", "import", run, labels, "--pool", pool, "--json").json["new"] == 30
    assert cli("label", "import", run, labels, "--pool", pool, "--json").json["repeated"] == 30
    from_run = cli("select", pool, "-k", 5, "--labels", run, "--json").json["rows"]
    assert from_run == cli("select", pool, "-k", 5, "--labels", labels, "--json").json["rows"]


def test_disputed_labels_are_counted_and_written(tmp_path: Path, pool: Path) -> None:
    lines = [
        "key,label,annotator",
        "item-0001,a,ann",
        "item-0001,b,bob",
        "item-0002,a,ann",
        "item-0002,a,bob",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    told = cli("label", "import", tmp_path / "run", tmp_path / "labels.csv", "--pool", pool, "--json").json
    assert (told["new"], told["disputed"]) == (4, 1)
    out = cli("label", "export", tmp_path / "run", "-o", tmp_path / "out.csv", "--json").json
    assert (out["labels"], out["items"], out["disputed"]) == (4, 2, 1)
    rows = [",".join((row["key"], row["label"], row["annotator"])) for row in rows_of(tmp_path / "out.csv")]
    assert rows == lines[1:]


def test_labels_are_withdrawn_by_annotator(tmp_path: Path, pool: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "labels.csv").write_text("key,label,annotator\nitem-0001,a,ann\nitem-0001,b,bob\nitem-0002,a,ann\n")
    cli("label", "import", run, tmp_path / "labels.csv", "--pool", pool)
    words = ("label", "withdraw", run, "item-0001", "item-0002")
    assert "0 of 2 answers taken back; answers are left of 'ann', 'bob' (--annotator)" in cli(*words).out
    assert cli(*words, "--annotator", "bob", "--json").json["withdrawn"] == 1
    assert cli("status", run, "--json").json["labeled"] == 2
    assert "2 of 2 answers of ann taken back" in cli(*words, "--annotator", "ann").out
    assert cli(*words, "--json").json["withdrawn"] == 0
    assert cli("status", run, "--json").json["labeled"] == 0
    refused(cli("label", "withdraw", run, "item-0001", "nobody"), "'nobody'")
    cli("label", "skip", run, "item-0001", "--annotator", "ann")
    assert cli(*words, "--json").json["annotators_left"] == ["ann"], "a skip of somebody else keeps the item out, too"
    refused(cli("label", "withdraw", tmp_path / "nowhere", "item-0001"), "no run is there")


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_an_exported_file_is_no_news_to_its_run(tmp_path: Path, pool: Path, kind: str) -> None:
    run, out = tmp_path / "run", tmp_path / f"out.{kind}"
    assert cli("run", write_config(tmp_path / "run.toml", pool), "--out", run).code == 0  # its oracle has a name
    with Ledger(run / "ledger.sqlite", create=False) as ledger:
        one, two, three, four = [i for i in range(300) if ledger.state(i) == "unlabeled"][:4]
        (tmp_path / "labels.csv").write_text(
            "key,label,annotator,weight\n"
            f"item-{one:04d},a,bob,1\nitem-{one:04d},a,ann,3\n"
            f"item-{two:04d},a,ann,1\nitem-{two:04d},b,bob,0.1\n"
            f"item-{three:04d},a,,1\n"
        )
        assert cli("label", "import", run, tmp_path / "labels.csv").code == 0
        ledger.skip(four, f"item-{four:04d}", "eve")
        before, counts, tip = ledger.labels(), ledger.counts(), ledger.head_seq
        assert (counts["labeled"], counts["disputed"], counts["skipped"]) == (14, 1, 1)
        assert {item.id: item.weight for item in before}[one] == 4
        answer = cli("label", "export", run, "-o", out, "--json").json
        told = cli("label", "import", run, out, "--json").json
        assert (told["new"], told["corrected"], told["repeated"]) == (0, 0, answer["labels"])
        assert (answer["labels"], answer["items"]) == (17, 15)
        assert (ledger.labels(), ledger.counts(), ledger.head_seq) == (before, counts, tip)
    (tmp_path / "fresh").mkdir()
    with Ledger(tmp_path / "fresh" / "ledger.sqlite") as fresh:  # nothing but the skip is lost
        ids = {item["key"]: item["id"] for item in pq.read_table(pool / "items" / "00000.parquet").to_pylist()}
        fresh.tell([(ids[label.key], label) for label in read_labels(out).labels])
        assert [(item.key, item.label, item.weight) for item in fresh.labels()] == [
            (item.key, item.label, item.weight) for item in before
        ]


def test_looking_leaves_the_work_of_another_process_alone(tmp_path: Path, pool: Path) -> None:
    run = tmp_path / "run"
    cli("label", "import", run, labels_csv(tmp_path / "labels.csv"), "--pool", pool)
    half = run / "rounds" / ".tmp-0000-1"
    half.mkdir()
    for words in (("status", run), ("label", "export", run, "-o", tmp_path / "x.csv")):
        assert cli(*words).code == 0
    cli("label", "import", run, tmp_path / "labels.csv")
    cli("select", pool, "-k", 1, "--labels", run)
    assert half.exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("status", "nope"), ("nope", "no run is there", "raysal run")),
        (("resume", "nope"), ("nope", "no run is there")),
        (("label", "export", "nope", "-o", "x.csv"), ("nope", "no run is there")),
        (("run", "nope.toml", "--out", "r"), ("nope.toml", "no such file")),
        (("run", "bad.toml", "--out", "r"), ("bad.toml", "TOML")),
        (("run", "typo.toml", "--out", "r"), ("rouns",)),
        (("run", "name.toml", "--out", "r"), ("'bagde'", "badge, ", "coreset")),
        (("run", "pool.toml", "--out", "r"), ("not a pool",)),
    ],
)
def test_runs_refuse_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("pool = \n")
    (tmp_path / "typo.toml").write_text('pool = "p"\n[rouns]\n')
    (tmp_path / "name.toml").write_text('pool = "p"\n[select]\nname = "bagde"\n')
    (tmp_path / "pool.toml").write_text('pool = "p"\n[fleet]\nbackend = "local"\n')
    refused(cli(*words), *parts)


# config


def test_config_show_is_a_config(tmp_path: Path, pool: Path) -> None:
    config = write_config(tmp_path / "run.toml", pool)
    shown = cli("config", "show", config).out
    values = tomllib.loads(shown)
    assert values["rounds"] == {"count": 2, "k": 6, "holdout": 0.2, "tests": 0.0, "control": True}
    assert values["start"] == {"name": "typiclust", "max_candidates": 10_000, "max_clusters": 500}
    assert values == cli("config", "show", config, "--json").json
    (tmp_path / "again.toml").write_text(shown)
    assert cli("config", "show", tmp_path / "again.toml").out == shown
    assert cli("config", "show").code == 0


def test_every_shipped_config_is_valid() -> None:
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    assert configs
    for config in configs:
        assert cli("config", "validate", config, "--json").json["ok"] is True


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[narrow]\nname = "anchoral"\nanchor = 3\n', ("narrow.anchor", "anchors")),
        ('[narrow]\nname = "uniform"\nsize = -1\n', ("narrow.size",)),
        ('[oracle]\nname = "human"\n', ("'human'", "files, simulated")),
        ('[start]\nname = "badge"\n', ("start", "badge")),
        ('[update.trainer]\nname = "logistic"\nl2 = -1.0\n', ("l2",)),
        ('[source]\nname = "digits"\n', ("encoder",)),
        ('[source]\nname = "digits"\n[encoder]\nname = "vgg"\n', ("'vgg'", "efficientnet_lite0")),
        ("[rounds]\nk = 0\n", ("rounds.k",)),
        ('[oracle]\nname = "simulated"\nlabels = "truth.csv"\n', ("oracle.labels", "truth.csv is not there")),
    ],
)
def test_validate_finds_unknown_names_and_fields(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    (tmp_path / "run.toml").write_text('pool = "p"\n' + text)
    refused(cli("config", "validate", tmp_path / "run.toml"), *parts)


def test_validate_can_look_into_the_pool(tmp_path: Path, pool: Path) -> None:
    config = write_config(tmp_path / "run.toml", pool)
    assert cli("config", "validate", config, "--pool").code == 0
    config.write_text(config.read_text().replace('"simulated"', '"simulated"\ncolumn = "colour"'))
    assert cli("config", "validate", config).code == 0
    refused(cli("config", "validate", config, "--pool"), "oracle.column", "colour")


# a folder of one's own images


def test_a_folder_of_images_from_embed_to_labels(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos")
    (photos / "broken.jpg").write_bytes((photos / "even" / "00.jpg").read_bytes()[:100])
    pool, batch = tmp_path / "pool", tmp_path / "batch.csv"
    words = ("embed", photos, "--encoder", "torch:tiny_encoder:build", "--size", 16, "--out", pool)
    made = cli(*words, "--max-quarantine", 0.1, "--json")
    assert made.code == 0, made
    assert (made.json["items"], made.json["quarantined"]) == (25, 1)
    assert cli("select", pool, "-k", 6, "-o", batch).code == 0
    rows = rows_of(batch)
    for row in rows:
        row["label"] = ("red", "green", "blue")[int(Path(row["key"]).stem) % 3]
    with open(batch, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    second: Answer = cli("select", pool, "-k", 6, "--labels", batch, "--json")
    keys = {row["key"] for row in second.json["rows"]}
    assert len(keys) == 6
    assert not keys & {row["key"] for row in rows}
    assert cli("label", "import", tmp_path / "run", batch, "--pool", pool, "--json").json["new"] == 6
