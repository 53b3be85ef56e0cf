"""`raysal.finetune`: train an image encoder on the labels of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.api.embed import encoder_of, source_of
from raysal.arguments import Part, as_path, as_whole_number
from raysal.defaults import DECODE_THREADS, MAX_QUARANTINE
from raysal.errors import ConfigError
from raysal.types import Report, no_report

if TYPE_CHECKING:
    from raysal.embedding.base import Encoder
    from raysal.finetuning.job import FineTuneReport
    from raysal.sources.base import Source


def finetune(
    run: str | Path,
    *,
    out: str | Path,
    encoder: Part | Encoder | None = None,
    source: Any = None,
    size: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    threads: int = 0,
    decode_threads: int = DECODE_THREADS,
    save_every: int | None = None,
    max_lost: float = MAX_QUARANTINE,
    report: Report = no_report,
    **options: Any,
) -> FineTuneReport:
    """Train an image encoder on the labels of a run, by FixMatch on its pictures.

    The model becomes an encoder: `raysal.embed(source, f"finetuned:{out}", out="pool2")` embeds the pictures anew, and
    the run goes on over that pool with `rebind=True`. Heads, indexes and predictions of other pools are refused there.

    Frozen vectors and the trainer `pseudo_labels` remain the default of runs: they take seconds on a CPU, and this
    takes minutes. docs/models.md says what it gains.

    If it is stopped, the same call goes on: with the labels of its first start, and to the same bytes on a CPU.

    Args:
        run: the run directory. It is only read.
        out: the directory of the model.
        encoder: the network to begin with. By default the pool's own encoder, and where that is a fine-tuned one, what
            it was made of (a fresh start). `finetuned:MODEL` goes on from that model (a warm start). One that is only
            named sees the channels, with the stretch, that the pool's encoder does.
        source: where the pictures are, a path or a source; by default where the pool was made of. Items are found in it
            by key.
        size: side of the pictures in pixels; by default that of the encoder.
        seed: of all that is drawn; by default the run's.
        device: where to train, as `cpu` or `cuda`. It has not run on a GPU.
        threads: CPU threads of the network; 0 is torch's own choice. Bits depend on it.
        decode_threads: threads that decode and distort pictures.
        save_every: steps from one kept state to the next; 50 unless given.
        max_lost: share of the pictures that may be unreadable before it raises `PicturesLost`.
        report: called with (stage, done, total).
        options: fields of `raysal.finetuning.FixMatch`.

    Returns:
        What was made. A finished model stays as it is.

    Raises:
        ConfigError: an option is unknown or out of range, or the run's labels are not one class for each item.
        LabelError: fewer than two classes have labels.
        EncoderError: the encoder cannot be trained, or the device cannot be used.
        RunError: there is no run, or `out` was begun otherwise.
        PicturesLost: more pictures than `max_lost` could not be read. The model is there.
        UserError: as its other kinds say.
    """
    from raysal.finetuning.job import SAVE_EVERY
    from raysal.finetuning.job import finetune as run_job
    from raysal.finetuning.options import FixMatch
    from raysal.finetuning.origin import moved_source
    from raysal.rounds.binding import own_pool
    from raysal.rounds.directory import RunDir

    run, out = as_path("run", run), as_path("out", out)
    config = RunDir(run).require_config()
    known = sorted(FixMatch.__dataclass_fields__)
    for name in options:
        if name not in known:
            raise ConfigError(name, "no such option", f"the options: {', '.join(known)}")
    chosen = FixMatch(**{**options, "seed": config.seed if seed is None else seed})
    found: Source | None = None
    if isinstance(source, str | Path):
        found = moved_source(source, own_pool(config).manifest.source)
    elif source is not None:
        found = source_of(source)
    return run_job(
        run,
        out,
        chosen,
        encoder=_encoder(encoder, size, config),
        source=found,
        device=device,
        threads=as_whole_number("threads", threads, 0),
        decode_threads=as_whole_number("decode_threads", decode_threads, 1),
        save_every=SAVE_EVERY if save_every is None else as_whole_number("save_every", save_every, 1),
        max_lost=max_lost,
        report=report,
    )


def _encoder(encoder: Part | Encoder | None, size: int | None, config: Any) -> Encoder | None:
    """The encoder that the caller names, with pictures of the size that the caller wants."""
    import dataclasses

    from raysal.embedding.rendering import Renders, rendering_in
    from raysal.finetuning.job import own_encoder
    from raysal.rounds.binding import own_pool

    if encoder is None and size is None:
        return None
    pool = own_pool(config)
    found = own_encoder(pool) if encoder is None else encoder_of(encoder, None)
    if isinstance(encoder, str) and isinstance(found, Renders):
        seen = rendering_in(pool.manifest.encoder.get("preprocessing", {}))
        found = dataclasses.replace(found, channels=seen.channels, stretch=seen.stretch)
    if size is None:
        return found
    if not any(field.name == "size" for field in dataclasses.fields(found)):  # type: ignore[arg-type]
        raise ConfigError("size", f"{type(found).__name__} has the size that it was trained with", "leave it out")
    sized: Encoder = dataclasses.replace(found, size=as_whole_number("size", size, 1))  # type: ignore[type-var]
    return sized
