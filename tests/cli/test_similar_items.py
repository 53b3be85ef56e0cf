"""`raysal index search`, `serve` and `stop`, as a user would."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_tools import Answer, cli, process, refused, write_images, write_vectors
from tiers import deep
from warm import python


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("similar")
    assert cli("embed", write_vectors(home / "vectors.parquet"), "--out", home / "pool", "--carry", "label").code == 0
    return home / "pool"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of images by the tiny encoder, beside the folder they lie in."""
    home = tmp_path_factory.mktemp("photos")
    write_images(home / "photos")
    words = ("embed", home / "photos", "--encoder", "torch:tiny_encoder:build", "--size", 12, "--out", home / "pool")
    assert cli(*words).code == 0
    return home


def nearest(pool: Path, key: str, k: int) -> list[str]:
    """Keys by a sort of all cosines."""
    table = pq.read_table(pool.parent / "vectors.parquet")
    keys, x = table["key"].to_pylist(), np.stack(table["vector"].to_numpy()).astype(np.float16).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    order = np.argsort(-(x @ x[keys.index(key)]), kind="stable")
    return [keys[row] for row in order if keys[row] != key][:k]


def test_what_is_like_an_item(pool: Path) -> None:
    answer = cli("index", "search", pool, "--key", "item-0007", "-k", 5, "--columns", "label", "--json")
    assert answer.code == 0, answer
    rows = answer.json["rows"]
    assert [row["key"] for row in rows] == nearest(pool, "item-0007", 5)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert list(rows[0]) == ["rank", "key", "similarity", "uri", "label"]
    assert answer.json["found"] == "exact"
    text = cli("index", "search", pool, "--key", "item-0007", "-k", 5, "--columns", "label").out
    assert all(row["key"] in text and row["label"] in text for row in rows)
    assert "exact" in text
    assert "uri" not in text, "no item has one"


def test_of_several_items_the_nearest_counts(pool: Path) -> None:
    words = ("index", "search", pool, "--key", "item-0007", "--key", "item-0100", "-k", 6, "--json")
    keys = [row["key"] for row in cli(*words).json["rows"]]
    assert len(keys) == 6
    assert not {"item-0007", "item-0100"} & set(keys)
    assert set(keys) <= {*nearest(pool, "item-0007", 6), *nearest(pool, "item-0100", 6)}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_to_keep(pool: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"like{suffix}"
    answer = cli("index", "search", pool, "--key", "item-0007", "-k", 5, "--columns", "label", "-o", out)
    assert answer.out == f"{out}: 5 items (exact)\n"
    if suffix == ".csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["rank", "key", "similarity", "uri", "label"]
    elif suffix == ".parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["key"] for row in rows] == nearest(pool, "item-0007", 5)


def test_what_is_like_an_image(photos: Path) -> None:
    words = ("index", "search", photos / "pool", "--image", photos / "photos" / "odd" / "07.jpg", "-k", 8, "--json")
    rows = cli(*words).json["rows"]
    assert rows[0]["key"] == "odd/07.jpg"
    assert rows[0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert rows[0]["uri"].endswith("odd/07.jpg")
    assert {int(row["key"][-6:-4]) % 3 for row in rows} == {1}, "images of the same colour"


def test_what_cannot_be_searched_for(pool: Path, photos: Path, tmp_path: Path) -> None:
    refused(cli("index", "search", pool), "nothing to search for", "exactly one of key, text, image")
    refused(cli("index", "search", pool, "--key", "item-0007", "--text", "a cat"), "key and text to search for")
    refused(cli("index", "search", pool, "--key", "nonesuch"), "1 key is not in the pool: 'nonesuch'")
    refused(cli("index", "search", pool, "--text", "a cat"), "holds vectors", "not texts; search by key")
    refused(cli("index", "search", photos / "pool", "--text", "a cat"), "holds images", "search by image or by key")
    refused(cli("index", "search", photos / "pool", "--image", tmp_path / "absent.png"), "absent.png: the image cannot")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    refused(cli("index", "search", photos / "pool", "--image", bad), "bad.png: not an image of a known format")
    refused(cli("index", "search", pool, "--key", "item-0007", "--columns", "colour"), "has no column 'colour'")
    refused(cli("index", "search", pool, "--key", "item-0007", "-o", tmp_path / "x.txt"), "unknown extension '.txt'")
    refused(cli("index", "search", tmp_path, "--key", "item-0007"), "not a pool")


def test_a_service_needs_a_cluster_that_goes_on(pool: Path) -> None:
    program = f"""
import os, sys
from raysal.cli import main
os.environ["RAY_ADDRESS"] = "local"
assert main(["index", "stop", "--name", "x"]) == 2
os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
sys.exit(main(["index", "serve", {str(pool)!r}, "--name", "x"]))
"""
    done = python(program)
    stop, serve = done.stderr.splitlines()
    assert "service: needs a running Ray cluster, and a Ray started in this process would end with it" in stop
    assert "start one with `ray start --head`" in stop
    refused(
        Answer(done.returncode, done.stdout, serve + "\n"), "no Ray cluster can be joined at '127.0.0.1:1'", "refused"
    )


@deep
@pytest.mark.usefixtures("ray_session")
def test_a_service_from_start_to_end(pool: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    start = ("index", "serve", os.path.relpath(pool), "--name", "cli", "--partitions", 2, "--threads", 1)
    answer = process(*start, "--address", address, "--json")  # its process ends, the service does not
    assert answer.json == {"pool": os.path.relpath(pool), "name": "cli", "partitions": 2, "threads": 1, "started": True}
    try:
        assert (
            'cli: runs already, 2 partitions of 1 threads; use it with service = "cli" under [fleet]' in cli(*start).out
        )
        words = ("index", "search", pool, "--key", "item-0007", "-k", 5, "--json")
        assert cli(*words, "--service", "cli").json == cli(*words).json
        refused(
            cli("index", "serve", pool, "--name", "cli", "--partitions", 3, "--threads", 1), "'cli' runs already, over"
        )
        refused(cli(*words[:-1], "--service", "nonesuch"), "no service 'nonesuch' on this cluster (running: cli)")
    finally:
        assert cli("index", "stop", "--name", "cli").out == "cli: ended, 2 partitions\n"
    refused(cli("index", "stop", "--name", "cli"), "no service 'cli' on this cluster")
