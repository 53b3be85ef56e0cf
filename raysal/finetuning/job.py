"""The training job: the labels of a run and the pictures of its pool become a model, in one directory.

    finetune.json         what is trained, on which labels, and how (sealed); written first, never changed
    work/                 pictures and state, until the training is done
    model.json ...        the model; see `raysal.embedding.finetuned`

A training that was stopped goes on when it is begun again: with the labels of its first start, and to the same bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysal.config import Choice
from raysal.defaults import DECODE_THREADS, MAX_QUARANTINE
from raysal.embedding import ENCODERS
from raysal.embedding.backbone import Backbone
from raysal.embedding.base import Encoder
from raysal.embedding.finetuned import MODEL, FineTuned, ModelRecord
from raysal.embedding.recorded import encoder_fields
from raysal.embedding.torch_model import freed_memory_kept, place_model
from raysal.embedding.trainable import BACKBONES, Trainable
from raysal.embedding.working import torch_threads
from raysal.errors import Damaged, EncoderError, LabelError, PicturesLost, RunError
from raysal.finetuning.checkpoint import load_state, save_state, write_model
from raysal.finetuning.chosen import Chosen, check_kind_of_labels, choose_items
from raysal.finetuning.network import Network, first_classifier
from raysal.finetuning.options import FixMatch
from raysal.finetuning.origin import pictures_of
from raysal.finetuning.pictures import Pictures, gather_pictures
from raysal.finetuning.training import MEASURES, State, TrainingSet, train
from raysal.pool import Pool
from raysal.rounds.binding import check_labels_of, check_pool, own_pool
from raysal.rounds.directory import RunDir
from raysal.sources.base import Source
from raysal.store import LOCK, TEMPORARY, check_kind, locked, read_sealed, remove_temporaries, write_sealed
from raysal.types import Report, no_report

PLAN, WORK = "finetune.json", "work"
VERSION = 1
"""Of the plan."""
SAVE_EVERY = 50
"""Steps from one kept state to the next."""
NAMED = 1000
"""Pictures without pixels that a model's record names."""
POINTS = 20
"""Stretches of the training whose mean losses a model's record holds."""


@dataclass(frozen=True, kw_only=True)
class FineTuneReport:
    """What a training made."""

    model: str
    """the directory"""
    encoder: str
    """the name by which the model is an encoder"""
    fingerprint: str
    """of its vectors"""
    steps: int
    resumed: int
    """steps that an earlier start had made"""
    labels: int
    """labelled pictures that trained"""
    classes: Mapping[str, int]
    """{class: labels}"""
    unlabelled: int
    """unlabelled pictures that were drawn"""
    lost: Mapping[str, str] = field(default_factory=dict)
    """{key: why it has no picture}"""
    lost_labels: int = 0
    """of them labelled"""
    losses: Mapping[str, float] = field(default_factory=dict)
    """means over the last tenth of the steps"""
    new_events: int = 0
    """events of the ledger that came after the labels that trained"""
    seconds: float = 0.0
    """of this start"""


