"""`raysal.export`: chosen items of a pool with their media, as files that other programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.arguments import as_place, as_whole_number, has_methods
from raysal.arrays import texts_of
from raysal.errors import ConfigError
from raysal.pool import Pool, open_pool
from raysal.types import Report

if TYPE_CHECKING:
    from raysal.exporting import ExportReport
    from raysal.exporting.options import Form
    from raysal.sources.base import Source


def export(
    pool: str | Path | Pool,
    *,
    out: str | Path,
    form: Form,
    keys: str | Path | Sequence[str] | None = None,
    run: str | Path | None = None,
    classes: str | Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    ranking: str | Path | None = None,
    k: int | None = None,
    vectors: bool = False,
    copy: bool = False,
    shard_items: int = 10_000,
    shard_bytes: int = 256 << 20,
    source: str | Path | Source | None = None,
    max_lost: float = 0.0,
    report: Report | None = None,
) -> ExportReport:
    """Write chosen items of a pool with their media and columns into a directory; a job that was stopped goes on.

    At most one of `keys`, `run`, `where` and `ranking` says which items; without them it is the whole pool. Media are
    read from the pool's source, and copied to the byte. An item whose media are gone, or were written since it was
    embedded, is lost: `lost.csv` says why. The files have the same bytes however often the job was interrupted. Memory
    for an item and what is noted of a shard, of Parquet for a row group, and the ids that are chosen.

    Args:
        pool: the pool, its path or its URL.
        out: the directory to make or to finish; of `csv`, `parquet` and `webdataset` also `s3://BUCKET/FOLDER`.
        form: `webdataset` (tar shards), `parquet`, `lance` (extra `lance`), `csv` (no media), `links` (to the files of
            the source, by class), or `coco` (copies of pictures, and their classes).
        keys: the items' keys, or a file of them: text with one in each line, or a table with a column `key`.
        run: a run over the pool: the items whose annotators agree, with their label in the column `label`; of a run
            whose labels are of owners, all parts of these that are there.
        classes: of a run, only items that have this label, or one of these.
        where: a test for each of these columns, as the narrower `filter` has them: `{"split": "train"}`.
        ranking: a ranking of the pool: the first items of its newest version, with rank and score.
        k: how many items of the ranking.
        vectors: of Parquet and Lance, also the vectors, in the magnitude that they were given with.
        copy: of links, copies of the files instead; needed where items are no files of their own.
        shard_items: most items of a shard.
        shard_bytes: most bytes of media in a shard; one item may have more.
        source: where the media are now: the path of a source that was moved, or a source; by default where the pool was
            made of.
        max_lost: share of the items, in [0, 1], that may be lost.
        report: called with (`export`, items done, items in all).

    Returns:
        What was written, and what was lost.

    Raises:
        MediaLost: more than `max_lost` of the items are lost. The rest is there.
        ConfigError: an argument is of the wrong type or out of range, several name the items, no item is chosen, or the
            form cannot hold them.
        UnknownName: there is no such form.
        MissingExtra: `lance` is asked for, and not installed.
        LabelError: a key is not in the pool, the file of keys cannot be read, or the run has no labels.
        PoolError: the pool cannot be opened, there is no ranking, or `out` holds something else.
        FingerprintMismatch: run or ranking are of another pool.
        RunError: there is no run, `out` was begun with other arguments, or another process is at work on it.
        SourceError: the source cannot be read as a whole, or was written while it was read.
        Damaged: a file in `out` is not as it was written.
    """
    from raysal.exporting import Options, export_pool
    from raysal.exporting.chosen import choose
    from raysal.exporting.media import source_for
    from raysal.sources import check_apart

    destination = as_place("out", out)
    opened = pool if isinstance(pool, Pool) else open_pool(as_place("pool", pool))
    options = Options(form=form, shard_items=shard_items, shard_bytes=shard_bytes, vectors=vectors, copy=copy)
    options.check(opened)
    if isinstance(max_lost, bool) or not isinstance(max_lost, int | float) or not 0 <= max_lost <= 1:
        raise ConfigError("max_lost", f"{max_lost!r} is not a share", "use a number from 0 to 1")
    if source is not None and not isinstance(source, str | Path) and not has_methods(source, "units", "read"):
        raise ConfigError("source", f"{source!r} is no source", "pass a path, or a source")
    if where is not None and not isinstance(where, Mapping):
        raise ConfigError("where", f"{where!r} is no mapping", 'pass tests of columns, as {"split": "train"}')
    chosen = choose(
        opened,
        keys=keys,
        run=run,
        classes=(classes,) if isinstance(classes, str) else texts_of("classes", classes),
        where=where,
        ranking=ranking,
        most=None if k is None else as_whole_number("k", k, 1),
    )
    media = source_for(opened, source) if options.needs_media(opened) else None
    places = {getattr(media, "path", None), opened.manifest.source.get("config", {}).get("path")}
    for place in places - {None}:
        check_apart(place, destination)
    return export_pool(chosen, destination, options, source=media, max_lost=max_lost, report=report)
