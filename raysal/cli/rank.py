"""`raysal rank`: put the whole pool of a run in the order of a score, look at pages of it, and take them with you."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Address, Force, Target, place
from raysal.cli.output import Backend, Debug, Json, Outcome, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.tables import check_no_source, check_output, kept_data, kept_note, refuse_filled_in, table_view
from raysal.errors import ConfigError
from raysal.scoring.novelty.registry import NOVELTIES
from raysal.scoring.registry import SCORES

if TYPE_CHECKING:
    import pyarrow as pa

    from raysal.ranking import Ranking
    from raysal.ranking.job import RankReport
    from raysal.report.ranked import Exported

LOST = 3
"""The exit code where items of an export are missing."""


def rank(
    path: Annotated[
        Path, Argument(metavar="RUN|RANKING", help="A run directory, whose pool is ranked; or a ranking, to look at.")
    ],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            help="Of a run: the directory of the ranking, to make or to add to. Of a ranking: write the items to a "
            ".csv or .tsv (with a label column to fill in), .parquet, .jsonl or .json file.",
        ),
    ] = None,
    pool: Annotated[str | None, Option(parser=place, metavar="POOL", help="The pool, where it was moved.")] = None,
    score: Annotated[
        str | None,
        Option(
            metavar="SCORE",
            help=f"What the items are put in the order of: {', '.join(SCORES)}. (Default: probability. "
            "Of a ranking: that of its newest version.)",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    novelty: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Put the items in the order of how unlike the pool they are, in place of a score. It needs no label: "
            f"{', '.join(NOVELTIES)}.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int | None, Option(metavar="N", min=1, help="Keep only the best N items. (Default: all.)")] = None,
    round: Annotated[
        int | None,
        Option(min=0, help="Use the head that chose this round. (Default: the one that all labels of now make.)"),
    ] = None,
    version: Annotated[
        str | None, Option(metavar="NAME", help="Of a ranking: the version to look at. (Default: the newest.)")
    ] = None,
    start: Annotated[int, Option(min=0, help="How many items to leave out before the first that is shown.")] = 0,
    rows: Annotated[int, Option("--rows", "-n", min=0, help="How many items to show, write or export.")] = 20,
    find: Annotated[str | None, Option(metavar="KEY", help="Start with this item.")] = None,
    unlabeled: Annotated[
        bool,
        Option(
            "--unlabeled",
            help="Leave out items that people had labelled, skipped or disputed when the version was begun.",
        ),
    ] = False,
    export: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Copy the pictures of the items into a new folder, with a table and a page to look at.",
        ),
    ] = None,
    draws: Annotated[
        int | None, Option(min=2, help="Posterior samples, for scores that need them. (Default: 128.)")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Another seed gives other posterior samples. (Default: 0.)")] = None,
    partitions: Annotated[
        int | None,
        Option(
            min=1, help="Partitions of the pool. The ranking does not depend on it. (Default: 1; Ray: one per CPU.)"
        ),
    ] = None,
    backend: Annotated[
        Backend | None, Option(help="Where the work is done: in this process, or on Ray. (Default: local.)")
    ] = None,
    device: Annotated[
        str | None,
        Option(
            help="Where products are computed: cpu, cuda, cuda:1 ... On Ray, cuda takes a GPU for each process. "
            "(Default: cpu.)"
        ),
    ] = None,
    address: Address = None,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Put the whole pool of a run in the order of a score, and look at it page by page.

    raysal rank RUN -o RANKING ranks by the head that the run's labels make. Every head, score and set of options adds a
    version beside those that are there; to rank again by the same finds it.

    raysal rank RANKING --start 100 -n 50 -o page.csv shows or writes items of the newest version. Fill in the label
    column and pass the file to `raysal label import`. State and known_label say what people had answered when the
    version was begun; to rank the run again after new labels makes a version that knows them.

    After an interruption, run the same command again: it goes on where it stopped.
    """
    del json, debug
    from raysal.ranking.layout import MANIFEST, Manifest
    from raysal.ranking.reading import Ranking
    from raysal.tables import KINDS

    given = {"draws": draws, "seed": seed, "partitions": partitions, "device": device}
    given["backend"] = None if backend is None else backend.value
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    said: RankReport | None = None
    table_file = out if (path / MANIFEST).exists() else None
    if (path / MANIFEST).exists():
        making = {
            "target": target or None, "novelty": novelty, "top": top, "round": round, **options, "address": address,
        }  # fmt: skip
        if named := [f"--{name}" for name, value in making.items() if value is not None]:
            what = f"{named[0]} is" if len(named) == 1 else f"{', '.join(named)} are"
            raise ConfigError(
                "rank", f"{what} for ranking a run, and {path} is a ranking", "name the run, and -o RANKING"
            )
        if table_file is not None:
            check_output(table_file)
            check_no_source(table_file, Manifest.read(path).place if pool is None else pool)
            if not force:
                refuse_filled_in(table_file)
        ranking = Ranking.open(path, version, score=score)
    else:
        if out is None:
            raise ConfigError("out", "is missing", f"name the ranking to make: raysal rank {path} --out RANKING")
        if version is not None:
            raise ConfigError("--version", f"is of a ranking, and {path} is none", "name the ranking")
        if out.suffix.lower() in KINDS:
            raise ConfigError("out", f"{out} looks like a table, and a ranking is a directory", "name a directory")
        with on_interrupt("run the same command again to go on"), progress("starting") as report:
            from raysal.ranking.of_run import rank_into

            look_now()

            said = rank_into(
                path, out, pool=pool, score=score or "probability", target=target or (), novelty=novelty, top=top,
                round=round, address=address, report=report, **options,
            )  # fmt: skip
        ranking = Ranking.open(out, said.version)
    if find is not None:
        place = ranking.find(find)
        if place is None:
            raise ConfigError("--find", *_not_there(ranking, find, pool))
        start = place
    if start >= len(ranking) > 0:
        raise ConfigError(
            "--start", f"{start} is past the end: {ranking.path} has {len(ranking)} items", "start before that"
        )
    exported: Exported | None = None
    if export is not None:
        with on_interrupt("nothing was exported"), progress("reading") as report:
            from raysal.report.ranked import export_items

            exported = export_items(
                ranking, export, start=start, n=rows, unanswered=unlabeled, pool=pool, report=report
            )
    page = ranking.page(start, rows, unanswered=unlabeled)
    return _answer(ranking, page, start, said, exported, table_file, force)


