"""A batch that does not fit into memory is halved, the job goes on, and a resumed one has the same bytes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from cli_tools import cli
from numpy.typing import NDArray
from PIL import Image
from pool_files import bytes_of, quarantined
from small_sources import pictures
from tiers import deep_unless
from tiny_models import Cramped

from raysal.embedding.custom import Torch
from raysal.embedding.encoding import Encoding
from raysal.embedding.job import embed
from raysal.errors import EncoderError, MemoryWarning
from raysal.pool import open_pool
from raysal.sources.memory import Memory

BATCH, FITS = 40, 5
"""40 items at once do not fit, nor do 20 and 10."""


def cramped(kind: str = "cramped") -> Torch:
    return Torch(arg=f"tiny_models:{kind}", size=8)


def in_batches(pool: Path) -> NDArray[np.float16]:
    """For each item of a pool, how many the model got with it; see `Cramped`."""
    return np.concatenate([chunk.vectors()[:, -1] for chunk in open_pool(pool).chunks])


def embedded(out: Path, encoder: Any, source: Any = None, **options: Any) -> list[str]:
    """Embed, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embed(source or pictures(), encoder, out, threads=1, **{"chunk_rows": 80, "batch_size": BATCH, **options})
    assert {warning.category for warning in caught} <= {MemoryWarning}
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "kind",
    deep_unless(["cramped", "cramped_machine"], ["cramped", "cramped_library", "cramped_machine", "cramped_numpy"]),
)
def test_the_pool_is_that_of_the_batch_that_fits(tmp_path: Path, kind: str) -> None:
    assert Cramped.ROOM == FITS
    said = embedded(tmp_path / "halved", cramped(kind))
    assert [line.split(";")[0] for line in said] == [
        "40 items at once do not fit into memory: they are encoded 20 at a time",
        "20 items at once do not fit into memory: they are encoded 10 at a time",
        "10 items at once do not fit into memory: they are encoded 5 at a time",
    ]
    assert embedded(tmp_path / "fits", cramped(kind), batch_size=FITS) == []
    assert bytes_of(tmp_path / "halved") == bytes_of(tmp_path / "fits")
    assert np.unique(in_batches(tmp_path / "halved")).tolist() == [FITS]


@pytest.mark.parametrize(("items", "chunk_rows"), deep_unless([(61, 24)], [(61, 24), (97, 40), (160, 7), (53, 48)]))
def test_a_resumed_job_cuts_as_one_without_a_stop(tmp_path: Path, items: int, chunk_rows: int) -> None:
    """The vectors hold the sizes of their batches: a job that remembered otherwise would have other bytes."""

    def stop(done: int, total: int) -> None:
        if done >= items - items % chunk_rows:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"source": pictures(items), "chunk_rows": chunk_rows, "batch_size": 16}
    embedded(tmp_path / "whole", cramped(), **options)
    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path / "pool", cramped(), report=stop, **options)
    embedded(tmp_path / "pool", cramped(), **options)
    assert bytes_of(tmp_path / "pool") == bytes_of(tmp_path / "whole")
    assert in_batches(tmp_path / "whole").max() <= FITS


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Takes texts; a batch takes memory for as many characters as its longest text has, for each of its texts."""

    room: int
    calls: list[tuple[int, int]]

    @property
    def modality(self) -> Literal["text"]:
        return "text"

    @property
    def dim(self) -> int:
        return 2

    def preprocessing(self) -> Mapping[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "0" * 64

    def prepare(self, key: str, payload: Any) -> str:
        return str(payload)

    def encode(self, prepared: Sequence[str]) -> NDArray[np.float32]:
        size = len(prepared), max(map(len, prepared))
        self.calls.append(size)
        if size[0] * size[1] > self.room:
            raise MemoryError
        return np.array([[len(text), 1] for text in prepared], np.float32)


def texts(lengths: Sequence[int]) -> Memory:
    return Memory(texts=["x" * length for length in lengths], keys=[f"t{n}" for n in range(len(lengths))])


def test_one_item_that_does_not_fit_is_quarantined_by_name_and_no_other(tmp_path: Path) -> None:
    lengths = [3] * 7 + [100] + [3] * 24
    reader = Reader(room=50, calls=[])
    embedded(tmp_path / "pool", reader, texts(lengths), batch_size=8, max_quarantine=0.5)
    lost = quarantined(tmp_path / "pool")
    assert list(lost) == ["t7"]
    assert lost["t7"] == ("encode", "MemoryError: one item alone does not fit (MemoryError)")
    assert open_pool(tmp_path / "pool").chunks[0].vectors()[:, 0].tolist() == [3.0] * 31
    assert reader.calls.count((8, 3)) == 3  # the batches after it are not cut: their texts are short


def test_what_did_not_fit_is_not_tried_again_where_items_are_as_large(tmp_path: Path) -> None:
    reader = Reader(room=50, calls=[])
    embedded(tmp_path / "pool", reader, texts([20] * 16 + [25] * 16 + [5] * 8), batch_size=8)
    assert [size for size in reader.calls if size[0] * size[1] > reader.room] == [(8, 20), (4, 20)]
    assert reader.calls[-1] == (8, 5)


@pytest.mark.parametrize(
    "wrap", [str, str.encode, lambda text: np.zeros(len(text), np.uint8), lambda text: (text, 16000)]
)
def test_small_items_are_not_cut_because_large_ones_did_not_fit(wrap: Any) -> None:
    """Whatever an encoder prepares: else a job that goes on would cut batches otherwise than one without a stop."""
    cut: list[int] = []

    class Sized(Reader):
        def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
            texts = [value[0] if isinstance(value, tuple) else value for value in prepared]
            cut.append(len(texts))
            if len(texts) * max(map(len, texts)) > self.room:
                raise MemoryError
            return np.ones((len(texts), 2), np.float32)

    encoding = Encoding(Sized(room=50, calls=[]), lambda size: None)
    encoding([wrap("x" * 20)] * 8)
    cut.clear()
    encoding([wrap("x" * 5)] * 8)
    assert cut == [8]


def test_an_encoder_that_has_no_room_for_any_item_stops_the_job(tmp_path: Path) -> None:
    reader = Reader(room=1, calls=[])
    with pytest.raises(EncoderError, match=r"does not fit.*use a smaller --size") as caught:
        embedded(tmp_path / "pool", reader, texts([20] * 16), batch_size=8)
    assert "fails on every item" in str(caught.value)


def test_the_command_says_it_and_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    ran = cli("embed", folder, "--out", tmp_path / "pool", "--encoder", "torch:tiny_models:cramped", "--json")
    assert ran.code == 0, ran
    said = ran.json["warnings"]
    assert [line.split(" ")[0] for line in said] == ["12", "6"]
