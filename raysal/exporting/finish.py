"""The end of an export: what is noted of its items as one table, sums of its files, and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysal.errors import Damaged
from raysal.exporting.base import INDEX_SCHEMA
from raysal.exporting.chosen import Chosen
from raysal.exporting.lance_table import check_table, commit_table
from raysal.exporting.layout import (
    ANEW,
    COCO,
    COMMITS,
    DATA,
    INDEX,
    ITEMS,
    LOST,
    MANIFEST,
    SUMS,
    WORK,
    Plan,
)
from raysal.exporting.options import Options
from raysal.labels.formats.base import KEY, POOL
from raysal.store import check_bytes, dumps, read_sealed, sha256_of, write_file, write_sealed
from raysal.tables import cell

LOST_COLUMNS = ("key", "id", "uri", "reason")
NAMED = 100
"""Lost items that a manifest names."""
COLUMNS = ("key", "id", "label", "uri", "shard", "member", "bytes", "sha256")
"""Of items.parquet; of coco also width and height."""


class Totals(NamedTuple):
    """What an export holds."""

    items: int
    lost: int
    some_lost: dict[str, str]
    """{key: why}, of the first ones"""
    shards: int
    bytes: int


def finish(chosen: Chosen, out: Path, plan: Plan, options: Options, schema: pa.Schema) -> Totals:
    """Write all that is made of the whole export; the manifest last. To repeat it writes the same.

    Memory: what is noted of a shard; of coco also its annotations.

    Args:
        chosen: the items.
        out: the directory, whose shards are all there.
        plan: of the export.
        options: the form.
        schema: the columns of the shards.

    Returns:
        What the export holds.

    Raises:
        Damaged: the shards are not those of one export.
    """
    numbers = sorted(int(path.stem) for path in (out / COMMITS).parent.glob("*.json"))
    names = [*COLUMNS, *(("width", "height") if options.form == "coco" else ())]
    some_lost: dict[str, str] = {}
    items = lost = size = 0
    last = -1

    def write_items(path: Path) -> None:
        nonlocal items, lost, size, last
        schema = pa.schema([INDEX_SCHEMA.field(name) for name in names])
        with pq.ParquetWriter(path, schema) as writer:
            for table in _noted(out, numbers):
                if table["id"][0].as_py() <= last:
                    raise Damaged(out, "a shard does not go on where the one before ends", ANEW)
                last = table["id"][-1].as_py()
                gone = pc.is_valid(table["lost"])
                for row in table.filter(gone).slice(0, NAMED - len(some_lost)).to_pylist():
                    some_lost[row["key"]] = row["lost"]
                items, lost = items + table.num_rows, lost + int(pc.sum(gone).as_py() or 0)
                size += pc.sum(table["bytes"]).as_py() or 0
                writer.write_table(table.filter(pc.invert(gone)).select(names))

    write_file(out / ITEMS, write_items)
    if items != plan.items:
        raise Damaged(out, f"its shards hold {items} items, not {plan.items}", ANEW)
    if lost:
        write_file(out / LOST, lambda path: _write_lost(path, out, numbers))
    if options.form == "coco":
        write_file(out / COCO, lambda path: _write_coco(path, out, numbers, chosen))
    write_file(out / SUMS, lambda path: _write_sums(path, out, numbers, options))
    pool = chosen.pool
    shards = [] if options.suffix is None else [_shard(out, number, options) for number in numbers]
    manifest = {
        **plan.__dict__,
        "exported": items - lost,
        "lost": [[key, why] for key, why in some_lost.items()],
        "lost_count": lost,
        "bytes": size,
        "parts": len(numbers),
        "shards": shards,
        "source": pool.manifest.source,
        "encoder": {name: pool.manifest.encoder.get(name) for name in ("name", "fingerprint")},
        "modality": pool.manifest.modality,
        "pool_place": pool.place,
        "pool_items": len(pool),
        "left_out": dict(chosen.left_out),
        "sums": sha256_of(out / SUMS),
    }
    if options.form == "lance":
        rows = [table["lost"].null_count for table in _noted(out, numbers)]
        files = [out / str(shard["name"]) for shard in shards]
        commit_table(out, out / WORK / "probe", schema, list(zip(files, rows, strict=True)))
    write_sealed(out / MANIFEST, manifest)
    return Totals(items, lost, some_lost, len(numbers), size)


def check_finished(out: Path, options: Options) -> Totals:
    """Compare every file of a finished export with its digest, at about 1 GB/s.

    Args:
        out: the directory.
        options: the form.

    Returns:
        What it holds.

    Raises:
        Damaged: a file, or what a link leads to, is not as it was; the error names it.
    """
    manifest = read_sealed(out / MANIFEST, ANEW)
    check_bytes(out / SUMS, manifest["sums"], ANEW)
    with open(out / SUMS, encoding="utf-8", newline="\n") as sums:
        for line in sums:
            digest, _, name = line.removesuffix("\n").partition("  ")
            check_bytes(out / name, digest, ANEW)
    if options.form == "lance":
        check_table(out, ANEW)
    return totals_of(manifest)


def totals_of(manifest: Mapping[str, Any]) -> Totals:
    """What a manifest says of an export."""
    lost = dict(manifest["lost"])
    return Totals(manifest["items"], manifest["lost_count"], lost, manifest["parts"], manifest["bytes"])


def _noted(out: Path, numbers: list[int]) -> Iterator[pa.Table]:
    """What is noted of the items, shard by shard. The parts were compared with their records."""
    for number in numbers:
        with pq.ParquetFile(out / INDEX.format(number)) as file:
            yield file.read()


def _shard(out: Path, number: int, options: Options) -> dict[str, Any]:
    """What a manifest says of a shard."""
    name = f"{DATA}/{number:05d}{options.suffix}"
    record = read_sealed(out / COMMITS.format(number))
    return {"name": name, "items": record["rows"], **record["files"][name]}


def _write_lost(path: Path, out: Path, numbers: list[int]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(",".join(LOST_COLUMNS) + "\n")
        for table in _noted(out, numbers):
            for row in table.filter(pc.is_valid(table["lost"])).to_pylist():
                file.write(",".join(cell(row[name], ",") for name in ("key", "id", "uri", "lost")) + "\n")


def _write_sums(path: Path, out: Path, numbers: list[int], options: Options) -> None:
    """A line for every file but the manifest and the plan, which carry their own digests."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        for name in (ITEMS, LOST, COCO):
            if (out / name).exists():
                file.write(f"{sha256_of(out / name)}  {name}\n")
        for number in numbers if options.suffix is not None else ():
            shard = _shard(out, number, options)
            file.write(f"{shard['sha256']}  {shard['name']}\n")
        for table in _noted(out, numbers) if options.suffix is None else ():
            for row in table.filter(pc.is_valid(table["member"])).select(["member", "sha256"]).to_pylist():
                file.write(f"{row['sha256']}  {DATA}/{row['member']}\n")


