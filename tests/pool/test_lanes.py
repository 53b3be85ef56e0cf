"""Digests of many rows at once are those of each row, computed slowly in Python's integers."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysal.pool import lanes

MASK = 2**64 - 1


def stream(name: str, count: int) -> list[int]:
    data = hashlib.shake_256(f"raysal lanes 1 {name}".encode()).digest(8 * count)
    return [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(count)]


COEFFICIENTS = [number >> 51 for number in stream("coefficients", 256 * 8)]
START, ID, NUMBER, LOW, HIGH = (
    [number | 1 for number in stream("multipliers", 20)][4 * i : 4 * i + 4] for i in range(5)
)


def mixed(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


class Slow:
    """One row's state."""

    def __init__(self, id: int | None = None) -> None:
        self.words = [
            (start + (0 if id is None else id * factor)) & MASK for start, factor in zip(START, ID, strict=True)
        ]

    def absorb(self, content: bytes, number: int) -> Slow:
        content += bytes(-len(content) % 4)
        numbers = [int.from_bytes(content[i : i + 4], "little", signed=True) for i in range(0, len(content), 4)]
        self.words = [word + number * factor for word, factor in zip(self.words, NUMBER, strict=True)]
        for start in range(0, max(len(numbers), 1), 256):
            block = numbers[start : start + 256]
            sums = [sum(x * COEFFICIENTS[8 * i + lane] for i, x in enumerate(block)) for lane in range(8)]
            self.words = [mixed((self.words[j] + sums[j] * LOW[j] + sums[4 + j] * HIGH[j]) & MASK) for j in range(4)]
        return self

    def absorb_text(self, text: bytes, number: int) -> Slow:
        return self.absorb(text, number + len(text) * ID[0])

    def absorb_state(self, other: Slow, number: int) -> Slow:
        parts = zip(self.words, other.words, LOW, NUMBER, strict=True)
        self.words = [mixed((word + there * low + number * factor) & MASK) for word, there, low, factor in parts]
        return self

    @property
    def digest(self) -> int:
        return sum(word << (64 * place) for place, word in enumerate(self.words))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 6, 1020, 1024, 1026, 2048, 5000])
@pytest.mark.parametrize("n", [1, 2, 300])
def test_bytes_are_absorbed_as_in_the_slow_way(size: int, n: int) -> None:
    content = np.random.default_rng(size).integers(0, 256, (n, size), dtype=np.uint8)
    content[0] = 255
    states = lanes.begin(n, 2**40)
    lanes.absorb(states, content, 2**64 - 3)
    lanes.absorb_states(states, states.copy(), 17)
    slow = []
    for row in range(min(n, 3)):
        both = [Slow(2**40 + row).absorb(content[row].tobytes(), 2**64 - 3) for _ in range(2)]
        slow.append(both[0].absorb_state(both[1], 17))
    assert states[:3].tolist() == [one.words for one in slow]
    assert lanes.total(states[:3]) == sum(one.digest for one in slow)


TEXTS = ["", "a", "ab", "abc\0", "ä", "k" * 31, "k" * 32, "k" * 33, "x" * 900, "x" * 1024, "x" * 1025, "y" * 4000, "b"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("texts", [TEXTS[:5], TEXTS, TEXTS * 30], ids=["short", "all", "many"])
def test_texts_are_absorbed_as_in_the_slow_way(kind: Any, texts: list[str]) -> None:
    column = pa.array(["before", *[None if text == "ab" else text for text in texts], "behind"]).cast(kind)[1:-1]
    numbers = np.arange(len(texts), dtype=np.uint64)
    states = lanes.begin(len(texts))
    lanes.absorb_texts(states, column, numbers)
    content = ["" if text == "ab" else text for text in texts]
    slow = [Slow().absorb_text(text.encode(), row) for row, text in enumerate(content)]
    assert states.tolist() == [one.words for one in slow]
    hashes = [Slow().absorb_text(text.encode(), 0).words[0] for text in content]
    assert lanes.text_hashes(column).view(np.uint64).tolist() == hashes
    words = [Slow().absorb_text(text.encode(), 0).words for text in content]
    wide = [[(one[j] + one[2 + j] * LOW[j]) & MASK for j in (0, 1)] for one in words]
    assert lanes.text_hashes_128(column).tolist() == wide


def test_no_texts() -> None:
    for column in (pa.array([], pa.string()), pa.array(["a"])[:0], pa.array([""]), pa.array(["", ""])[1:]):
        assert len(lanes.text_hashes(column)) == len(column)


@pytest.mark.parametrize("threads", [1, 3])
def test_sums_are_exact_at_the_largest_numbers(threads: int) -> None:
    """A block of the largest words, whose sums are just below 2^53, with any number of BLAS threads."""
    from threadpoolctl import threadpool_limits

    for word in (-(2**31), 2**31 - 1):
        content = np.full((500, 256), word, np.int32).view(np.uint8)
        states = lanes.begin(500)
        with threadpool_limits(threads):
            lanes.absorb(states, content, 0)
        assert {tuple(row) for row in states.tolist()} == {tuple(Slow().absorb(content[0].tobytes(), 0).words)}
    assert max(map(sum, zip(*[COEFFICIENTS[8 * i : 8 * i + 8] for i in range(256)], strict=True))) * 2**31 < 2**53


def test_the_method_is_the_one_that_its_name_says() -> None:
    states = lanes.begin(2, 5)
    lanes.absorb_texts(states, pa.array(["k", "ä"]), 1)
    lanes.absorb(states, np.arange(12, dtype=np.uint8).reshape(2, 6), 9)
    assert f"{lanes.total(states) % 2**256:064x}" == "26b22221922696e1e8fea27e93b393372bbca03ff10064ea05dffe6c3b355913"


def test_every_bit_counts_in_every_word() -> None:
    """Flip one bit of a row: about half of the bits of each word change, whichever bit it was."""
    content = np.random.default_rng(0).integers(0, 256, (1, 512), dtype=np.uint8).repeat(4096, 0)
    content[np.arange(4096), np.arange(4096) // 8] ^= np.uint8(1) << (np.arange(4096) % 8).astype(np.uint8)
    states = lanes.begin(4097)
    lanes.absorb(states, np.concatenate([content, content[:1] ^ np.r_[np.uint8(1), np.zeros(511, np.uint8)]]), 0)
    changed = states[:-1] ^ states[-1]  # the last row is the unchanged one
    counts = np.array([[bin(word).count("1") for word in row] for row in changed.tolist()])
    assert counts.min() > 8
    assert np.abs(counts.mean(0) - 32).max() < 0.5


def test_long_texts_are_copied_once_and_not_for_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array(["x" * (5000 * row) for row in range(1, 60)])
    copied: list[int] = []
    plain = np.concatenate

    def counted(parts: Any, *args: Any, **options: Any) -> Any:
        copied.append(sum(len(part) for part in parts))
        return plain(parts, *args, **options)

    monkeypatch.setattr(np, "concatenate", counted)
    lanes.text_hashes(texts)
    assert sum(copied) < 2 * sum(map(len, texts.to_pylist()))
