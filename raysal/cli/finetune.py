"""`raysal finetune`: train an image encoder on the labels of a run."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.output import Debug, Json, Outcome, on_interrupt
from raysal.cli.progress import progress
from raysal.defaults import DECODE_THREADS, MAX_QUARANTINE


class Symmetries(StrEnum):
    """The values of `raysal.finetuning.options.Symmetry`, as a choice on the command line."""

    none = "none"
    mirror = "mirror"
    turns = "turns"


class Precisions(StrEnum):
    """The values of `raysal.finetuning.options.Precision`."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def finetune(
    run: Annotated[Path, Argument(help="The run directory. It is only read.")],
    out: Annotated[Path, Option("--out", "-o", help="The directory of the model to make or to finish.")],
    encoder: Annotated[
        str | None,
        Option(
            help="The network to begin with: efficientnet_lite0, timm:NAME, torch:MODULE:CALLABLE; finetuned:MODEL "
            "goes on from that model. (Default: the pool's encoder, or what that was fine-tuned from.)"
        ),
    ] = None,
    source: Annotated[
        str | None, Option(help="Where the pictures are, found by key. (Default: where the pool was made of.)")
    ] = None,
    size: Annotated[int | None, Option(min=1, help="Side of the pictures in pixels. (Default: the encoder's.)")] = None,
    steps: Annotated[int, Option(min=1, help="Steps of the network.")] = 200,
    batch_size: Annotated[int, Option(min=2, help="Labelled pictures of a step, equally many of each class.")] = 16,
    ratio: Annotated[int, Option(min=1, help="Unlabelled pictures of a step for each labelled one.")] = 5,
    cutoff: Annotated[float, Option(help="Probability (tau) from which a pseudo-label counts.")] = 0.95,
    floor: Annotated[
        float | None,
        Option(help="Least cutoff of any class: those learnt later have lower ones. (Default: --cutoff.)"),
    ] = None,
    weight: Annotated[float, Option(help="Of the unlabelled loss (lambda). With 0 only labels train.")] = 1.0,
    balance: Annotated[
        bool, Option("--balance/--no-balance", help="No class gets more than its share of the pseudo-labels.")
    ] = True,
    sample: Annotated[int, Option(min=0, help="Unlabelled pictures that are drawn to train on.")] = 10_000,
    learning_rate: Annotated[float, Option(help="Of Adam's first step.")] = 3e-4,
    average_steps: Annotated[
        float, Option(help="Steps that the kept model is an average over. (0: a tenth of --steps.)")
    ] = 0.0,
    symmetry: Annotated[
        Symmetries,
        Option(help="What leaves the class as it is: none; mirror; or turns, for pictures without an up."),
    ] = Symmetries.mirror,
    precision: Annotated[Precisions, Option(help="auto: bfloat16 products on a GPU, float32 on a CPU.")] = (
        Precisions.auto
    ),
    seed: Annotated[int | None, Option(min=0, help="Of all that is drawn. (Default: the run's.)")] = None,
    device: Annotated[str, Option(help="Where to train: cpu, cuda ... (has not run on a GPU).")] = "cpu",
    threads: Annotated[int, Option(min=0, help="CPU threads. Bits depend on it. (0: torch's choice.)")] = 0,
    decode_threads: Annotated[int, Option(min=1, help="Threads that decode and distort pictures.")] = DECODE_THREADS,
    save_every: Annotated[int, Option(min=1, help="Steps from one kept state to the next.")] = 50,
    max_lost: Annotated[
        float,
        Option(min=0, max=1, help="Share of the pictures that may be unreadable. If more are, the exit code is 3."),
    ] = MAX_QUARANTINE,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Train an image encoder on the labels of a run and on its unlabelled pictures (FixMatch).

    The model is an encoder: `raysal embed PHOTOS --encoder finetuned:MODEL --out POOL2` embeds the pictures anew, and
    `raysal resume RUN --pool POOL2 --rebind` goes on with the run's labels over them.

    Runs do not need it: frozen vectors with the trainer pseudo_labels take seconds, and this takes minutes on a CPU.
    It has not run on a GPU.

    After an interruption, run the same command again: it goes on where it stopped.
    """
    del json, debug
    with on_interrupt("run the same command again to go on"), progress("starting") as report:
        from raysal.api.finetune import finetune as train

        look_now()

        done = train(
            run, out=out, encoder=encoder, source=source, size=size, steps=steps, batch_size=batch_size, ratio=ratio,
            cutoff=cutoff, floor=floor, weight=weight, balance=balance, sample=sample, learning_rate=learning_rate,
            average_steps=average_steps, symmetry=symmetry.value, precision=precision.value, seed=seed, device=device,
            threads=threads, decode_threads=decode_threads, save_every=save_every, max_lost=max_lost, report=report,
        )  # fmt: skip
    classes = ", ".join(f"{name} {count}" for name, count in done.classes.items())
    before = f" ({done.resumed} were made before)" if done.resumed else ""
    lines = [
        f"{out}: {done.steps} steps{before}, {done.labels} labels ({classes}), {done.unlabelled} unlabelled pictures",
        f"pictures with a pseudo-label at the end: {done.losses['pseudo_labelled']:.0%}",
    ]
    if done.lost:
        named = "; ".join(f"{key}: {why}" for key, why in list(done.lost.items())[:3])
        lines.append(f"{len(done.lost)} pictures could not be read, {done.lost_labels} of them labelled ({named})")
    if done.new_events:
        lines.append(f"note: {done.new_events} events of the run came later; to train on them, name another --out")
    lines.append(f"next: raysal embed SOURCE --encoder {done.encoder} --out POOL2")
    return Outcome(data=asdict(done), view="\n".join(lines))
