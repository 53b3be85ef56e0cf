"""Items of a ranking with their pictures, in a folder: to look at, to fill in, to pass on.

    index.html              the items in order: a picture, its rank, key and probability; needs no network
    table.csv               rank, key, file, score, ... and an empty label column, for `raysal label import`
    items/000001_key.jpg    the pictures as the source has them; pixels without a file become PNG
    previews/000001.jpg     at most 256 pixels, for the page

The folder appears in one rename. To export the same again is fine where the folder holds that, or a part of it, and
nothing else. An item that cannot be shown is listed with the reason, in table and page.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from raysal.arguments import as_path, as_place
from raysal.embedding.rendering import Rendering, rendering_in
from raysal.errors import BadItem, ConfigError, FingerprintMismatch, OutputExists
from raysal.pool import Pool, open_pool
from raysal.ranking.layout import Manifest
from raysal.ranking.reading import KNOWN_LABEL, Ranking, plain, words_of_state
from raysal.report.markup import MARK, Html, join, tag
from raysal.report.thumbnails import MAX_TEXT, seen
from raysal.sources import Source
from raysal.sources.of_pool import read_items, source_of
from raysal.store import fsync_path, temporary_name
from raysal.tables import write_tables
from raysal.types import Item, Modality, Report, no_report

PREVIEW_PIXELS = 256
"""Longer side of a preview."""
PAGE, TABLE, ITEMS, PREVIEWS = "index.html", "table.csv", "items", "previews"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80
"""Letters of a key in the name of a file."""
STYLE = Html("""
:root { color-scheme: light dark; --ink: #1f2933; --muted: #66727f; --line: #e3e8ed; --soft: #f6f8fa; --back: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --muted: #9aa5b1; --line: #333b44; --soft: #1b2127; --back: #12161a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main { max-width: 1280px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { margin: 0; font-size: 1.6rem; letter-spacing: -.015em }
p { margin: .4rem 0 0; color: var(--muted); overflow-wrap: anywhere }
p.warning { padding: .6rem .9rem; border-left: 3px solid #e69f00; background: var(--soft); color: var(--ink) }
ol { list-style: none; margin: 1.8rem 0 0; padding: 0; display: grid; gap: 1.1rem;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) }
figure { margin: 0 }
figure img, figure .none, figure .text { display: flex; width: 100%; aspect-ratio: 1; object-fit: contain;
  border-radius: 6px; background: var(--soft); border: 1px solid var(--line); overflow: hidden }
figure img.small { image-rendering: pixelated }
figure .none, figure .text { padding: .6rem; font-size: .8rem; overflow-wrap: anywhere }
figure .none { align-items: center; justify-content: center; text-align: center; color: var(--muted) }
figcaption { margin-top: .35rem; font-size: .82rem; line-height: 1.35; overflow-wrap: anywhere }
figcaption b { font-variant-numeric: tabular-nums }
figcaption span { color: var(--muted) }
a { color: inherit }
""")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    folder: str
    page: str
    """path of the page to open"""
    items: int
    """asked for"""
    files: int
    """items that were copied, or shown as texts"""
    problems: Mapping[str, str]
    """{key: why it is missing}"""


def export_items(
    ranking: Ranking,
    out: str | Path,
    *,
    start: int = 0,
    n: int = 100,
    unanswered: bool = False,
    pool: str | Path | Pool | None = None,
    report: Report | None = None,
) -> Exported:
    """Copy items of a ranking into a new folder, with a table and a page to look at them.

    Memory for one item, and for the lines of the table. Reads the source up to the last item.

    Args:
        ranking: where they stand.
        out: the folder; it must not exist, or hold this export, or a part of it that is completed.
        start: how many items stand before the first one.
        n: how many are wanted.
        unanswered: pass over items that people had answered when the version was begun.
        pool: the ranking's pool, where it was moved; None is its place when the ranking was begun.
        report: called with (`export`, items done, items in all).

    Returns:
        What was written, and what could not be, by key.

    Raises:
        OutputExists: something else is at `out`.
        ConfigError: the directory that `out` is to be in does not exist.
        FingerprintMismatch: the pool is not that of the ranking.
        PoolError: the pool cannot be opened.
        SourceError: the source of the pool cannot be read as a whole.
        Damaged: a page is not as it was written.
        OSError: `out` cannot be written; nothing is left there.
    """
    report, out = report or no_report, as_path("out", out)
    there = os.path.lexists(out)
    if there and (not out.is_dir() or {path.name for path in out.iterdir()} - {PAGE, TABLE, ITEMS, PREVIEWS}):
        raise OutputExists(out, fix="name another folder")
    if not out.absolute().parent.is_dir():
        raise ConfigError(out, "its directory does not exist", f"make {out.absolute().parent}")
    if not isinstance(pool, Pool):
        pool = open_pool(Manifest.read(ranking.path).place if pool is None else as_place("pool", pool))
    if pool.fingerprint != ranking.plan.pool:
        expected, fix = ranking.plan.pool, "name the pool of the ranking"
        raise FingerprintMismatch(pool.path, "the pool's fingerprint", expected, pool.fingerprint, fix)
    rows = plain(ranking.page(start, n, unanswered=unanswered)).to_pylist()
    temporary = temporary_name(out.absolute(), f"-{os.urandom(4).hex()}")
    try:
        for folder in (temporary, temporary / ITEMS, temporary / PREVIEWS):
            folder.mkdir()
        problems = _write_items(temporary, rows, pool, report)
        _write_table(temporary / TABLE, rows)
        _write_text(temporary / PAGE, _page(ranking, rows, pool.manifest.modality, problems))
        for folder in (temporary / ITEMS, temporary / PREVIEWS):
            fsync_path(folder) if any(folder.iterdir()) else folder.rmdir()
        fsync_path(temporary)
        if there:
            _complete(out, temporary)
            shutil.rmtree(temporary)
        else:
            os.rename(temporary, out)
            fsync_path(out.absolute().parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files = len(rows) - len(problems)
    return Exported(folder=str(out), page=str(out / PAGE), items=len(rows), files=files, problems=problems)


def _complete(out: Path, whole: Path) -> None:
    """Add what an export lacks of the same one; OutputExists, and nothing changes, where it holds anything else."""
    for held in out.rglob("*"):
        own = whole / held.relative_to(out)
        same = own.is_dir() if held.is_dir() else own.is_file() and own.read_bytes() == held.read_bytes()
        if held.is_symlink() or not same:
            raise OutputExists(out, f"is there already, with another {held.relative_to(out)}", "name another folder")
    for own in sorted(whole.rglob("*")):  # a folder comes before what is in it
        place = out / own.relative_to(whole)
        if own.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            os.rename(own, place)
    for folder in (out, *(path for path in out.iterdir() if path.is_dir())):
        fsync_path(folder)


def _write_items(out: Path, rows: Sequence[dict[str, Any]], pool: Pool, report: Report) -> dict[str, str]:
    """Write the items' files, and note them in `rows`. Returns why some are missing, by key, in order of rank."""
    by_id, by_key = {row["id"]: row for row in rows}, {row["key"]: row for row in rows}
    for row in rows:
        row |= {"file": None, "text": None, "problem": None, "small": False}
    manifest = pool.manifest
    if manifest.modality == "vector":
        return {}
    for row in rows:
        row["problem"] = "not in the source any more"
    moved, rendering = dict(by_key), rendering_in(manifest.encoder.get("preprocessing", {}))
    source, done = source_of(pool), 0
    for _, item in read_items(pool, source, {id: row["key"] for id, row in by_id.items()}):
        if (row := moved.pop(item.key, None)) is not None:
            _note(out, item, row, manifest.modality, rendering)
            report("export", done := done + 1, len(rows))
    for item in read_keys(source, moved, manifest.chunk_rows) if moved else ():
        _note(out, item, by_key[item.key], manifest.modality, rendering)
        report("export", done := done + 1, len(rows))
    return {row["key"]: row["problem"] for row in rows if row["problem"]}


def read_keys(source: Source, keys: Collection[str], chunk_rows: int) -> Iterator[Item]:
    """Read some items of a source that has changed: by key, as their places are not what they were.

    Args:
        source: where they come from.
        keys: those of the items wanted.
        chunk_rows: items of a chunk of the pool.

    Yields:
        The items that the source has now, in its order.
    """
    left = set(keys)
    for unit in source.units(chunk_rows):
        here = frozenset(unit.first_id + place for place, key in enumerate(unit.keys) if key in left)
        if here:
            left -= {unit.keys[id - unit.first_id] for id in here}
            yield from source.read(unit, only=here)
        if not left:
            return


def _note(out: Path, item: Item, row: dict[str, Any], modality: Modality, rendering: Rendering) -> None:
    """Write the files of an item, and note them, or why there are none."""
    try:
        row |= {"problem": None, **_kept(out, item, row, modality, rendering)}
    except BadItem as error:
        row["problem"] = error.problem


def _kept(out: Path, item: Item, row: Mapping[str, Any], modality: Modality, rendering: Rendering) -> dict[str, Any]:
    """Write the files of an item; a BadItem where there is nothing to show."""
    key, payload = row["key"], item.payload
    if isinstance(payload, BadItem):
        raise payload
    if modality == "text":
        return {"text": str(payload)}
    image = seen(key, payload, modality, rendering)
    small = max(image.size) < PREVIEW_PIXELS // 2
    if isinstance(payload, bytes | bytearray | memoryview):
        content, suffix = bytes(payload), Path(key).suffix
    else:
        content, suffix = _encoded(image, "PNG"), ".png"
    stem = _ODD.sub("_", Path(key).stem)[:_LONGEST].strip("._") or "item"
    name = f"{ITEMS}/{row['rank']:06d}_{stem}{_ODD.sub('_', suffix.lower())}"
    _write(out / name, content)
    image.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS), Image.Resampling.LANCZOS)
    preview = f"{PREVIEWS}/{row['rank']:06d}.{'png' if small else 'jpg'}"
    _write(out / preview, _encoded(image, "PNG" if small else "JPEG"))
    return {"file": name, "preview": preview, "small": small}


