"""Digests of what was read and of what was kept. They depend on neither the chunks nor the order of the work.

The digest of many items is the sum of theirs, modulo 2^256. So a chunk's digest is a sum over its items, and the pool's
is the sum of its chunks', whatever the chunk size. An item's digest covers its id, so that a change of order counts.

There are two methods, and a commit record names its own. `ALGORITHM`: an item's digest is a sha256. `BY_ROWS`, of ready
vectors: it is computed for many items at once (`raysal.pool.lanes`). A pool that was begun by one method is finished by
it. Another method needs another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from struct import pack
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysal.arrow_values import is_present, numbers_of, text_array
from raysal.errors import BadItem
from raysal.pool import lanes
from raysal.store import digest_of
from raysal.types import Columns, Cut, Item, Pixels

ALGORITHM = "sum-sha256-1"
"""The method for items, by its name in a commit record."""
BY_ROWS = "sum-lanes-1"
"""The method for ready vectors."""
METHODS = (ALGORITHM, BY_ROWS)
_ROWS = 2048
"""Rows whose digests are computed at once: their states fit the cache."""
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


def columns_digest(first_id: int, columns: Columns) -> tuple[int, NDArray[np.uint64]]:
    """The sum of the digests of consecutive items, by the method `BY_ROWS`.

    Each covers what `item_digest` covers: the id, the key, the type and bytes of the payload, and the carried values by
    what they are, whatever container held them.

    Args:
        first_id: id of the first item.
        columns: n items.

    Returns:
        The sum, whose remainder modulo 2^256 counts; and the digests of the vectors by themselves [n, 4], of which
        those of float16 are what `rows_digest` adds up.
    """
    keys = text_array(columns.keys)
    vectors, odd = columns.vectors, {row: _payload(payload) for row, payload in columns.odd.items()}
    carried = [(name, *_coded(columns.carried[name])) for name in sorted(columns.carried)]
    kind = lanes.number_of(_kind_of_array(vectors.dtype, vectors.shape[1:]))
    vectors_too = np.empty((len(keys), 4), np.uint64)
    result = 0
    for start in range(0, len(keys), _ROWS):
        rows = slice(start, min(start + _ROWS, len(keys)))
        states = lanes.begin(rows.stop - start, first_id + start)
        lanes.absorb_texts(states, keys[rows], 0)
        others = [row for row in odd if rows.start <= row < rows.stop]
        before = states[np.array(others, np.int64) - start]
        vectors_too[rows] = _row_states(vectors[rows])
        lanes.absorb_states(states, vectors_too[rows], kind)
        for row, state in zip(others, before, strict=True):
            name, content = odd[row]
            lanes.absorb_texts(state[None], pa.array([content]), lanes.number_of(name))
            states[row - start] = state
        for name, codes, values in carried:
            lanes.absorb_texts(states, values[rows], codes[rows] + np.uint64(lanes.number_of(name)))
        result += lanes.total(states)
    return result, vectors_too


def unread_digest(first_id: int, keys: Sequence[str], algorithm: str = ALGORITHM) -> int:
    """The digest of a chunk that was given up: all its items count as unread."""
    if algorithm == BY_ROWS:
        unread = dict.fromkeys(range(len(keys)), _UNREAD)
        return columns_digest(first_id, Columns(keys=keys, vectors=np.empty((len(keys), 0), np.float16), odd=unread))[0]
    return sum(item_digest(id, Item(key=key, payload=_UNREAD)) for id, key in enumerate(keys, first_id)) % _MODULUS


def rows_digest(vectors: NDArray[np.float16], algorithm: str = ALGORITHM) -> int:
    """The digest of vectors [n, d] as a pool holds them, whatever their order."""
    if algorithm == BY_ROWS:
        parts = (vectors[start : start + _ROWS] for start in range(0, len(vectors), _ROWS))
        return sum(lanes.total(_row_states(part)) for part in parts) % _MODULUS
    content = np.ascontiguousarray(vectors, "<f2").tobytes()
    step = 2 * vectors.shape[1]
    return sum(_number(content[start : start + step]) for start in range(0, len(content), step or 1)) % _MODULUS


def _row_states(vectors: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    """The digests of vectors by themselves."""
    states = lanes.begin(len(vectors))
    lanes.absorb(states, np.ascontiguousarray(vectors).view(np.uint8), vectors.shape[1])
    return states


def as_hex(total: int) -> str:
    """A digest, or the sum of some, as 64 hex digits."""
    return f"{total % _MODULUS:064x}"


def record_of(items: int, vectors: NDArray[np.float16] | int, algorithm: str = ALGORITHM) -> dict[str, str]:
    """What a commit record says of a chunk's contents.

    Args:
        items: the sum of the digests of the chunk's items, the quarantined ones included.
        vectors: float16 [n, d], as the pool holds them; or their digest, if it is known.
        algorithm: the method by which the items' digests were computed.

    Returns:
        The name of the method, and both digests in hex.
    """
    held = vectors if isinstance(vectors, int) else rows_digest(vectors, algorithm)
    return {"algorithm": algorithm, "items": as_hex(items), "vectors": as_hex(held)}


def algorithm_of(records: Iterable[Mapping[str, Any]], default: str) -> str:
    """The method by which a pool was begun; another one for a pool without records, or without digests."""
    found = (record.get("contents", {}).get("algorithm") for record in records)
    return next((name for name in found if name in METHODS), default)


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
    if isinstance(payload, Pixels):
        kind, content = _payload(payload.values)
        # Pools of arrays of 8 bits without names know them as bare arrays.
        bare = payload.values.dtype == np.uint8 and payload.values.shape[2:] in ((), (1,), (3,))
        kind = kind if bare else f"{kind} of {payload.stated}"
        return f"{kind} named {payload.channels}" if len(payload.channels) > 1 else kind, content
    if isinstance(payload, Cut):
        kind, content = _payload(payload.whole.payload)
        return f"{payload.box} of {kind}", content
    try:
        values = np.asarray(payload)
    except (TypeError, ValueError):  # rows of several lengths
        values = np.empty(0, object)
    return ("other", ascii(payload).encode()) if values.dtype.hasobject else _payload(values)


@lru_cache(maxsize=256)
def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """The type and shape of an array as text; to make it takes longer than to hash a short vector."""
    return f"array {dtype.str} {shape}"


_CODES = {
    name: np.uint64(lanes.number_of(name)) for name in ("none", "text", "whole", "float", "truth", "bytes", "other")
}
"""{what a carried value is: the number that says so}."""


def _coded(values: Sequence[Any] | pa.Array) -> tuple[NDArray[np.uint64], pa.Array]:
    """What each carried value is, as a number [n], and its content as bytes [n]."""
    import pyarrow.compute as pc  # a tenth of the time of `raysal pool info`

    if not isinstance(values, pa.Array):
        codes, contents = zip(*map(_code, values), strict=True) if len(values) else ((), ())
        return np.array([_CODES[code] for code in codes], np.uint64), pa.array(contents, pa.binary())
    kind, types = values.type, pa.types
    if types.is_string(kind):
        code, found = "text", values
    elif types.is_int64(kind):
        code, found = "whole", pc.cast(values, pa.string())
    elif types.is_float64(kind):
        numbers = np.ascontiguousarray(numbers_of(pc.fill_null(values, 0.0)), "<f8")
        borders = np.arange(len(values) + 1, dtype=np.int32) * 8
        code = "float"
        found = pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(borders), pa.py_buffer(numbers)])
    else:
        return _coded(values.to_pylist())
    missing = ~is_present(values)
    if missing.any():
        found = pc.if_else(values.is_valid(), found, pa.scalar("", found.type) if code != "float" else b"")
    return np.where(missing, _CODES["none"], _CODES[code]), found


def _code(value: Any) -> tuple[str, bytes]:
    """What a carried value is, and its content."""
    value = value.item() if isinstance(value, np.generic) else value
    match value:
        case None:
            return "none", b""
        case str():
            return "text", value.encode("utf-8", "surrogatepass")
        case bool():
            return "truth", ascii(value).encode()
        case int():
            return "whole", ascii(value).encode()
        case float():
            return "float", pack("<d", value)
        case bytes():
            return "bytes", value
    return "other", ascii(_plain(value)).encode()


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