def _write_coco(path: Path, out: Path, numbers: list[int], chosen: Chosen) -> None:
    """Images in the order of ids, categories by name, and an annotation without a box for each label."""
    labels: Callable[[str], tuple[str, ...]] = chosen.likelihood.names_in
    said = chosen.said.get("label", ())
    names = sorted({name for label in said for name in labels(label)})
    category = {name: number for number, name in enumerate(names, 1)}
    with open(path, "w", encoding="utf-8", newline="") as file:
        info = {"description": "exported by raysal", POOL: chosen.pool.fingerprint}
        file.write(f'{{"info": {dumps(info)},\n"licenses": [],\n"images": [')
        annotations: list[str] = []
        place = 0
        for table in _noted(out, numbers):
            for row in table.filter(pc.is_valid(table["member"])).to_pylist():
                place += 1
                image = {"id": place, "file_name": f"{DATA}/{row['member']}", KEY: row["key"]}
                image |= {"width": row["width"], "height": row["height"]}
                _next(file, place, dumps(image))
                for name in labels(row["label"]) if row["label"] is not None else ():
                    number = len(annotations) + 1
                    annotations.append(dumps({"id": number, "image_id": place, "category_id": category[name]}))
        categories = [dumps({"id": number, "name": name, "supercategory": ""}) for name, number in category.items()]
        for part, entries in (("annotations", annotations), ("categories", categories)):
            file.write(f'\n],\n"{part}": [')
            for number, entry in enumerate(entries, 1):
                _next(file, number, entry)
        file.write("\n]}\n")


def _next(file: IO[str], number: int, entry: str) -> None:
    """Write the next entry of a list."""
    file.write(("," if number > 1 else "") + "\n" + entry)
