"""Config: TOML in, frozen pydantic models out; unknown fields and bad values are errors that name their dotted path.

A part that can be chosen (encoder, narrower, selector ...) is a `Choice`: a name from that kind's dict, and the
constructor fields of the class it names. The class itself is the schema of its fields; there is no second one.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from raysal.errors import ConfigError, UnknownName
from raysal.types import Metric

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
_SHORT = Repr()  # a value in a message: the first few entries, 80 letters
_SHORT.maxstring = _SHORT.maxother = 80


class Choice(BaseModel):
    """A registry name and the fields of what it names: `{name = "anchoral", anchors = 10}`, or only `"anchoral"`.

    Names may carry an argument after a colon, as in `timm:resnet18` or `class_balanced:coreset`; the registry entry is
    the part before it and receives the rest as its field `arg`, or the one its class names in `AFTER_COLON`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def build(self, kind: str, registry: Mapping[str, type[T]]) -> T:
        """An instance of the named class.

        Raises:
            UnknownName: the name is not in the registry.
            ConfigError: a field is unknown, missing or of the wrong type.
        """
        head, _, arg = self.name.partition(":")
        if head not in registry:
            raise UnknownName(kind, self.name, sorted(registry))
        cls = registry[head]
        values = dict(self.model_extra or {})
        known = {f.name for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        taker = after_colon(cls)
        if arg and taker not in known:
            raise ConfigError(
                f"{kind}.name", f"{head!r} takes nothing after a colon, got {self.name!r}", f"use {head!r}"
            )
        if arg and values.setdefault(taker, arg) != arg:
            raise ConfigError(f"{kind}.{taker}", f"{values[taker]!r}, and the name says {arg!r}", "give one of them")
        for name in values:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{kind}.{name}", f"{self.name!r} has no such field", f"its fields: {listed}")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise _first_problem(error, kind) from None


def after_colon(cls: type) -> str:
    """The field that takes what a name says after its colon."""
    return str(getattr(cls, "AFTER_COLON", "arg"))


def choice(value: str | Mapping[str, Any] | Choice, kind: str = "choice") -> Choice:
    """A `Choice` from a bare name, a mapping with `name`, or itself; `kind` names it in an error.

    Raises:
        ConfigError: it is none of these.
    """
    try:
        return Choice.model_validate(dict(value) if isinstance(value, Mapping) else value)
    except ValidationError as error:
        raise _first_problem(error, kind) from None


def _first_problem(error: ValidationError, prefix: str = "", model: type[BaseModel] | None = None) -> ConfigError:
    """The first of what pydantic found, under the dotted path of its field."""
    problems = error.errors(include_url=False)
    first, where = problems[0], _field_of(problems[0]["loc"])
    # Of a field that may be one of several things pydantic says once for each what it is not.
    said = [problem["msg"] for problem in problems if _field_of(problem["loc"]) == where]
    more = len(problems) - len(said)
    path = ".".join([*([prefix] if prefix else []), *(str(part) for part in where)])
    rest = f"{more} more problem{'s' if more > 1 else ''}" if more else ""
    if first["type"] == "extra_forbidden" and model is not None:
        for part in first["loc"][:-1]:  # only sections forbid extra fields, and sections hold sections
            model = cast("type[BaseModel]", model.model_fields[str(part)].annotation)
        known = f"the fields there: {', '.join(model.model_fields)}"
        return ConfigError(path, "no such field", "; ".join(filter(None, [known, rest])))
    given = "" if first["type"] == "missing" else f", got {_SHORT.repr(first['input'])}"
    return ConfigError(path, f"{', or: '.join(said)}{given}", rest)


def _field_of(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place of a problem without the alternative of a union that pydantic adds, as `float` or `literal['cv']`."""
    last = str(loc[-1]) if loc else ""
    return loc[:-1] if last in ("bool", "float", "int", "str") or "[" in last else loc


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FleetConfig(_Section):
    """Where partitions live. `partitions` 0 = one per node CPU with ray, one with local. Picks never depend on it."""

    backend: Literal["local", "ray"] = "ray"
    partitions: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads per partition; 0 = share the CPUs evenly."""
    address: str | None = None
    """A Ray cluster to join (`auto`, or host:port); none starts Ray on this machine."""
    device: str = "cpu"
    call_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds one call may take on one partition before its process is replaced."""
    service: str | None = None
    """The name of a service started by `raysal index serve`; partitions, threads and device are then its own."""


class EmbedConfig(_Section):
    """The embed job."""

    batch_size: Count = 64
    chunk_rows: Annotated[int, Field(ge=0, le=65536)] = 0
    """Items per chunk; 0 = 65536 for ready vectors, 1024 otherwise."""
    workers: Annotated[int, Field(ge=0)] = 0
    decode_threads: Count = 2
    max_quarantine: Annotated[float, Field(ge=0, le=1)] = 0.01
    metric: Metric = "cosine"
    """What neighbours in the pool are found by, once and for all."""


class IndexConfig(_Section):
    """The pool's index, for rounds that search by it (`search = "index"`). It lies with the pool; each round's rule
    names the one that was searched."""

    build: bool = False
    """Build one before the first round where there is none."""
    rebuild: bool = False
    """When a round finds that it lacks rows of the pool, build it anew in the background; rounds are exact until that
    one is there."""
    kind: Literal["auto", "flat", "hnsw", "ivf_flat", "ivf_pq", "ivf_rabitq", "ivf_sq8"] = "auto"
    """What to build; a rebuild with `auto` keeps the kind that is there."""
    memory: str | None = None
    """Most that one process may need, as 8GB; none is what this machine allows."""


class UpdateConfig(_Section):
    """How the head follows the labels.

    `retrain` fits anew each round; `laplace` takes closed-form steps from the last head (Huseljic et al., arXiv
    2210.06112), and fits anew when a class appears, every `retrain_every` rounds, once the labels since the last fit
    exceed `retrain_share` of those it saw, or when the mean has moved by more than `retrain_drift` of its length since
    then, or does worse than then on what was seen. Labels corrected or withdrawn are taken back in closed form.
    """

    mode: Literal["retrain", "laplace"] = "retrain"
    trainer: Choice = Choice(name="logistic")
    retrain_every: Count = 5
    retrain_share: Annotated[float, Field(gt=0)] = 0.5
    retrain_drift: Annotated[float, Field(gt=0)] = 1.0
    step: Annotated[float, Field(gt=0)] | None = None
    """Length of a step of the mean, in units of the covariance; none is what suits the posterior's structure."""
    passes: Annotated[int, Field(ge=0)] = 8
    """Steps of the mean over everything labeled, when a round begins; with 0 it moves by the new labels alone."""
    classes: tuple[str, ...] = ()
    """Classes known from the start; others join when their first label comes."""
    disputed: Literal["leave", "votes"] = "leave"
    """What annotators disagree about trains nothing, or (`votes`) every answer by its share of their weights."""


class RoundsConfig(_Section):
    """How many rounds, how many labels each, and what stands beside them."""

    count: Count = 8
    k: Count = 100
    holdout: Share = 0.0
    """Share of the items kept out of selection and used to measure accuracy (simulated oracle only)."""
    control: bool = False
    """Run an arm of random picks beside it, with the same number of labels."""


class RunConfig(_Section):
    """A whole run. Either `pool` is an embedded pool, or `source` and `encoder` say how to make it there."""

    seed: Annotated[int, Field(ge=0)] = 0
    pool: Path
    source: Choice | None = None
    encoder: Choice | None = None
    embed: EmbedConfig = EmbedConfig()
    fleet: FleetConfig = FleetConfig()
    update: UpdateConfig = UpdateConfig()
    narrow: Choice = Choice(name="none")
    select: Choice = Choice(name="badge")
    start: Choice = Choice(name="typiclust")
    """The selector used while there is no label."""
    oracle: Choice = Choice(name="files")
    rounds: RoundsConfig = RoundsConfig()
    index: IndexConfig = IndexConfig()


def deciding_fields(config: RunConfig) -> dict[str, Any]:
    """The fields that decide the picks. Where partitions live, how many rounds there are, where the pool lies, and
    when its index is built may change between visits; what kind of index is built may not."""
    values = config.model_dump(mode="json", exclude={"fleet", "embed", "pool", "source", "encoder"})
    values["rounds"] = {"holdout": values["rounds"]["holdout"]}
    values["index"] = {"kind": values["index"]["kind"]}
    return values


def parse_config(values: Mapping[str, Any], base: Path | None = None) -> RunConfig:
    """A `RunConfig` from plain values; a relative `pool` is taken from `base`.

    Raises:
        ConfigError: a field is unknown, missing or out of range.
    """
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise _first_problem(error, model=RunConfig) from None
    if (config.source is None) != (config.encoder is None):
        missing = "source" if config.source is None else "encoder"
        raise ConfigError(missing, "source and encoder come together", f"add [{missing}]")
    if base is not None and not config.pool.is_absolute():
        config = config.model_copy(update={"pool": base / config.pool})
    return config


def load_config(path: Path) -> RunConfig:
    """Read a TOML config. Relative paths in it are relative to the working directory.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML, or a field is wrong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "no such file", "check the path") from None
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})", "pass a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not valid TOML: {error}") from None
    return parse_config(values)
