"""What a run that searches differs by from other runs, and how it begins: with a few examples of what is looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysal.config import RunConfig, parse_config
from raysal.errors import ConfigError
from raysal.rounds.arms import begun_pool
from raysal.rounds.configs import control_config
from raysal.rounds.directory import CONTROL, RunDir
from raysal.rounds.preflight import check_spelling
from raysal.rounds.session import Session
from raysal.types import Report

POSITIVE, NEGATIVE = "positive", "negative"
"""What the examples and all else are called where nobody says otherwise."""
SEARCH: Mapping[str, Any] = {
    "select": "search",
    "start": "search",
    "update": {"background": 500},
    "rounds": {"count": 1000, "k": 25, "holdout": 0.1, "tests": 0.2},
}
"""The fields of a run's config that a search sets, beside its target."""


def search_fields(
    target: Sequence[str], k: int | None = None, *, rest: str = NEGATIVE, **fields: Any
) -> dict[str, Any]:
    """The fields of a run that searches, over its defaults.

    Args:
        target: the classes that are looked for.
        k: items in a batch.
        rest: the class of all else, which the background is of.
        fields: other fields of `RunConfig`, which replace those of a search; of a table, those that are given.

    Returns:
        The fields.
    """
    merged: dict[str, Any] = {"target": list(target), **SEARCH}
    merged["update"] = {**merged["update"], "classes": [rest]}
    for name, value in fields.items():
        merged[name] = _merged(merged.get(name), value)
    if k is not None:
        merged["rounds"] = {**merged["rounds"], "k": k}
    return merged


def search_config(
    pool: str | Path,
    out: Path,
    *,
    target: Sequence[str] | None = None,
    rest: str | None = None,
    k: int | None = None,
    **fields: Any,
) -> RunConfig:
    """The config of a search: that of the run that is there, with what is named now; or else of a new one.

    What a search sets may differ in another version of raysal, so a run goes by its own.

    Args:
        pool: the pool directory.
        out: the run directory, there or not yet.
        target: the classes that are looked for; `positive`, or those of the run.
        rest: the class of all else; `negative`, or that of the run.
        k: items in a batch; 25, or those of the run.
        fields: other fields of `RunConfig`; of a table, those that are given.

    Returns:
        The config.

    Raises:
        ConfigError: a field is unknown or out of range; or the run there looks for nothing.
    """
    if (stored := RunDir(out).config()) is None:
        names = (POSITIVE,) if target is None else target
        own = {"fleet": {"backend": "local"}, **fields}
        return parse_config({"pool": pool, **search_fields(names, k, rest=NEGATIVE if rest is None else rest, **own)})
    if not stored.target and target is None:
        raise ConfigError("target", f"{out} looks for no class", "search in another directory")
    merged = {**stored.model_dump(mode="json"), "pool": pool}
    given: dict[str, Any] = dict(fields)
    if target is not None:
        given["target"] = list(target)
    if rest is not None:
        given["update"] = {**given.get("update", {}), "classes": [rest]}
    if k is not None:
        given["rounds"] = {**given.get("rounds", {}), "k": k}
    return parse_config(merged | {name: _merged(merged.get(name), value) for name, value in given.items()})


def _merged(own: Any, value: Any) -> Any:
    """The value; of a table, the own one with those fields that the value has."""
    return {**own, **value} if isinstance(own, Mapping) and isinstance(value, Mapping) else value


def rest_of(config: RunConfig) -> str:
    """The class of what is not looked for, as a config says: the only other one that it names, or else the usual one.

    Args:
        config: of a run that searches.

    Returns:
        Its name.
    """
    others = [name for name in config.update.classes if name not in config.target]
    return others[0] if len(others) == 1 else NEGATIVE


def classes_named(examples: Sequence[str], target: Sequence[str]) -> Sequence[str] | dict[str, str]:
    """The examples of a command line, with their classes where several are looked for: each is `CLASS=KEY` then.

    Args:
        examples: the texts.
        target: the classes that are looked for.

    Returns:
        The keys; {key: class} where there are several classes.

    Raises:
        ConfigError: an example names no class of several, or a key has two.
    """
    if len(target) == 1:
        return examples
    named: dict[str, str] = {}
    for text in examples:
        found = [name for name in target if text.startswith(f"{name}=")]
        if not found:
            raise ConfigError("--example", f"{text!r} may be {' or '.join(target)}", f"write {target[0]}={text}")
        name = max(found, key=len)
        key = text.removeprefix(f"{name}=")
        if named.setdefault(key, name) != name:
            raise ConfigError("--example", f"{key!r} is {named[key]}, and {name}", "name it once")
    return named


def labels_of_examples(
    examples: Sequence[str] | Mapping[str, str], others: Sequence[str], target: Sequence[str], rest: str
) -> dict[str, str]:
    """The labels that a search begins with, by key.

    Args:
        examples: keys of what is looked for, or {key: class} where these are several classes.
        others: keys of what is not.
        target: the classes that are looked for.
        rest: the class of `others`.

    Returns:
        {key: class}.

    Raises:
        ConfigError: a key is an example and is not; a class is not looked for, or no label is spelled like it; or keys
            without a class are of several.
    """
    if isinstance(examples, str) or isinstance(others, str):
        raise ConfigError("examples", "one text is not a list of keys", 'pass a list: ["a.jpg"]')
    check_spelling("target", target)
    check_spelling("rest", [rest])
    if rest in target:
        raise ConfigError("rest", f"{rest!r} is looked for", "give what is not looked for another name")
    if isinstance(examples, Mapping):
        named = dict(examples)
        if strange := sorted(set(named.values()) - set(target)):
            raise ConfigError("examples", f"{strange[0]!r} is not looked for", f"the target is {', '.join(target)}")
    elif len(target) == 1 or not examples:
        named = dict.fromkeys(examples, *target[:1])
    else:
        raise ConfigError("examples", f"may be {' or '.join(target)}", "pass {key: class}")
    if both := sorted(set(named) & set(others)):
        raise ConfigError("examples", f"{both[0]!r} is an example, and is not", "name it once")
    return named | dict.fromkeys(others, rest)


def begin_search(config: RunConfig, out: Path, labels: Mapping[str, str], report: Report) -> None:
    """Begin a run that searches, or go on with it, and tell its examples. The pool is embedded if need be.

    Args:
        config: the config of the run.
        out: the run directory.
        labels: of the examples, by key. To tell them again changes nothing.
        report: called with the stage, what of it is done, and its total.

    Raises:
        LabelError: the pool does not have an example. No run directory is left where none was.
        ConfigError, RunError, PoolError: as their names say.
    """
    with RunDir(out).undone_if_refused():
        pool, _ = begun_pool(config, out, report)
        arms = [(out, config)]
        if config.rounds.control:  # the arm that picks at random begins with the same examples
            arms.append((out / CONTROL, control_config(config)))
        for place, own in arms:
            with Session(place, pool, config=own) as session:
                session.tell(labels, examples=True)
