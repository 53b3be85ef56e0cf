"""Why keys are not those of items: what a pool lost, and which keys are spelled alike. Imported for an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysal.messages import brief, some_names
from raysal.pool.quarantine import lost_among
from raysal.types import OWNER_KEY

NAMED = 5
"""Keys that an error names."""
LIKE = 0.8
"""The share of letters in common from which a key is suggested for another one."""
COMPARED = 2000
"""Keys of a chunk that are compared letter by letter with one that was asked for; more are not worth the time."""
PLACE, ENDING = r"^.*[/\\]", r"\.[^.]*$"
"""The folders and the suffix of a file name."""


def words_of_absent(pool: Any, absent: Sequence[str], places: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The problem and the fix of keys that a pool does not have. One pass over its keys and what it lost.

    Args:
        pool: a `Pool`, of items or of owners; that module imports this one.
        absent: keys that are not those of its items, at least one.
        places: {key: where it was read}, for people.

    Returns:
        The problem, which names the first keys and says why they are absent where that can be told; and the fix.
    """
    first = [str(key) for key in absent[:NAMED]]
    lost = lost_among(pool.path, first)
    other = _of_the_other_kind(pool, [key for key in first if key not in lost])
    near = _spelled_alike([key for key in first if key not in lost and key not in other], pool.items(["key"]))
    named = []
    for key in first:
        why = ""
        if key in lost:
            stage, error = lost[key]
            why = f" (quarantined at {stage}: {brief(ValueError(error))})"
        elif key in other:
            why = f" ({other[key]})"
        elif key in near:
            why = f" (did you mean {pasted(near[key])}?)"
        named.append(f"{key!r}{why}" if places is None else f"{places[key]}: {key!r}{why}")
    are = "key is" if len(absent) == 1 else "keys are"
    if places is None:
        some = ", ".join(named) + (", ..." if len(absent) > NAMED else "")
        problem = f"{len(absent)} {are} not in the pool: {some}"
    else:
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        problem = f"{len(absent)} {are} not in the pool ({'; '.join(named)}{more})"
    return problem, _fix(pool, bool(lost), len(lost) < len(first))


def _of_the_other_kind(pool: Any, keys: Sequence[str]) -> dict[str, str]:
    """Which of some keys are of parts where the pool's items are owners, or of owners where they are parts.

    Args:
        pool: a `Pool`, of items or of owners; that module imports this one.
        keys: that are none of its items.

    Returns:
        {key: what it is of, for people}.
    """
    if pool.stored is not pool:
        return dict.fromkeys(pool.stored.ids_there(keys), "the key of a part, not of an owner")
    wanted = [key for key in keys if _is_plain(key)]
    if not wanted or not any("parts" in record for record in pool.records):
        return {}
    parts: dict[str, list[str]] = {}
    for table in pool.items(["key", OWNER_KEY]):
        rows = table.filter(pc.is_in(table[OWNER_KEY].cast(pa.string()), value_set=pa.array(wanted, pa.string())))
        for key, owner in zip(rows["key"].to_pylist(), rows[OWNER_KEY].to_pylist(), strict=True):
            parts.setdefault(owner, []).append(key)
    return {owner: f"the key of an owner; its parts: {some_names(own)}" for owner, own in parts.items()}


def pasted(key: str) -> str:
    """A key in quotes as shells take them, for who copies it; with escapes where it would not show."""
    return "'" + key.replace("'", "'\"'\"'") + "'" if key.isprintable() else repr(key)


def _fix(pool: Any, lost: bool, unknown: bool) -> str:
    """Where keys that can be used are listed, and what to do about those that were lost."""
    fixes = []
    if lost:
        fixes.append(
            f"mend what could not be embedded and embed it into another pool, or leave it out "
            f"(`raysal pool quarantine {pool.path}` lists it)"
        )
    if unknown:
        which = "keys" if pool.stored is pool else "keys of owners (the column owner_key)"
        fixes.append(f"{which} are listed by `raysal pool export {pool.path} -o keys.csv`")
    return "; ".join(fixes)


def _spelled_alike(wanted: Sequence[str], keys: Iterable[pa.Table]) -> dict[str, str]:
    """For each key the one of the pool that it may stand for: the same file name elsewhere, or a slip of the hand.

    Numbers are never taken for slips: another number names another item.

    Args:
        wanted: keys that are none of the pool's.
        keys: those of the pool, chunk by chunk.

    Returns:
        {key: the one that is most like it}, without those that none is like.
    """
    wanted = [key for key in wanted if _is_plain(key)]
    if not wanted:
        return {}
    best: dict[str, tuple[float, str]] = {}
    names = pc.unique(_names(pa.array(wanted, pa.string())))
    for table in keys:
        column = table["key"].combine_chunks().cast(pa.string())
        same = column.filter(pc.is_in(_names(column), value_set=names)).to_pylist()
        for key in wanted:
            half = len(key) // 2  # one slip leaves one half as it was
            alike = column.slice(0, 0)
            if half > 1:
                begins, ends = pc.starts_with(column, key[:half]), pc.ends_with(column, key[half:])
                alike = column.filter(pc.or_(begins, ends)).slice(0, COMPARED)
            for other in dict.fromkeys([*same, *alike.to_pylist()]):
                score = _likeness(key, other)
                if score > max(LIKE, best.get(key, (0.0, ""))[0]):
                    best[key] = (score, other)
    return {key: other for key, (_, other) in best.items()}


def _names(keys: pa.Array) -> pa.Array:
    """File names without folders and suffix, in small letters."""
    bare = pc.replace_substring_regex(keys, pattern=PLACE, replacement="")
    return pc.utf8_lower(pc.replace_substring_regex(bare, pattern=ENDING, replacement=""))


def _likeness(key: str, other: str) -> float:
    """From 0 to 1; above 1 where both are one file name in other folders or with another suffix."""
    name, of_other = (re.sub(ENDING, "", re.sub(PLACE, "", one)).lower() for one in (key, other))
    if name == of_other:
        return 1 + SequenceMatcher(None, key, other).ratio()
    if _numbers(name) != _numbers(of_other):
        return 0.0
    return SequenceMatcher(None, key.lower(), other.lower()).ratio()


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]+", name)]


def _is_plain(key: str) -> bool:
    """Whether Arrow can hold the key."""
    return not any("\ud800" <= letter <= "\udfff" for letter in key)
