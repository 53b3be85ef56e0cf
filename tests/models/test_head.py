from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from raysal.config import UpdateConfig
from raysal.errors import Damaged, UserError
from raysal.models.frame import Frame
from raysal.models.head import Head
from raysal.models.likelihood import SIGMOID
from raysal.models.online.refit import reason_to_refit
from raysal.models.posterior import Diagonal, Full, Kronecker, Members, Shared

FRAME = Frame(centre=np.array([1 / 3, -2.0]), size=np.array([0.1 + 0.2, 1 / 3]), constant=1 / 7)


def small_head(**changes) -> Head:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    fields = {
        "classes": ("cat", "dög", 'a "b"\n'),
        "mean": rng.normal(size=(3, 3)),
        "posterior": Shared(root=root, frame=FRAME),
        "linearised_at": rng.normal(size=(3, 3)),
        "prior": 0.1 + 0.2,
        "encoder": "f" * 64,
        "version": 3,
        "labels_seen": 12,
        "fitted_on": 10,
        "ledger_seq": 2**41 + 1,
    }
    return Head(**{**fields, **changes})


def framed(**changes) -> Shared:
    """The posterior of `small_head` in another frame."""
    return Shared(root=small_head().posterior.root, frame=dataclasses.replace(FRAME, **changes))


def bits_of(frame: Frame) -> tuple[bytes, bytes, float]:
    return frame.centre.tobytes(), frame.size.tobytes(), frame.constant


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    head = small_head(mean=np.array([[-0.0, 5e-324, 1 / 3]] * 3), temperature=1 / 3, noise=0.7, likelihood=SIGMOID)
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    assert again.posterior.root.tobytes() == head.posterior.root.tobytes()
    assert bits_of(again.frame) == bits_of(FRAME)
    for field in dataclasses.fields(Head):
        if field.name == "posterior":
            continue
        kept, got = getattr(head, field.name), getattr(again, field.name)
        if isinstance(kept, np.ndarray):
            assert kept.tobytes() == got.tobytes()
            assert kept.shape == got.shape
        else:
            assert kept == got
            assert type(kept) is type(got)
    assert again.digest() == head.digest()
    assert [p.name for p in tmp_path.iterdir()] == ["head.safetensors"]


@pytest.mark.parametrize("fitted", [1, 2, 3])
def test_a_head_that_classes_joined_keeps_the_rows_of_its_fit(tmp_path: Path, fitted: int) -> None:
    head = small_head(linearised_at=small_head().linearised_at[:fitted])
    head.save(tmp_path / "head.safetensors")
    again = Head.load(tmp_path / "head.safetensors")
    assert again.linearised_at.tobytes() == head.linearised_at.tobytes()
    assert again.linearised_at.shape == (fitted, 3)
    assert again.digest() == head.digest()
    assert (again.digest() == small_head().digest()) == (fitted == 3)


@pytest.mark.parametrize(
    "frame",
    [None, FRAME, dataclasses.replace(FRAME, size=1 / 7)],
    ids=["as they are", "framed", "framed, one size for all"],
)
@pytest.mark.parametrize(
    "posterior",
    [
        Shared(root=np.eye(3) / 3, weighting="categorical"),
        Diagonal(precision=np.arange(1.0, 10).reshape(3, 3), prior=0.5),
        Kronecker(inputs=np.eye(3) / 3, outputs=np.eye(3) / 7, count=1 / 3, prior=0.1),
        Full(root=np.eye(9) / 3, classes=3, prior=2.0),
        Members(weights=np.arange(45.0).reshape(5, 3, 3)),
    ],
    ids=lambda posterior: type(posterior).__name__,
)
def test_every_structure_keeps_every_bit(tmp_path: Path, posterior, frame) -> None:
    if not isinstance(posterior, Members):  # members have no prior that a frame could be of
        posterior = dataclasses.replace(posterior, frame=frame)
    head = small_head(posterior=posterior)
    head.save(tmp_path / "head")
    again = Head.load(tmp_path / "head")
    assert type(again.posterior) is type(posterior)
    assert (again.frame is None) == (head.frame is None)
    assert not again.fitted_otherwise
    for field in dataclasses.fields(posterior):
        kept, got = getattr(posterior, field.name), getattr(again.posterior, field.name)
        if isinstance(kept, Frame):
            assert bits_of(kept) == bits_of(got)
        else:
            assert np.array_equal(kept, got)
    probes = np.random.default_rng(2).normal(size=(4, 2))
    assert again.variance(probes).tobytes() == head.variance(probes).tobytes()
    assert again.digest() == head.digest() != small_head().digest()


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
        {"mean": np.nextafter(small_head().mean, 9)},
        {"linearised_at": np.nextafter(small_head().linearised_at, 9)},
        {"posterior": Shared(root=np.nextafter(small_head().posterior.root, 9), frame=FRAME)},
        {"posterior": Shared(root=small_head().posterior.root, weighting="categorical", frame=FRAME)},
        {"posterior": Shared(root=small_head().posterior.root)},
        {"posterior": framed(centre=np.nextafter(FRAME.centre, 9))},
        {"posterior": framed(size=np.nextafter(FRAME.size, 9))},
        {"posterior": framed(size=np.nextafter(FRAME.size, [9, FRAME.size[1]]))},
        {"posterior": framed(size=np.nextafter(FRAME.size, [FRAME.size[0], 9]))},
        {"posterior": framed(size=FRAME.size[0])},
        {"posterior": framed(size=FRAME.size[::-1])},
        {"posterior": framed(constant=np.nextafter(FRAME.constant, 9))},
        {"likelihood": SIGMOID},
        {"temperature": 2.0},
        {"noise": 2.0},
    ],
)
def test_the_digest_sees_every_field(change) -> None:
    assert small_head(**change).digest() != small_head().digest()


