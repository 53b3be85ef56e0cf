"""`raysal embed`: make a pool from a source and an encoder."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import BackendOption, PoolOut
from raysal.cli.output import Backend, Debug, Json, Outcome, counted, on_interrupt
from raysal.cli.progress import progress
from raysal.defaults import BATCH_SIZE, DECODE_THREADS, MAX_CHUNK_ROWS, MAX_PASSED_OVER, MAX_QUARANTINE
from raysal.embedding.measures import measures_of
from raysal.embedding.registry import ENCODERS
from raysal.errors import ConfigError
from raysal.scale import AUTO, scale_words


class Numbers(StrEnum):
    """The values of `raysal.embedding.precision.Precision`, as a choice on the command line."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class BoxForm(StrEnum):
    """What the numbers of a box are, as `raysal.sources.boxes.Boxes` takes them."""

    xyxy = "xyxy"
    xywh = "xywh"


class Distance(StrEnum):
    """The values of `raysal.types.Metric`, as a choice on the command line."""

    cosine = "cosine"
    l2 = "l2"


class HowChecked(StrEnum):
    """The values of `raysal.types.Check`, as a choice on the command line."""

    fast = "fast"
    hash = "hash"


def with_fields(text: str) -> str | dict[str, Any]:
    """A stretch as a config has it, of `NAME` or `NAME:FIELD=VALUE,FIELD=VALUE`."""
    name, colon, rest = text.partition(":")
    if not colon:
        return name
    try:
        return {"name": name, **tomllib.loads(rest.replace(",", "\n"))}
    except tomllib.TOMLDecodeError:
        fix = "for example asinh:softening=0.05,high=99.9"
        raise ConfigError("--stretch", f"{text!r} is not understood", fix) from None


