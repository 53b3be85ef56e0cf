"""Digests of what was read and of what was kept. They depend on neither the chunks nor the order of the work.

The digest of many items is the sum of their sha256, modulo 2^256. So a chunk's digest is a sum over its items, and the
pool's is the sum of its chunks', whatever the chunk size. An item's digest covers its id, so that a change of order
counts. `ALGORITHM` names this method in the records; another method needs another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysal.errors import BadItem
from raysal.store import digest_of
from raysal.types import Item

ALGORITHM = "sum-sha256-1"
"""The method of this module, by its name in a commit record."""
_MODULUS = 1 << 256
_AS_THEY_ARE = frozenset({str, int, float, bool, bytes, type(None)})
"""Types whose `repr` says all, and says it the same on every machine."""


def item_digest(id: int, item: Item) -> int:
    """The digest of one item as its source gave it: its id, key, payload and carried values.

    It costs about two microseconds, and the payload at the speed of sha256 (1 to 2 GB/s per core).

    Args:
        id: the item's id.
        item: with its payload. One that could not be read counts as unread, whatever the reason.

    Returns:
        A number of 256 bits.
    """
    kind, content = _payload(item.payload)
    carried = [
        (name, value if type(value) in _AS_THEY_ARE else _plain(value)) for name, value in sorted(item.carried.items())
    ]
    # ASCII has an escape for a line break, so that the first one ends the head. And unlike that of `repr`, its text
    # does not depend on which letters a version of Python can print.
    return _number(ascii((int(id), str(item.key), carried, kind)).encode() + b"\n" + content)


def unread_digest(first_id: int, keys: Sequence[str]) -> int:
    """The digest of a chunk that was given up: all its items count as unread."""
    return sum(item_digest(id, Item(key=key, payload=_UNREAD)) for id, key in enumerate(keys, first_id)) % _MODULUS


def rows_digest(vectors: NDArray[np.float16]) -> int:
    """The digest of vectors [n, d] as a pool holds them, whatever their order. Half a microsecond each, and sha256."""
    content = np.ascontiguousarray(vectors, "<f2").tobytes()
    step = 2 * vectors.shape[1]
    return sum(_number(content[start : start + step]) for start in range(0, len(content), step or 1)) % _MODULUS


def as_hex(total: int) -> str:
    """A digest, or the sum of some, as 64 hex digits."""
    return f"{total % _MODULUS:064x}"


def record_of(items: int, vectors: NDArray[np.float16]) -> dict[str, str]:
    """What a commit record says of a chunk's contents.

    Args:
        items: the sum of the digests of the chunk's items, the quarantined ones included.
        vectors: float16 [n, d], as the pool holds them.

    Returns:
        The name of the method, and both digests in hex.
    """
    return {"algorithm": ALGORITHM, "items": as_hex(items), "vectors": as_hex(rows_digest(vectors))}


def total_of(records: Iterable[Mapping[str, Any]], what: str) -> str | None:
    """The digest of a whole pool.

    Args:
        records: the commit records of all chunks.
        what: `items` or `vectors`.

    Returns:
        64 hex digits. None if a record has no digests (older pools), or if they are not all of one method.
    """
    found = [record.get("contents", {}) for record in records]
    methods = {contents.get("algorithm") for contents in found}
    if None in methods or len(methods) != 1:
        return None
    return as_hex(sum(int(contents[what], 16) for contents in found))


def maker_of(encoder: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> str:
    """Identifies what made the vectors of a pool.

    Args:
        encoder: what the manifest says of the encoder.
        records: the commit records of all chunks.

    Returns:
        The encoder's fingerprint where the encoder made the vectors, or where ready vectors have a named origin.
        Otherwise nobody knows which model made them, and it depends on the vectors themselves, as the pool holds them:
        the same ones, in any order and under any keys, are of one maker.
    """
    fingerprint = str(encoder["fingerprint"])
    vectors = total_of(records, "vectors") if encoder.get("space") == "data" else None
    return fingerprint if vectors is None else digest_of({"encoder": fingerprint, "vectors": vectors})


def _number(content: bytes) -> int:
    """The sha256 of some bytes as a number."""
    return int.from_bytes(sha256(content).digest(), "big")


_UNREAD = BadItem("", "unread")


def _payload(payload: Any) -> tuple[str, bytes]:
    """The kind of a payload, and its bytes."""
    if isinstance(payload, np.ndarray) and not payload.dtype.hasobject:
        return _kind_of_array(payload.dtype, payload.shape), payload.tobytes()
    if isinstance(payload, bytes):
        return "bytes", payload
    if isinstance(payload, str):
        return "text", payload.encode("utf-8", "surrogatepass")
    if isinstance(payload, BadItem):
        return "unread", b""
    try:
        values = np.asarray(payload)
    except (TypeError, ValueError):  # rows of several lengths
        values = np.empty(0, object)
    return ("other", ascii(payload).encode()) if values.dtype.hasobject else _payload(values)


@lru_cache(maxsize=256)
def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """The type and shape of an array as text; to make it takes longer than to hash a short vector."""
    return f"array {dtype.str} {shape}"


def _plain(value: Any) -> Any:
    """A carried value as something whose `repr` says all of it."""
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return [(_plain(name), _plain(inner)) for name, inner in value.items()]
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
