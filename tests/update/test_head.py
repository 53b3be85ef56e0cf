from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from raysal.errors import Damaged, UserError
from raysal.update import Head


def small_head(**changes) -> Head:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    fields = {
        "classes": ("cat", "dög", 'a "b"\n'),
        "weight": rng.normal(size=(3, 2)),
        "bias": rng.normal(size=3),
        "covariance": root @ root.T,
        "prior": 0.1 + 0.2,
        "encoder": "f" * 64,
        "version": 3,
        "labels_seen": 12,
        "fitted_on": 10,
        "ledger_seq": 2**41 + 1,
    }
    return Head(**{**fields, **changes})


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    head = small_head(bias=np.array([-0.0, 5e-324, 1 / 3]), curvature="categorical")
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    for field in dataclasses.fields(Head):
        kept, got = getattr(head, field.name), getattr(again, field.name)
        if isinstance(kept, np.ndarray):
            assert kept.tobytes() == got.tobytes()
            assert kept.shape == got.shape
        else:
            assert kept == got
            assert type(kept) is type(got)
    assert again.digest() == head.digest()
    assert [p.name for p in tmp_path.iterdir()] == ["head.safetensors"]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    small_head().save(tmp_path / "a")
    small_head().save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("cat", "dög", "c")},
        {"prior": np.nextafter(0.1 + 0.2, 1)},
        {"encoder": "e" * 64},
        {"version": 4},
        {"labels_seen": 13},
        {"fitted_on": 11},
        {"ledger_seq": 2**41},
        {"bias": np.nextafter(small_head().bias, 9)},
        {"weight": np.nextafter(small_head().weight, 9)},
        {"covariance": np.nextafter(small_head().covariance, 9)},
        {"curvature": "categorical"},
    ],
)
def test_the_digest_sees_every_field(change) -> None:
    assert small_head(**change).digest() != small_head().digest()


@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_a_flip_in_the_header_is_found_or_harmless(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "head"
    head = small_head()
    head.save(path)
    whole = path.read_bytes()
    for position in range(8 + int.from_bytes(whole[:8], "little")):
        flipped = bytearray(whole)
        flipped[position] ^= mask
        path.write_bytes(bytes(flipped))
        try:
            got = Head.load(path)
        except Damaged:
            continue
        assert got.digest() == head.digest(), position


def test_a_flip_in_any_array_is_found(tmp_path: Path) -> None:
    path = tmp_path / "head"
    small_head().save(path)
    whole = path.read_bytes()
    body = 8 + int.from_bytes(whole[:8], "little")
    assert len(whole) - body == 8 * (6 + 3 + 9)
    for position in range(body, len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(bytes(flipped))
        with pytest.raises(Damaged, match="head"):
            Head.load(path)


def test_a_cut_a_lengthened_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "head"
    small_head().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged, match="head"):
            Head.load(path)
    path.write_bytes(whole + b"\0" * 8)
    with pytest.raises(Damaged, match="head"):
        Head.load(path)
    with pytest.raises(Damaged, match="missing"):
        Head.load(tmp_path / "none")
    with pytest.raises(Damaged):
        Head.load(tmp_path)


def test_foreign_files_and_pickles_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save

    path = tmp_path / "head"
    path.write_bytes(save({"weight": np.zeros((2, 2))}))
    with pytest.raises(Damaged, match="format"):
        Head.load(path)
    path.write_bytes(save({"weight": np.zeros((2, 2))}, {"raysal_head": '{"format": 2}'}))
    with pytest.raises(Damaged, match="2, expected 1"):
        Head.load(path)
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(Damaged, match="not a head"):
        Head.load(path)


def test_a_failed_save_leaves_the_old_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "head"
    small_head().save(path)

    def full(_: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        small_head(version=4).save(path)
    assert Head.load(path).version == 3
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def test_logits_and_probabilities() -> None:
    head = small_head()
    features = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    logits = head.logits(features)
    assert logits.dtype == np.float64
    for row in range(5):
        for c in range(3):
            by_hand = sum(float(head.weight[c, k]) * float(features[row, k]) for k in range(2)) + head.bias[c]
            assert logits[row, c] == pytest.approx(by_hand, rel=1e-14)
    exponentials = np.exp(logits)
    assert np.allclose(head.probabilities(features), exponentials / exponentials.sum(axis=1, keepdims=True))
    assert np.isfinite(head.probabilities(features.astype(np.float64) * 1e200)).all()
    assert head.logits(features.astype(np.float16)).dtype == np.float64
    assert head.logits(features[:0]).shape == (0, 3)
    for wrong in (features[:, :1], features[0]):
        with pytest.raises(UserError, match=r"takes \[n, 2\]"):
            head.logits(wrong)


def test_one_class_is_certain() -> None:
    head = small_head(classes=("only",), weight=np.full((1, 2), 3.0), bias=np.array([-1.0]))
    assert (head.probabilities(np.full((4, 2), 1e5)) == 1).all()


def test_arrays_are_copied_and_read_only() -> None:
    weight = np.zeros((3, 2))
    head = small_head(weight=weight)
    weight[0, 0] = 7
    assert head.weight[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        head.weight[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weight": np.zeros((2, 2))}, "head.weight"),
        ({"weight": np.zeros(3)}, "head.weight"),
        ({"classes": ()}, "head.weight"),
        ({"classes": ("a", "b", "a")}, "head.classes"),
        ({"bias": np.zeros(2)}, "head.bias"),
        ({"bias": np.array([0, 0, np.nan])}, "head.bias"),
        ({"covariance": np.zeros((2, 2))}, "head.covariance"),
        ({"covariance": np.full((3, 3), np.inf)}, "head.covariance"),
        ({"prior": 0.0}, "head.prior"),
        ({"prior": float("nan")}, "head.prior"),
    ],
)
def test_a_head_that_cannot_be_is_refused(change, named: str) -> None:
    with pytest.raises(UserError, match=named):
        small_head(**change)