def _answer(
    ranking: Ranking,
    table: pa.Table,
    start: int,
    said: RankReport | None,
    exported: Exported | None,
    out: Path | None,
    force: bool,
) -> Outcome:
    """Show the items, or write them to a file."""
    info = asdict(ranking.info)
    data: dict[str, Any] = {"ranking": str(ranking.path), "start": start, **info}
    words = [_words(ranking, said)]
    if said is not None:
        data |= {**asdict(said), "name": info["name"]}
    if out is not None:
        from raysal.labels.files import write_table
        from raysal.ranking.reading import plain

        written = write_table(out, plain(table), fill_in=("label",), overwrite=force)
        hint = (
            "; fill in the label column and pass it to `raysal label import`" if out.suffix in (".csv", ".tsv") else ""
        )
        words.append(f"{out}: {table.num_rows} items{kept_note(written)}{hint}")
        data |= {"out": str(out), **kept_data(written)}
    code = 0
    if exported is not None:
        words.append(f"{exported.folder}: {exported.files} of {exported.items} items; open {exported.page}")
        words += [f"{key}: {problem}" for key, problem in exported.problems.items()]
        data |= {"export": {**asdict(exported), "lost": len(exported.problems)}}
        code = LOST if exported.problems else 0
    if out is not None or exported is not None:
        return Outcome(data=data, view="\n".join(words), exit_code=code)
    data["rows"] = table.to_pylist()
    from raysal.ranking.reading import KNOWN_LABEL

    names = [name for name in table.column_names if name not in ("id", "held_out", KNOWN_LABEL)]
    heads = ["predicted" if name == "class" else name for name in names]
    lines = ([_cell(name, row) for name in names] for row in data["rows"])
    return Outcome(data=data, view=table_view(heads, lines, "\n".join(words)))


def _words(ranking: Ranking, said: RankReport | None) -> str:
    """What a version is, in a line; and how it came about."""
    info = ranking.info
    of = f" of {', '.join(info.target)}" if info.score == "log_odds" else ""
    of = of if info.novelty is None else f" ({info.novelty})"
    words = f"{ranking.path}, version {info.name}: {info.items} items by {info.score}{of}"
    whose = info.head_from if said is None else said.head_from
    of = "" if whose is None else f" ({whose})"
    words += "" if info.head is None else f", head {info.head_version}{of}, {info.labels} labels"
    if said is not None:
        words += f", {said.quarantined} quarantined left out" if said.quarantined else ""
        words += "" if said.made else " (it was there)"
        words += f"\nnote: {said.note}" if said.note else ""
    return words


def _not_there(ranking: Ranking, key: str, pool: str | None) -> tuple[str, str]:
    """Why a ranking does not have an item, and what to do."""
    from raysal.errors import LabelError, PoolError
    from raysal.pool import open_pool
    from raysal.ranking.layout import Manifest

    manifest = Manifest.read(ranking.path)
    try:
        opened = open_pool(manifest.place if pool is None else pool)
        if opened.fingerprint == manifest.pool:
            opened.ids_of([key])
    except LabelError as error:
        return error.problem, error.fix
    except PoolError:  # the ranking alone cannot say more
        pass
    fix = "check the key" if ranking.plan.top is None else "rank without --top"
    return f"{key!r} is not in this ranking", fix


def _cell(name: str, row: Mapping[str, Any]) -> str:
    from raysal.ranking.reading import KNOWN_LABEL, words_of_state

    value = row[name]
    if name == "state":
        return words_of_state(value, row[KNOWN_LABEL]) or "unlabeled"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
