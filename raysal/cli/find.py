"""`raysal find`: search a pool for the rest of a few examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import place
from raysal.cli.output import Debug, Json, Outcome, note, on_interrupt
from raysal.cli.progress import progress
from raysal.cli.run import outcome_of

if TYPE_CHECKING:
    from raysal.config import RunConfig


def find(
    pool: Annotated[
        str,
        Argument(
            parser=place,
            metavar="POOL",
            help="The pool, a directory or s3://BUCKET/POOL; or a TOML config that names a pool and a target.",
        ),
    ],
    out: Annotated[Path, Option("--out", "-o", metavar="RUN", help="The run directory to make or to continue.")],
    example: Annotated[
        list[str] | None,
        Option(
            "--example",
            "-e",
            metavar="KEY",
            help="An item that is looked for. Repeatable; three to ten are good. With several classes: CLASS=KEY.",
        ),
    ] = None,
    other: Annotated[
        list[str] | None, Option("--other", metavar="KEY", help="An item that is not looked for. Repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None,
        Option(
            "--text",
            metavar="TEXT",
            help="A text like what is looked for, in a pool of texts or open_clip. Repeatable.",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        Option("--image", metavar="FILE", help="An image like what is looked for, in a pool of images. Repeatable."),
    ] = None,
    target: Annotated[
        list[str] | None,
        Option(
            "--target",
            metavar="CLASS",
            help="The class of the examples. Repeatable: several are looked for together. (Default: positive.)",
            show_default=False,
        ),
    ] = None,
    rest: Annotated[
        str | None,
        Option(
            "--rest",
            metavar="CLASS",
            help="The class of all else. (Default: negative, or that of the config.)",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        int | None, Option("-k", min=1, help="How many items to ask for at a time. (Default: 25.)", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, Option(min=0, help="Another seed gives other random numbers. (Default: 0.)", show_default=False)
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Search a pool for the rest of a few examples: begin a run, tell it the examples, choose the first batch.

    Without examples, it begins with what is like the texts or images given, or else unlike the rest of the pool. Run
    the same command again to add examples, and `raysal resume` once a batch is labeled.
    """
    del json, debug
    with on_interrupt(f"run the same command again, or `raysal resume {out}`"), progress("starting") as report:
        from raysal.config import load_config
        from raysal.errors import ConfigError
        from raysal.rounds.loop import run as run_rounds
        from raysal.rounds.searching import (
            begin_search,
            classes_named,
            labels_of_examples,
            rest_of,
            search_config,
        )

        look_now()
        if pool.endswith(".toml"):
            given = {"--target": target, "-k": k, "--seed": seed, "--text": text, "--image": image}
            if twice := [name for name, value in given.items() if value is not None]:
                raise ConfigError(twice[0], f"is what {pool} says", "change it there, or pass a pool")
            config = load_config(Path(pool), note)
            if not config.target:
                raise ConfigError("target", f"{pool} names no class that is looked for", 'add target = ["..."]')
        else:
            fields: dict[str, Any] = {} if seed is None else {"seed": seed}
            if like := {name: value for name, value in (("text", text), ("image", image)) if value}:
                fields["like"] = like
            config = search_config(pool, out, target=target, rest=rest, k=k, **fields)
            refuse_another(config, out)
        named = rest_of(config) if rest is None else rest
        labels = labels_of_examples(classes_named(example or (), config.target), other or (), config.target, named)
        begin_search(config, out, labels, report)
        result = run_rounds(config, out, report=report)
    return outcome_of(result)


def refuse_another(config: RunConfig, out: Path) -> None:
    """Refuse options that a run which is there goes by as it was begun.

    Args:
        config: with the options as they are given now.
        out: the run directory, there or not yet.

    Raises:
        RunError: an option differs; it is named as on the command line.
    """
    from raysal.errors import RunError
    from raysal.rounds.directory import RunDir

    if (begun := RunDir(out).config()) is None:
        return
    own = {
        "-k": (config.rounds.k, begun.rounds.k),
        "--target": (config.target, begun.target),
        "--rest": (config.update.classes, begun.update.classes),
        "--seed": (config.seed, begun.seed),
        "--image/--text": (config.like, begun.like),
    }
    if changed := [name for name, (now, then) in own.items() if now != then]:
        was = f" (it goes by {begun.rounds.k})" if changed == ["-k"] else ""
        fix = "leave it out to go on as it was begun, or name another --out"
        raise RunError(out, f"was begun with another {', '.join(changed)}{was}", fix)