def finetune(
    run: str | Path,
    out: str | Path,
    options: FixMatch,
    *,
    encoder: Encoder | None = None,
    source: Source | None = None,
    device: str = "cpu",
    threads: int = 0,
    decode_threads: int = DECODE_THREADS,
    save_every: int = SAVE_EVERY,
    max_lost: float = MAX_QUARANTINE,
    report: Report = no_report,
) -> FineTuneReport:
    """Train an image encoder on the labels of a run, or go on where an earlier start was stopped.

    Memory: the network four times, its layers for (1 + 2 ratio) · batch_size pictures, and the views of three steps.
    Disk: size² · 3 bytes a picture, and the network four times, until the training is done.

    Args:
        run: the run directory. It is only read.
        out: the directory of the model.
        options: how to train.
        encoder: the network to begin with; by default the pool's own encoder, and where that is a fine-tuned one,
            what it was made of.
        source: where the pictures are; by default where the pool was made of. Items are found in it by key.
        device: where to train, as `cpu` or `cuda`. It has not run on a GPU.
        threads: CPU threads of the network; 0 is torch's own choice. A training that goes on has those of its start.
        decode_threads: threads that decode pictures and distort them.
        save_every: steps from one kept state to the next.
        max_lost: share of the pictures that may be lost.
        report: told of the progress.

    Returns:
        What was made. A finished model stays as it is.

    Raises:
        ConfigError: an option is out of range, the labels are not one class for each item, or the loss is not a number.
        LabelError: fewer than two classes have labels, or pictures.
        EncoderError: the encoder cannot be trained, or the device cannot be used.
        RunError: there is no run; or `out` was begun otherwise, is of another kind, or somebody else is at work on it.
        SourceError: the pictures cannot be listed.
        FingerprintMismatch: the labels are of another pool than the run's config names, or the source has changed.
        Damaged: a file of the run, of the pool or in `out` was altered.
        PicturesLost: more than `max_lost` of the pictures could not be read. The model is there.
    """
    import torch

    out, started = Path(out).absolute(), time.perf_counter()
    there = RunDir(Path(run))
    config = there.require_config()
    check_kind_of_labels(config)
    _check_place(out)
    pool = own_pool(config).stored
    check_labels_of(there, config, pool)
    begun = _begun(out)
    with closing(there.open_ledger()) as ledger:
        check_pool(there, ledger, pool)
        upto = ledger.head_seq if begun is None else begun["ledger_seq"]
        chosen = choose_items(pool, ledger, config, upto, options.sample if options.weight else 0, options.seed)
        since = ledger.head_seq - upto
    encoder = own_encoder(pool) if encoder is None else encoder
    start, base = _trainable(encoder)
    plan: dict[str, Any] = {
        "version": VERSION,
        "pool": pool.fingerprint,
        "options": options.to_json(),
        "encoder": {"name": base[0], "config": base[1]},
        "start": encoder.fingerprint(),
        "labels": chosen.digest(),
        "ledger_seq": upto,
        "threads": begun["threads"] if begun else threads or torch.get_num_threads(),
    }
    if begun is not None:
        _check_same(out, begun, plan)
        if (out / MODEL).exists():
            return _finished(out, since)
    where = pictures_of(pool, source)  # which refuses what cannot be read, before anything is written
    backbone = start.backbone()
    place_model(backbone.module, device)  # which refuses a device that is not there
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "model"):
        if (out / MODEL).exists() or (begun is None and (out / PLAN).exists()):
            raise RunError(out, "another process has worked on this model meanwhile", "run the same command again")
        if begun is None:
            write_sealed(out / PLAN, plan)
        (out / WORK).mkdir(exist_ok=True)
        for folder in (out, out / WORK):
            remove_temporaries(folder)
        pictures = gather_pictures(where, chosen.keys, backbone, out / WORK, decode_threads, report)
        with torch_threads(plan["threads"]), freed_memory_kept():
            record, resumed = _train(
                out, options, chosen, pictures, backbone, plan, device, decode_threads, save_every, report
            )
        shutil.rmtree(out / WORK)
    found = replace(_report(record), resumed=resumed, new_events=since, seconds=time.perf_counter() - started)
    if len(pictures.lost) > max_lost * len(chosen.keys):
        raise PicturesLost(out, len(chosen.keys), pictures.lost, max_lost)
    return found


def _check_place(out: Path) -> None:
    """Refuse a directory of something else: what is named as the work of a training is deleted in the end."""
    check_kind(out, PLAN)
    if (out / PLAN).exists() or not out.is_dir():
        return
    if any(entry.name != LOCK and not entry.name.startswith(TEMPORARY) for entry in out.iterdir()):
        raise RunError(out, "holds files, and is no model", "name a directory that is new or empty")


def _begun(out: Path) -> dict[str, Any] | None:
    """The plan of a training that was begun; None where none was."""
    if not (out / PLAN).exists():
        return None
    plan = read_sealed(out / PLAN, "delete the directory, and train anew")
    if plan.get("version") != VERSION:
        raise RunError(out / PLAN, f"version {plan.get('version')}, this raysal reads {VERSION}", "update raysal")
    return plan


def own_encoder(pool: Pool) -> Encoder:
    """The encoder whose network made a pool's vectors: its own, or what its fine-tuned one was made of.

    Args:
        pool: the pool.

    Returns:
        The encoder.

    Raises:
        EncoderError: it is no network that can be trained; or a fine-tuned model is gone.
    """
    recorded = pool.manifest.encoder
    name, fields = recorded["name"], recorded.get("config", {})
    if name.startswith("finetuned:"):
        made_of = FineTuned(arg=Path(name.partition(":")[2])).record.backbone
        name, fields = made_of["name"], made_of["config"]
    if name.partition(":")[0] not in BACKBONES:
        problem = f"the pool's encoder, {name}, is no network that can be trained"
        raise EncoderError("encoder", problem, "name one, as efficientnet_lite0 or timm:NAME (--encoder)")
    return Choice(name=name, **fields).build("encoder", ENCODERS)


def _trainable(encoder: Encoder) -> tuple[Trainable, tuple[str, dict[str, Any]]]:
    """An encoder to begin with, and the name and config of that whose network it is."""
    if isinstance(encoder, FineTuned):
        made_of = encoder.record.backbone
        return encoder, (made_of["name"], dict(made_of["config"]))
    recorded = encoder_fields(encoder)
    if not isinstance(encoder, Trainable):
        raise EncoderError(recorded[0], "cannot be trained", f"name one of: {', '.join(BACKBONES)}, finetuned")
    return encoder, recorded


