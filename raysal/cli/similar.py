"""`raysal index search`: more like this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa


def search(
    pool: Annotated[Path, Argument(help="An embedded pool.")],
    key: Annotated[
        list[str] | None,
        Option(metavar="KEY", help="What is like this item. Repeatable: what is near to any of them."),
    ] = None,
    text: Annotated[str | None, Option(help="What is like this text (a pool of texts).")] = None,
    image: Annotated[
        Path | None, Option(metavar="FILE", help="What is like the image in this file (a pool of images).")
    ] = None,
    k: Annotated[int, Option("-k", min=1, help="How many items.")] = 10,
    exact: Annotated[bool, Option("--exact", help="Read the whole pool, also where it has an index.")] = False,
    columns: Annotated[
        list[str] | None, Option(metavar="COLUMN", help="Show this column of the pool, too. Repeatable.")
    ] = None,
    service: Annotated[
        str | None, Option(metavar="NAME", help="Ask the processes of a running `raysal index serve`.")
    ] = None,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="Write a .csv (with a label column to fill in), .parquet or .jsonl."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Find the items most similar to an item, a text or an image; exactly one of these is given.

    The similarity is the cosine, or in a pool of Euclidean distances minus the squared distance.
    Texts and images are embedded by the pool's own encoder.
    """
    del json, debug
    from raysal.cli.select import writable_suffix, write_table

    suffix = None if out is None else writable_suffix(out)
    with progress("searching"):
        from raysal.api.search import search as search_pool

        table = search_pool(
            pool, key=key or None, text=text, image=image, k=k, exact=exact, columns=columns or (), service=service
        )
        if out is not None and suffix is not None:
            write_table(table, out, suffix)
    how = table.schema.metadata[b"found"].decode()
    data: dict[str, Any] = {"pool": str(pool), "key": key or None, "text": text, "image": image, "k": k, "found": how}
    if out is not None:
        return Outcome(data={**data, "out": str(out)}, view=f"{out}: {table.num_rows} items ({how})")
    return Outcome(data={**data, "rows": table.to_pylist()}, view=drawn(table, how))


def drawn(table: pa.Table, how: str) -> Any:
    """A result for people; the uri is left out where no item has one."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = [name for name in table.column_names if name != "uri" or table["uri"].null_count < table.num_rows]
    view = Table(*names, box=SIMPLE)
    for column in view.columns:
        column.overflow = "fold"
    for row in table.select(names).to_pylist():
        row["similarity"] = f"{row['similarity']:.4g}"
        view.add_row(*(Text("" if row[name] is None else str(row[name])) for name in names))
    return Group(view, Text(how))
