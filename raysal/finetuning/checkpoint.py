"""What a training writes: its state every few steps, and in the end the model. No pickle is written or read.

work/state-00000050.safetensors   all tensors after that many steps
work/state.json                   which of these files counts, and its sha256 (sealed)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysal.embedding.finetuned import HEAD, MODEL, WEIGHTS, ModelRecord
from raysal.embedding.torch_model import weights_sha256
from raysal.finetuning.network import Network
from raysal.models.head import Head
from raysal.store import check_bytes, check_size, read_sealed, sha256_of, write_file, write_sealed

if TYPE_CHECKING:
    import torch

STATE = "state.json"


def save_state(work: Path, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """Keep where a training stands; what was kept before is deleted.

    Args:
        work: the folder.
        step: steps that were made.
        tensors: all of the state.

    Raises:
        OSError: the disk is full; what was kept before stays.
    """
    name = f"state-{step:08d}.safetensors"
    _write(work / name, tensors)
    facts = {"bytes": (work / name).stat().st_size, "sha256": sha256_of(work / name)}
    write_sealed(work / STATE, {"step": step, "name": name, "file": facts})
    for old in work.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(work: Path) -> tuple[int, dict[str, torch.Tensor]] | None:
    """Where a training stood.

    Args:
        work: the folder.

    Returns:
        Steps and tensors, as `save_state` took them; None if nothing was kept yet.

    Raises:
        Damaged: a file was altered.
    """
    from safetensors.torch import load_file

    if not (work / STATE).exists():
        return None
    fix = f"delete {work} and run the same command again: the training begins anew"
    record = read_sealed(work / STATE, fix)
    file = work / record["name"]
    check_size(file, record["file"]["bytes"], fix)
    check_bytes(file, record["file"]["sha256"], fix)
    return record["step"], load_file(file)


def write_model(
    out: Path,
    network: Network,
    classes: tuple[str, ...],
    backbone: Mapping[str, Any],
    training: Mapping[str, Any],
) -> ModelRecord:
    """Write a model whose training is done, the record last.

    Args:
        out: the directory.
        network: with the weights that are kept.
        classes: names of the classifier's outputs.
        backbone: name and config of the encoder whose network it is.
        training: how it was trained.

    Returns:
        The record.
    """
    module = network.backbone.module
    _write(out / WEIGHTS, {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()})
    weight, bias = (network.head[f"head.{name}"].detach().cpu().double().numpy() for name in ("weight", "bias"))
    file = out / WEIGHTS
    facts = {"bytes": file.stat().st_size, "sha256": sha256_of(file), "content": weights_sha256(module)}
    record = ModelRecord(
        path=out,
        backbone=backbone,
        size=network.backbone.size,
        mean=network.backbone.mean,
        std=network.backbone.std,
        fast=network.backbone.fast,
        rendering=network.backbone.rendering,
        dim=weight.shape[1],
        classes=classes,
        weights=facts,
        training=training,
    )
    head = Head.of_weights(weight, bias, classes=classes, encoder=record.fingerprint)
    content = head.content()
    write_file(out / HEAD, lambda temporary: temporary.write_bytes(content))
    write_sealed(out / MODEL, record.to_json())
    return record


def _write(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    content = save(dict(tensors))
    write_file(path, lambda temporary: temporary.write_bytes(content))
