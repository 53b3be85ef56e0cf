"""`raysal index search`: find the items most similar to an item, a text or an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Force, PoolPath, TableFile
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note, table_view
from raysal.store import Written

if TYPE_CHECKING:
    import pyarrow as pa


def search(
    pool: PoolPath,
    key: Annotated[
        list[str] | None,
        Option(metavar="KEY", help="Find items similar to this item. Repeatable: similar to any of them."),
    ] = None,
    text: Annotated[
        str | None, Option(help="Find items similar to this text, in a pool of texts or open_clip.")
    ] = None,
    image: Annotated[
        Path | None, Option(metavar="FILE", help="Find items similar to the image in this file, in a pool of images.")
    ] = None,
    k: Annotated[int, Option("-k", min=1, help="How many items.")] = 10,
    exact: Annotated[bool, Option("--exact", help="Read the whole pool, even if it has an index.")] = False,
    columns: Annotated[
        list[str] | None, Option(metavar="COLUMN", help="Also show this column of the pool. Repeatable.")
    ] = None,
    service: Annotated[
        str | None, Option(metavar="NAME", help="Use the processes of a running `raysal index serve`.")
    ] = None,
    out: TableFile = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Find the items most similar to an item, a text or an image. Give exactly one of these.

    The similarity is the cosine. In a pool with the metric l2, it is minus the squared Euclidean distance.

    The pool's own encoder embeds texts and images.
    """
    del json, debug
    if out is not None:
        check_output(out)
        check_no_source(out, pool)
    written = Written()
    with progress("searching"):
        from raysal.api.search import search as search_pool

        look_now()

        table = search_pool(
            pool, key=key or None, text=text, image=image, k=k, exact=exact, columns=columns or (), service=service
        )
        if out is not None:
            from raysal.labels.files import write_table

            written = write_table(out, table, fill_in=("label",), overwrite=force)
    how = table.schema.metadata[b"found"].decode()
    data: dict[str, Any] = {"pool": str(pool), "key": key or None, "text": text, "image": image, "k": k, "found": how}
    if out is not None:
        view = f"{out}: {table.num_rows} items ({how}){kept_note(written)}"
        return Outcome(data={**data, "out": str(out), **kept_data(written)}, view=view)
    return Outcome(data={**data, "rows": table.to_pylist()}, view=result_view(table, how))


def result_view(table: pa.Table, how: str) -> Any:
    """A result for people; the uri is left out where no item has one."""
    names = [name for name in table.column_names if name != "uri" or table["uri"].null_count < table.num_rows]

    def cells(row: dict[str, Any]) -> list[str]:
        row["similarity"] = f"{row['similarity']:.4g}"
        return ["" if row[name] is None else str(row[name]) for name in names]

    return table_view(names, map(cells, table.select(names).to_pylist()), how)