def test_a_flip_in_the_header_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "head"
    head = small_head()
    head.save(path)
    whole = path.read_bytes()
    for position in range(8 + int.from_bytes(whole[:8], "little")):
        flipped = bytearray(whole)
        flipped[position] ^= (0x01, 0x20, 0xFF)[position % 3]
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
    assert len(whole) - body == 8 * (9 + 9 + 9 + 2 + 2)
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
    path.write_bytes(save({"weight": np.zeros((2, 2))}, {"raysal_head": '{"format": 1}'}))
    with pytest.raises(Damaged, match="1, expected 3"):
        Head.load(path)
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(Damaged, match="not a head"):
        Head.load(path)


OLDER = {
    "format": 2,
    "sha256": "b9b49d4c3633b6c836e7eaf87d4398cc761d2d56d0a325bb137fe58f4e8327b8",
    "record": '{"classes":["cat","dog"],"encoder":"eeeeeeee","fitted_on":10,"labels_seen":12,"ledger_seq":7,'
    '"link":"softmax","mass":37.5,"noise":1.0,"posterior":{"structure":"shared","weighting":"gaussian"},'
    '"prior":0.375,"temperature":1.0,"version":3}',
}
"""What the raysal that penalised the bias wrote of the head in `write_older`."""


def write_older(path: Path) -> None:
    """A file of format 2, as it was written: no frame, and `mass`, which the prior was in proportion to."""
    from safetensors.numpy import save

    arrays = {
        "mean": np.array([[1.0, -2.0, 0.5], [0.25, 0.0, -0.125]]),
        "linearised_at": np.array([[1.0, -2.0, 0.5], [0.25, 0.0, -0.25]]),
        "posterior.root": np.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.125, 0.0625]]),
    }
    path.write_bytes(save(arrays, {"raysal_head": json.dumps(OLDER)}))


def test_a_head_of_an_older_raysal_opens_as_it_was_and_the_next_round_fits_anew(tmp_path: Path) -> None:
    write_older(tmp_path / "older")
    head = Head.load(tmp_path / "older")
    assert head.digest() == OLDER["sha256"]
    assert (head.classes, head.prior, head.mass, head.frame) == (("cat", "dog"), 0.375, 37.5, None)
    x = np.array([[2.0, 1.0]])
    assert head.logits(x).tolist() == [[0.5, 0.375]]
    assert head.variance(x)[0, 0] == 4.75**2 + 1.125**2 + 0.0625**2  # ‖Rᵀ (2, 1, 1)‖²
    head.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "older").read_bytes()
    assert head.fitted_otherwise
    assert not small_head().fitted_otherwise
    config = UpdateConfig(mode="laplace")
    reason = reason_to_refit(head, 0, False, 1, config)
    assert reason == "an older raysal fitted the last head, with a penalty on the bias"
    assert reason_to_refit(small_head(), 0, False, 1, config) is None


def test_a_damaged_head_of_an_older_raysal_is_found(tmp_path: Path) -> None:
    write_older(tmp_path / "older")
    whole = (tmp_path / "older").read_bytes()
    (tmp_path / "older").write_bytes(whole.replace(b"37.5", b"37.6"))
    with pytest.raises(Damaged, match="does not match its sha256"):
        Head.load(tmp_path / "older")


