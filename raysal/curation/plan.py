"""A plan of curation: steps in order, from a config or from Python, and what each is known by.

    [[steps]]
    name = "near"
    threshold = 0.95

A step is a name of `raysal.curation.registry` with the fields of its class. The order counts: each step is given what
those before it left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from pydantic import Field, ValidationError

from raysal.config import Choice, Named, choice
from raysal.config_problems import first_problem, read_toml
from raysal.config_sections import Section
from raysal.curation.base import Step
from raysal.curation.registry import STEPS
from raysal.errors import ConfigError
from raysal.paths import from_config, path_or_url, with_home
from raysal.pool import Pool
from raysal.registry import meaning_of

AnyStep = str | Mapping[str, Any] | Choice | Step
"""A step: its name, a mapping with `name` and fields, or an instance."""


class CurateConfig(Section):
    """A plan as a config."""

    seed: int = Field(default=0, ge=0)
    """The seed of all randomness."""
    steps: tuple[Choice, ...] = Field(min_length=1)
    """What is done, in order."""


class PlannedStep(NamedTuple):
    """A step of a plan."""

    label: str
    """what the plan calls it: its name, and a number from the second one of that name on, as `near_2`"""
    name: str
    """in the registry; of a class that it does not have, `module:Class`"""
    step: Step

    @property
    def fields(self) -> dict[str, Any]:
        """Its config, as JSON."""
        return fields_of(self.step, self.label)

    @property
    def said(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        fields = {one.name: one for one in dataclasses.fields(cast("Any", self.step))}
        usual = {
            name: one.default_factory() if callable(one.default_factory) else one.default
            for name, one in fields.items()
        }
        return {name: value for name, value in self.fields.items() if getattr(self.step, name) != usual[name]}

    def naming_errors(self) -> contextlib.AbstractContextManager[None]:
        """Within it, errors about a field say of which step of the plan it is."""
        return fields_at(self.label, self.name, type(self.step))

    def record(self, pool: Pool) -> dict[str, Any]:
        """What decides its result, beside the items of the pool that it is given, as JSON."""
        read = dict(self.step.inputs(pool))
        return {"name": self.name, "version": self.step.version, "fields": self.fields, "inputs": read}


def plan_of(steps: AnyStep | Iterable[AnyStep], place: str = "steps") -> tuple[PlannedStep, ...]:
    """Build the steps of a plan.

    Args:
        steps: in order; or a single one.
        place: the dotted path in a config, for errors.

    Returns:
        The steps.

    Raises:
        UnknownName: there is no step of that name.
        ConfigError: there is no step, or a field of one is unknown, missing or of the wrong type.
    """
    alone = isinstance(steps, str | Mapping | Choice | Step)
    given: Sequence[Any] = [steps] if alone else list(steps)  # type: ignore[arg-type]
    if not given:
        raise ConfigError(place, "there is no step", f"name one: {', '.join(STEPS)}")
    return tuple(_labelled(_built(step, place if alone else f"{place}.{at}") for at, step in enumerate(given)))


def check_plan(plan: Sequence[PlannedStep], pool: Pool) -> None:
    """Let each step look at a pool before anything runs; errors name the step.

    Args:
        plan: the steps.
        pool: the items.

    Raises:
        ConfigError: a step cannot work on this pool.
    """
    for at, planned in enumerate(plan):
        with planned.naming_errors():
            planned.step.check(pool)
            if at == 0:
                planned.step.check_first(pool)


def _built(step: AnyStep, place: str) -> Named[Step]:
    if isinstance(step, Step):
        return Named(STEPS.name_of(step) or f"{type(step).__module__}:{type(step).__qualname__}", step)
    if not isinstance(step, str | Mapping | Choice):
        raise ConfigError(place, f"{step!r} is no step", 'give a name, as "near", or a mapping with `name` and fields')
    named_step = choice(step, place)
    with fields_at(place, named_step.name, STEPS.get(named_step.name.partition(":")[0])):
        named = named_step.build_named(place, STEPS)
    return Named(STEPS.name_of(named.part) or named.name, named.part)


def _labelled(steps: Iterable[Named[Step]]) -> Iterator[PlannedStep]:
    seen: Counter[str] = Counter()
    for name, step in ((named.name, named.part) for named in steps):
        seen[label := name.rpartition(":")[2].lower()] += 1
        yield PlannedStep(f"{label}_{seen[label]}" if seen[label] > 1 else label, name, step)


@contextlib.contextmanager
def fields_at(place: str, name: str, part: type[Step] | None) -> Iterator[None]:
    """Let an error of a step that names one of its fields say which step of the plan that is.

    Args:
        place: the dotted path of the step, or its label.
        name: of the step.
        part: its class.

    Raises:
        ConfigError: what was raised within, of `place.field`.
    """
    try:
        yield
    except ConfigError as error:
        first, _, rest = error.where.partition(".")
        if first == name:
            where = f"{place}.{rest}" if rest else place
        elif part is not None and first in {one.name for one in dataclasses.fields(cast("Any", part))}:
            where = f"{place}.{error.where}"
        else:
            raise
        raise ConfigError(where, error.problem, error.fix) from error.__cause__


def load_plan(path: Path, say: Callable[[str], None] | None = None) -> CurateConfig:
    """Read a plan from a TOML file. A relative path in it may start from the folder of the file.

    Args:
        path: the file.
        say: is called with a line for each path that starts from the folder of the file.

    Returns:
        The plan.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML, a field is wrong, or a path may be two places.
    """
    return parse_plan(read_toml(path), path.parent, say)


def parse_plan(
    values: Mapping[str, Any], folder: Path | None = None, say: Callable[[str], None] | None = None
) -> CurateConfig:
    """Make a plan from plain values.

    Args:
        values: the fields, as TOML or JSON has them.
        folder: where the file of the config is, from which relative paths may start.
        say: is called with a line for each path that does.

    Returns:
        The plan.

    Raises:
        ConfigError: a field is unknown, missing or out of range.
    """
    try:
        config = CurateConfig.model_validate(dict(values))
    except ValidationError as error:
        problem = first_problem(error, model=CurateConfig)
        if problem.where == "steps":
            said = "there is no step" if values.get("steps") == [] else problem.problem
            problem = ConfigError("steps", said, 'write a [[steps]] with name = "near" for each step')
        raise problem from None
    return config if folder is None else config.model_copy(update={"steps": _found(config.steps, folder, say)})


def _found(steps: Sequence[Choice], folder: Path, say: Callable[[str], None] | None) -> tuple[Choice, ...]:
    """Steps whose relative paths are those that are meant."""
    found = []
    for at, step in enumerate(steps):
        part = STEPS[meaning_of(STEPS, step.name.partition(":")[0], f"steps.{at}").part]
        fields = dict(step.model_extra or {})
        for one in dataclasses.fields(part):  # type: ignore[arg-type]
            given = fields.get(one.name)
            if isinstance(given, str) and _may_be_path(str(one.type), given):
                path = from_config(f"steps.{at}.{one.name}", Path(given), folder)
                fields[one.name] = str(path)
                if say is not None and path != with_home(given):
                    say(f"steps.{at}.{one.name}: {given} is taken from the folder of the config: {path}")
        found.append(Choice(name=step.name, **fields))
    return tuple(found)


def _may_be_path(kind: str, given: str) -> bool:
    """Whether the text of a field of some type (`raysal.paths`) is a path."""
    if "ColumnOrFile" in kind:
        return os.sep in given or bool(Path(given).suffix)
    return "Path" in kind and isinstance(path_or_url(given), Path)


def fields_of(step: Step, place: str) -> dict[str, Any]:
    """The config of a step as JSON: equal steps have equal ones.

    Args:
        step: the step.
        place: what an error calls it.

    Returns:
        {field: value}.

    Raises:
        ConfigError: a value is nothing that can be told from others, as a function.
    """
    made: Any = step
    if not dataclasses.is_dataclass(made):
        raise ConfigError(place, f"{type(step).__name__} is no dataclass", "let its constructor fields be its config")
    return {one.name: _json(getattr(made, one.name), f"{place}.{one.name}") for one in dataclasses.fields(made)}


def words_of(fields: Mapping[str, Any]) -> str:
    """Fields for people.

    Args:
        fields: as JSON.

    Returns:
        Such as `size=0.5, where entropy min=0.5`; empty where there are none.
    """
    words = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inner = [
                f"{key} {words_of(test)}" if isinstance(test, Mapping) else f"{key}={test}"
                for key, test in value.items()
            ]
            words.append(f"{name} {' and '.join(inner)}")
        else:
            words.append(f"{name}={'|'.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(words)


def _json(value: Any, place: str) -> Any:
    """A value as JSON, whole."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path | datetime.date | datetime.time):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "sha256": hashlib.sha256(value.tobytes()).hexdigest()}
    if isinstance(value, Named):
        return {"name": value.name, **_json(value.part, place)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _json(getattr(value, one.name), f"{place}.{one.name}") for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _json(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item, f"{place}.{at}") for at, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_json(item, place) for item in value), key=str)
    raise ConfigError(place, f"{value!r} is no value of a config", "give a number, a text, a list or a mapping")
