"""What it costs that a source and a pool lie in a bucket: `raysal embed` and a sweep, in processes, beside the disk.

    python -m benchmarks.pools_buckets [--rows 1000000] [--dim 256] [--files 8] [--folder DIR] [--out FILE]

The bucket is moto's S3 on this machine, over HTTP: one process of Python, which shares the cores with raysal. So what
is shown is what raysal adds, and no network. `fetch` and `store` are the bare transfer of the same bytes: the source
out of the bucket, and the pool into it. `sweep` is `raysal select` of ten items by CoreSet, which looks at every
vector: cold, they come from the bucket; warm, from the cache of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.machine import describe
from benchmarks.pools_growth import raysal, write_rows

BUCKET = "measured"


@contextmanager
def s3_server() -> Iterator[None]:
    """A server of S3 on a free port, which this process and those that it starts find by their environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "measured",
        "AWS_SECRET_ACCESS_KEY": "measured",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        urlopen(Request(f"{os.environ['AWS_ENDPOINT_URL']}/{BUCKET}", method="PUT")).close()
        yield
    finally:
        server.terminate()
        server.wait()


def fetched(folder: Path) -> float:
    """Seconds in which all objects of the source come to files, by raysal's transport alone."""
    from raysal.buckets import Bucket

    bucket, start = Bucket(f"s3://{BUCKET}/source"), time.perf_counter()
    for found in bucket.list():
        bucket.fetch(found.name, folder / found.name)
    return time.perf_counter() - start


def stored(pool: Path) -> float:
    """Seconds in which the files of a pool on the disk become objects, by raysal's transport alone."""
    from raysal.buckets import Bucket

    bucket, start = Bucket(f"s3://{BUCKET}/copy"), time.perf_counter()
    for path in sorted(pool.rglob("*")):
        if path.is_file():
            bucket.write(path.relative_to(pool).as_posix(), path)
    return time.perf_counter() - start


def measure(folder: Path, rows: int, dim: int, files: int) -> dict[str, float]:
    """Seconds and peak memory of each step."""
    from raysal.buckets import Bucket

    source, cache = folder / "source", folder / "cache"
    source.mkdir()
    os.environ["RAYSAL_CACHE"] = str(cache)
    for number in range(files):
        first, stop = number * rows // files, (number + 1) * rows // files
        write_rows(source / f"{number:04d}.parquet", first, stop - first, dim)
        Bucket(f"s3://{BUCKET}/source").write(f"{number:04d}.parquet", source / f"{number:04d}.parquet")
    found: dict[str, float] = {}

    def note(name: str, cost: tuple[float, float]) -> None:
        found[f"{name}, s"], found[f"{name}, peak MB"] = cost
        print(f"{name:<28} {cost[0]:8.2f} s {cost[1]:8.0f} MB", flush=True)

    url, there = f"s3://{BUCKET}/source", f"s3://{BUCKET}/pool"
    note("embed, disk to disk", raysal("embed", source, "--out", folder / "pool"))
    (folder / "fetched").mkdir()
    found["fetch the source, s"] = fetched(folder / "fetched")
    found["store the pool, s"] = stored(folder / "pool")
    note("embed, bucket to disk", raysal("embed", url, "--out", folder / "other"))
    shutil.rmtree(cache, ignore_errors=True)
    note("embed, bucket to bucket", raysal("embed", url, "--out", there))
    note("embed again, nothing new", raysal("embed", url, "--out", there))
    shutil.rmtree(cache, ignore_errors=True)
    for name, pool in (("disk", folder / "pool"), ("bucket, cold", there), ("bucket, warm", there)):
        out = folder / f"batch of {name}.csv"
        note(f"sweep, {name}", raysal("select", pool, "--strategy", "coreset", "-k", "10", "-o", out))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the files are made; they are deleted in the end")
    parser.add_argument("--out", type=Path, help="a JSON file of the numbers")
    asked = parser.parse_args()
    with s3_server(), tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = measure(Path(folder), asked.rows, asked.dim, asked.files)
    print(json.dumps(found, indent=2))
    if asked.out is not None:
        facts = {"machine": describe(), "rows": asked.rows, "dim": asked.dim}
        asked.out.write_text(json.dumps({**facts, **found}, indent=2))


if __name__ == "__main__":
    main()