ONE_SIZE = {
    "format": 3,
    "sha256": "207265e4f7b6ab9df7ec4ee9c460156a443bc71de21950f030c53ebb7ee675b2",
    "record": '{"classes":["cat","dog"],"encoder":"eeeeeeee","fitted_on":10,"labels_seen":12,"ledger_seq":7,'
    '"link":"softmax","noise":1.0,"posterior":{"constant":0.5,"size":2.0,"structure":"shared","weighting":"gaussian"},'
    '"prior":0.375,"temperature":1.0,"version":3}',
}
"""What the raysal whose frames had one size for all features wrote of the head in `write_one_size`."""


def write_one_size(path: Path) -> None:
    """A file as it was written before each feature had a size of its own: the size is a number of the record."""
    from safetensors.numpy import save

    arrays = {
        "mean": np.array([[1.0, -2.0, 0.5], [0.25, 0.0, -0.125]]),
        "linearised_at": np.array([[1.0, -2.0, 0.5], [0.25, 0.0, -0.25]]),
        "posterior.root": np.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.125, 0.0625]]),
        "posterior.centre": np.array([1.0, -3.0]),
    }
    path.write_bytes(save(arrays, {"raysal_head": json.dumps(ONE_SIZE)}))


def test_a_head_whose_frame_has_one_size_for_all_features_opens_as_it_was(tmp_path: Path) -> None:
    write_one_size(tmp_path / "one")
    head = Head.load(tmp_path / "one")
    assert head.digest() == ONE_SIZE["sha256"]
    assert head.frame is not None
    assert head.frame.size.tolist() == [2.0, 2.0]
    assert not head.fitted_otherwise
    x = np.array([[2.0, 1.0]])
    assert head.logits(x).tolist() == [[0.5, 0.375]]
    assert head.variance(x)[0, 0] == 2.125**2 + 2.0625**2 + 0.03125**2  # ‖Rᵀ (1/2, 4/2, 0.5)‖²
    head.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()


def test_a_damaged_head_whose_frame_has_one_size_is_found(tmp_path: Path) -> None:
    write_one_size(tmp_path / "one")
    whole = (tmp_path / "one").read_bytes()
    for number in (b"2.5", b"0.0", b"nan"):
        assert whole.count(b":2.0,") == 1
        (tmp_path / "one").write_bytes(whole.replace(b":2.0,", b":" + number + b","))
        with pytest.raises(Damaged):
            Head.load(tmp_path / "one")


@pytest.mark.parametrize("size", [[1.0, 0.0], [1.0, np.inf], [np.nan, 1.0], [1.0, 2.0, 3.0]])
def test_sizes_in_a_file_that_cannot_be_are_no_head(tmp_path: Path, size: list[float]) -> None:
    from safetensors.numpy import load, save

    small_head().save(tmp_path / "head")
    whole = (tmp_path / "head").read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    arrays = {**load(whole), "posterior.size": np.array(size)}
    (tmp_path / "head").write_bytes(save(arrays, header["__metadata__"]))
    with pytest.raises(Damaged, match="not a head"):
        Head.load(tmp_path / "head")


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
    head = Head.of_weights(np.full((1, 2), 3.0), np.array([-1.0]))
    assert (head.probabilities(np.full((4, 2), 1e5)) == 1).all()


def test_arrays_are_copied_and_read_only() -> None:
    mean = np.zeros((3, 3))
    head = small_head(mean=mean)
    mean[0, 0] = 7
    assert head.weight[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        head.weight[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mean": np.zeros((2, 3))}, "head.mean"),
        ({"mean": np.zeros(3)}, "head.mean"),
        ({"classes": ()}, "head.mean"),
        ({"classes": ("a", "b", "a")}, "head.classes"),
        ({"linearised_at": np.zeros((3, 2))}, "head.linearised_at"),
        ({"linearised_at": np.zeros((4, 3))}, "head.linearised_at"),
        ({"linearised_at": np.zeros((0, 3))}, "head.linearised_at"),
        ({"linearised_at": np.zeros(3)}, "head.linearised_at"),
        ({"mean": np.full((3, 3), np.nan)}, "head.mean"),
        ({"posterior": Shared(root=np.zeros((2, 2)))}, "head.posterior"),
        ({"posterior": Shared(root=np.full((3, 3), np.inf))}, "head.posterior.root"),
        ({"posterior": Diagonal(precision=np.ones((2, 3)), prior=1.0)}, "head.posterior"),
        ({"posterior": Members(weights=np.ones((4, 2, 3)))}, "head.posterior"),
        ({"posterior": framed(centre=np.zeros(3), size=1.0)}, "head.frame"),
        ({"temperature": 0.0}, "head.temperature"),
        ({"noise": -1.0}, "head.noise"),
        ({"prior": 0.0}, "head.prior"),
        ({"prior": float("nan")}, "head.prior"),
    ],
)
def test_a_head_that_cannot_be_is_refused(change, named: str) -> None:
    with pytest.raises(UserError, match=named):
        small_head(**change)
