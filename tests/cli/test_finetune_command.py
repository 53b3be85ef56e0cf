"""`raysal finetune`, from labels to a run that goes on over the new pool."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest
from cli_tools import cli
from small_finetuning import make_run

import raysal
from raysal.cli.finetune import Precisions, Symmetries, finetune
from raysal.finetuning.options import FixMatch, Precision, Symmetry

pytest.importorskip("torch")
QUICK = ("--steps", 4, "--batch-size", 6, "--ratio", 1, "--sample", 20, "--threads", 1, "--average-steps", 1)


def test_its_options_and_defaults_are_those_of_the_method() -> None:
    assert [choice.value for choice in Symmetries] == list(get_args(Symmetry))
    assert [choice.value for choice in Precisions] == list(get_args(Precision))
    own = inspect.signature(finetune).parameters
    for name, field in FixMatch.__dataclass_fields__.items():
        if name in own and name != "seed":
            assert own[name].default == field.default, name
    assert set(FixMatch.__dataclass_fields__) - set(own) == {"decay", "batch_norm", "distortions"}


def test_labels_become_an_encoder_and_the_run_goes_on_over_its_pool(tmp_path: Path) -> None:
    make_run(tmp_path, 40, 12)
    run, model, photos = tmp_path / "run", tmp_path / "model", tmp_path / "photos"
    first = cli("finetune", run, "--out", model, *QUICK, "--json").json
    assert (first["steps"], first["resumed"], first["labels"], first["lost"]) == (4, 0, 12, {})
    again = cli("finetune", run, "--out", model, *QUICK)
    assert again.code == 0
    assert "4 steps (4 were made before), 12 labels (bars 4, dots 4, noise 4), 20 unlabelled pictures" in again.out
    assert "It has not run on a GPU." in cli("finetune", "--help").out
    assert cli("embed", photos, "--encoder", f"finetuned:{model}", "--out", tmp_path / "pool2").code == 0
    refused = cli("resume", run, "--pool", tmp_path / "pool2")
    assert refused.code == 2
    assert "--rebind" in refused.err
    assert cli("predict", tmp_path / "pool2", "--head", model / "head.safetensors", "-o", tmp_path / "p").code == 0
    wrong = cli("predict", tmp_path / "pool", "--head", model / "head.safetensors", "-o", tmp_path / "q")
    assert wrong.code == 2
    assert "encoder" in wrong.err
    moved = cli("resume", run, "--pool", tmp_path / "pool2", "--rebind")
    assert moved.code == 0, moved
    assert raysal.Session(run).pool.path == tmp_path / "pool2"


def test_what_cannot_be_done_exits_with_2_and_what_was_lost_with_3(tmp_path: Path) -> None:
    truth = make_run(tmp_path, 30, 12)
    run = tmp_path / "run"
    words = ("finetune", run, "--out", tmp_path / "m", *QUICK)
    assert cli("finetune", tmp_path / "none", "--out", tmp_path / "m").code == 2
    assert cli(*words).code == 0
    assert "steps = 4, not 5" in cli(*words, "--steps", 5).err
    assert cli("finetune", run, "--out", tmp_path / "pool", *QUICK).code == 2
    (tmp_path / "photos" / next(iter(truth))).write_bytes(b"broken")
    lost = cli("finetune", run, "--out", tmp_path / "n", *QUICK, "--source", tmp_path / "photos", "--json")
    assert lost.code == 3
    assert "000.png" in lost.json["error"]
    assert (tmp_path / "n" / "model.json").exists()