def _encoded(image: Image.Image, kind: str) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **({"quality": 88} if kind == "JPEG" else {}))
    return packed.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    fsync_path(path)


def _write_text(path: Path, text: str) -> None:
    _write(path, text.encode("utf-8"))


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The items as a table to fill in."""
    names = [name for name in (rows[0] if rows else {"rank": 0, "key": ""}) if name not in ("id", "preview", "small")]
    empty = [name for name in ("file", "text", "problem") if not any(row.get(name) for row in rows)]
    names = [name for name in names if name not in empty]
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]) if rows else None
    if table is None:
        table = pa.table({name: pa.array([], pa.string()) for name in names})
    write_tables(path, "csv", table.schema, [table], fill_in=("label",))
    fsync_path(path)


def _page(ranking: Ranking, rows: Sequence[Mapping[str, Any]], modality: Modality, problems: Mapping[str, str]) -> Html:
    """The page to look at the items."""
    info = ranking.info
    order = (
        f"likeliest first to be {' or '.join(info.target)}"
        if info.score == "log_odds"
        else f"by {info.novelty or info.score}"
    )
    place = f"{rows[0]['rank']:,} to {rows[-1]['rank']:,}" if rows else "none"
    title = f"Items {place} of {info.items:,}, {order}"
    facts = f"From the ranking “{ranking.path.resolve().name}”, version {info.name}"
    if info.labels is not None:
        facts += f": head {info.head_version}, which had learnt from {info.labels:,} "
        facts += "label" if info.labels == 1 else "labels"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}{MARK}"),
        tag("style", STYLE),
    )
    warning = f"{len(problems):,} of them cannot be shown." if problems else None
    body = tag(
        "main",
        tag("h1", title),
        tag("p", f"{facts}."),
        tag("p", warning, class_="warning") if warning else None,
        tag("ol", [tag("li", _figure(row, modality, info.score == "log_odds")) for row in rows]),
    )
    return join(Html("<!doctype html>\n"), tag("html", head, tag("body", body), lang="en"), Html("\n"))


def _number(row: Mapping[str, Any], by_probability: bool) -> str:
    """What an item stands where it does for."""
    return f"{row['probability']:.1%}" if by_probability else f"{row['score']:.4g}"


def _figure(row: Mapping[str, Any], modality: Modality, by_probability: bool) -> Html:
    """An item of the page."""
    if row["problem"]:
        shown = tag("div", row["problem"], class_="none")
    elif row["text"] is not None:
        text = row["text"]
        shown = tag("div", text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…", class_="text")
    elif modality == "vector":
        shown = tag("div", "a vector", class_="none")
    else:
        small = "small" if row["small"] else None
        image = tag("img", src=row["preview"], alt=f"rank {row['rank']}: {row['key']}", loading="lazy", class_=small)
        shown = tag("a", image, href=row["file"])
    predicted = None if row.get("class") is None else f"predicted {row['class']}"
    said = [predicted, words_of_state(row["state"], row[KNOWN_LABEL])]
    facts = [fact for fact in (_number(row, by_probability), *said) if fact]
    caption = tag("figcaption", tag("b", f"{row['rank']}. "), row["key"], tag("br"), tag("span", " · ".join(facts)))
    return tag("figure", shown, caption)