def embed(
    source: Annotated[
        list[str],
        Argument(
            help="A folder of images, or of sounds; a file or folder of tables (.parquet, .arrow) or of texts (.csv, "
            ".tsv, .jsonl, .json); shards of WebDataset (.tar); a folder saved by Hugging Face's datasets; a Lance "
            "table; a matrix of vectors (.npy); arrays (.h5, .zarr); a quoted pattern, as 'data/*.parquet'; such data "
            "in a bucket, as s3://bucket/photos; or fashion_mnist. Several folders or files of one kind make one pool."
        ),
    ],
    out: PoolOut,
    encoder: Annotated[
        str | None,
        Option(
            help=f"{', '.join(ENCODERS)}. Some take more after a colon: efficientnet_lite0:fast, timm:NAME, "
            "open_clip:MODEL/WEIGHTS, sentence:NAME, torch:MODULE:CALLABLE, finetuned:MODEL; for sounds "
            "spectrogram:ENCODER, waveform:MODULE:CALLABLE. A source of vectors needs no encoder."
        ),
    ] = None,
    origin: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Your name for the model that made ready vectors. Heads then hold for all pools of that name; without "
            "one, only for pools of the same vectors.",
        ),
    ] = None,
    key_column: Annotated[
        str | None, Option(help="Column of the keys; # for numbers of rows. (Default: key; of arrays id, too.)")
    ] = None,
    keys: Annotated[
        Path | None,
        Option(metavar="FILE", help="Keys of a .npy file's rows: one per line, or .npy. (Default: numbers from 0.)"),
    ] = None,
    vector_column: Annotated[
        str | None, Option(help="Column of ready vectors, or path of a dataset of arrays. (Default: the only one.)")
    ] = None,
    image_column: Annotated[
        str | None, Option(help="Column of images: bytes, or pixels. Of shards: ending, as seg.png.")
    ] = None,
    text_column: Annotated[str | None, Option(help="Column of texts. (Default: text.)")] = None,
    hdu: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Part of FITS files: name, or number. Repeated: parts that are the channels of one image. (Default: "
            "the first image.)",
        ),
    ] = None,
    owner: Annotated[
        str | None,
        Option(
            metavar="COLUMN|folder",
            help="What items are parts of: a column of a table that names it; or of images, the folder they are in.",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        Option(metavar="COLUMN", help="Column of boxes in a table of images: each is cut out, and part of its image."),
    ] = None,
    box_form: Annotated[
        BoxForm | None, Option(metavar="FORM", help="xyxy, or xywh: its last two numbers are width and height.")
    ] = None,
    window: Annotated[
        int | None, Option(min=1, help="Cut texts into windows of so many words, which are parts of the text.")
    ] = None,
    overlap: Annotated[int | None, Option(min=0, help="Words that a window shares with the one before it.")] = None,
    carry: Annotated[
        list[str] | None, Option(metavar="COLUMN", help="Keep this column in the pool. Repeatable.")
    ] = None,
    data: Annotated[Path | None, Option(metavar="DIR", help="The directory of the Fashion-MNIST files.")] = None,
    size: Annotated[int | None, Option(min=1, help="Side of the square that the encoder gets, in pixels.")] = None,
    channel: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Channel of an image that the encoder sees: one for grey; given three times, for red, green and blue. "
            "(Default: what the image has.)",
        ),
    ] = None,
    stretch: Annotated[
        str | None,
        Option(
            metavar="NAME[:FIELD=VALUE,...]",
            help="How numbers become greys: asinh, linear, percentile, zscale; as asinh:softening=0.05,high=99.9. "
            "(Default: by their type, or by the range that the file states.)",
        ),
    ] = None,
    precision: Annotated[
        Numbers | None,
        Option(
            help="What the model multiplies in. Vectors of another one are another encoder's. (Default: float32.) "
            "On a CPU without instructions for it, it is refused."
        ),
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Items in one call of the model.")] = BATCH_SIZE,
    chunk_rows: Annotated[
        int,
        Option(
            min=0,
            max=MAX_CHUNK_ROWS,
            help="Items committed together. (Default: 65536 vectors, else 1024.)",
            show_default=False,
        ),
    ] = 0,
    workers: Annotated[int, Option(min=0, help="Ray workers. (Default: as many as fit.)", show_default=False)] = 0,
    decode_threads: Annotated[
        int, Option(min=1, help="Threads that decode items ahead of the model.")
    ] = DECODE_THREADS,
    max_quarantine: Annotated[
        float, Option(min=0, max=1, help="Share of items that may fail. If more fail, the exit code is 3.")
    ] = MAX_QUARANTINE,
    max_passed_over: Annotated[
        float,
        Option(
            min=0, max=1, help="Share of what looks like an item that may be left out. Beyond it the exit code is 3."
        ),
    ] = MAX_PASSED_OVER,
    backend: BackendOption = Backend.local,
    device: Annotated[
        str,
        Option(
            help="Where the model runs: cpu; cuda: all GPUs here, with Ray one for each worker; cuda:1; cuda:0,cuda:2. "
            "(Has not run on a GPU.)"
        ),
    ] = "cpu",
    metric: Annotated[Distance, Option(help="How near two items are: by the angle, or by the Euclidean distance.")] = (
        Distance.cosine
    ),
    scale: Annotated[
        str,
        Option(
            metavar="auto|2^N",
            help="The power of two that vectors are multiplied by before they are stored as float16. Exports, "
            "distances and queries keep the given magnitude. auto: what a sample of ready vectors needs, else 1.",
        ),
    ] = AUTO,
    check: Annotated[
        HowChecked,
        Option(help="How files that changed are found: by size and time, or by sha256, which reads all of them."),
    ] = HowChecked.fast,
    measure: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help=f"Measure the quality of each item, as a column of the pool. Of pictures: "
            f"{', '.join(measures_of('image'))}; of texts: {', '.join(measures_of('text'))}; or all. Repeatable, or "
            "with commas. (Default: those of the pool where there is one.)",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Embed a source into a pool.

    After an interruption, run the same command again: it goes on where it stopped. On a finished pool it takes in what
    is new or changed in the source's files, and embeds nothing else. Items that are gone from the source stay.

    Items that cannot be decoded, or that float16 cannot hold, are quarantined. `raysal pool quarantine` shows them.
    What the source leaves out is counted by suffix, here and in `raysal pool info`.
    """
    del json, debug
    with (
        on_interrupt("finished chunks are kept: run the same command again to go on"),
        progress("listing") as report,
    ):
        from raysal.api.embed import encoder_of
        from raysal.embedding.job import embed as run_job
        from raysal.pool.layout import read_passed_over
        from raysal.pool.place import directory_of
        from raysal.sources import check_apart, detect_source
        from raysal.sources.listed_once import listed_once

        look_now()

        check_apart(source, out)
        with listed_once():
            items = detect_source(
                source,
                key_column=key_column,
                keys=keys,
                vector_column=vector_column,
                image_column=image_column,
                text_column=text_column,
                hdu=hdu[0] if hdu and len(hdu) == 1 else tuple(hdu or ()),
                owner=owner,
                boxes=boxes,
                box_form=None if box_form is None else box_form.value,
                window=window,
                overlap=overlap,
                carry=tuple(carry or ()),
                data=data,
            )
            given: dict[str, Any] = {"size": size, "precision": precision and precision.value, "origin": origin}
            given |= {"channels": tuple(channel) if channel else None, "stretch": stretch and with_fields(stretch)}
            fields = {name: value for name, value in given.items() if value is not None}
            named = None if encoder is None and not fields else {"name": encoder or "precomputed", **fields}
            done = run_job(
                items,
                encoder_of(named, items),
                out,
                batch_size=batch_size,
                chunk_rows=chunk_rows,
                workers=workers,
                decode_threads=decode_threads,
                max_quarantine=max_quarantine,
                max_passed_over=max_passed_over,
                backend=backend.value,
                device=device,
                metric=metric.value,
                scale=scale,
                check=check.value,
                measures=None if measure is None else [name for some in measure for name in some.split(",") if name],
                report=lambda count, total: report("embedding", count, total),
                checking=lambda count, total: report("checking", count, total),
            )
    rate = f", {done.items_per_second:,.0f} items/s" if done.embedded else ""
    lost = f", {done.quarantined} quarantined" if done.quarantined else ""
    lost += ": none is usable" if 0 < done.items == done.quarantined else ""
    lost += f" (`raysal pool quarantine {out}` shows why)" if done.quarantined else ""
    read_again = done.checked and not done.embedded
    same = ", the source may have changed: what was embedded was read again, and is the same" if read_again else ""
    news = [(done.added, "new"), (done.replaced, "changed")]
    grown = "".join(f", {count:,} {what}" for count, what in news if count)
    if done.gone:
        left = f"{counted(done.gone, 'file')} of the pool {'is' if done.gone == 1 else 'are'} gone from the source"
        grown += f"; {left}: `raysal pool remove {out} --missing` takes out the items"
    scaled = "" if done.scale == 1 else f", stored at the scale {scale_words(done.scale)}"
    found = f"{counted(done.items, 'item')} in {counted(done.chunks, 'chunk')}"
    view = f"{out}: {found}, {done.embedded:,} embedded now{rate}{grown}{lost}{same}{scaled}"
    left_out = str(read_passed_over(directory_of(out, synced=False)) or "")
    return Outcome(
        data={"pool": str(out), **asdict(done), "items_per_second": done.items_per_second},
        view=f"{view}\n{left_out}" if left_out else view,
    )