def _check_same(out: Path, begun: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Refuse to go on with a training that was begun otherwise."""
    other = "name another directory with --out, or begin this one as before"
    if begun["pool"] != plan["pool"]:
        raise RunError(out, "was begun with the labels of another pool", other)
    for name, value in plan["options"].items():
        if begun["options"].get(name) != value:
            raise RunError(out, f"was begun with {name} = {begun['options'].get(name)}, not {value}", other)
    for name in ("encoder", "start"):
        if begun[name] != _as_read(plan[name]):
            raise RunError(out, f"was begun with another encoder, {begun['encoder']['name']}", other)
    if begun["labels"] != plan["labels"]:
        raise RunError(out, "was begun with other labels", other)


def _as_read(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {name: _as_read(inner) for name, inner in value.items()}
    return [_as_read(inner) for inner in value] if isinstance(value, list | tuple) else value


def _train(
    out: Path,
    options: FixMatch,
    chosen: Chosen,
    pictures: Pictures,
    backbone: Backbone,
    plan: Mapping[str, Any],
    device: str,
    workers: int,
    save_every: int,
    report: Report,
) -> tuple[ModelRecord, int]:
    """Train on decoded pictures, and write the model; also how many steps were made before."""
    places = {key: place for place, key in enumerate(chosen.keys)}
    labelled = [item for item in chosen.labelled if item.key not in pictures.lost]
    unlabelled = [key for key in chosen.unlabelled if key not in pictures.lost]
    if len({item.label for item in labelled}) < 2:
        lost = ", ".join(f"{key} ({why})" for key, why in list(pictures.lost.items())[:3])
        problem = f"{len(labelled)} pictures of fewer than two classes are left; lost: {lost}"
        raise LabelError("labels", problem, "mend the pictures, or name where they are with --source")
    rows = np.array([places[key] for key in [*(item.key for item in labelled), *unlabelled]], np.int64)
    weights = np.array([item.weight for item in labelled])
    mean, evidence = first_classifier(
        backbone,
        [pictures.pixels[row] for row in rows[: len(labelled)].tolist()],
        [item.answer for item in labelled],
        weights,
        chosen.classes,
        device,
    )
    data = TrainingSet(pixels=pictures.pixels, rows=rows, targets=evidence.targets, weights=evidence.weights)
    network = Network(backbone, mean, device, options.batch_norm)
    state = State.begin(network, data, options)
    kept = load_state(out / WORK)
    if kept is not None:
        state.load(*kept)
    resumed = state.step

    def after(now: State) -> None:
        report("training", now.step, options.steps)
        if now.step % save_every == 0 or now.step == options.steps:
            save_state(out / WORK, now.step, now.tensors())

    auto = "bfloat16" if network.device.type == "cuda" else "float32"
    precision = auto if options.precision == "auto" else options.precision
    train(state, data, options, precision=precision, workers=workers, after=after)
    for name, value in network.state().items():
        value.copy_(state.mean[name])
    place_model(backbone.module, device)
    counts = {name: sum(item.label == name for item in labelled) for name in chosen.classes}
    gone = [[key, why] for key, why in pictures.lost.items()]
    training = {
        **plan,
        "precision": precision,
        "pseudo_labels_from": "the network as it trains",
        "keep": options.keep,
        "labelled": len(labelled),
        "labels_by_class": counts,
        "unlabelled": len(unlabelled),
        "lost": gone[:NAMED],
        "lost_count": len(gone),
        "lost_labels": len(chosen.labelled) - len(labelled),
        "curve": _stretches(state.curve, POINTS),
        "last_tenth": _stretches(state.curve[-max(1, options.steps // 10) :], 1)[0],
    }
    model = {"name": plan["encoder"]["name"], "config": plan["encoder"]["config"]}
    return write_model(out, network, tuple(chosen.classes), model, training), resumed


def _stretches(curve: Any, most: int) -> list[dict[str, float]]:
    """The means of `MEASURES` over equal stretches of the steps."""
    parts = np.array_split(curve.astype(np.float64), min(most, len(curve)))
    return [dict(zip(MEASURES, part.mean(0).tolist(), strict=True)) for part in parts]


def _finished(out: Path, since: int) -> FineTuneReport:
    """The report of a model that was there."""
    record = ModelRecord.read(out)
    shutil.rmtree(out / WORK, ignore_errors=True)  # a kill may have come before
    found = _report(record)
    return replace(found, resumed=found.steps, new_events=since)


def _report(record: ModelRecord) -> FineTuneReport:
    training = record.training
    try:
        return FineTuneReport(
            model=str(record.path),
            encoder=f"finetuned:{record.path}",
            fingerprint=record.fingerprint,
            steps=training["options"]["steps"],
            resumed=0,
            labels=training["labelled"],
            classes=training["labels_by_class"],
            unlabelled=training["unlabelled"],
            lost=dict(training["lost"]),
            lost_labels=training["lost_labels"],
            losses=training["last_tenth"],
        )
    except (KeyError, TypeError) as error:
        raise Damaged(record.path / MODEL, f"not a model's record ({error})", "train anew") from None
