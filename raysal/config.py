"""The config of a run: TOML becomes frozen pydantic models. An unknown field or bad value is an error with its path.

A part that can be chosen (encoder, narrower, strategy ...) is a `Choice`: a name from the registry of its kind, and the
constructor fields of the class with that name. The class itself is the schema of its fields; there is no second one.

A part that holds another one of its kind, as `class_balanced:coreset` does, declares a field `of: Inner[Selector]`. The
part inside is built first, from the registry that the outer one comes from. So no part needs to import a registry.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from raysal.config_problems import first_problem, read_toml
from raysal.config_sections import Count as Count
from raysal.config_sections import EmbedConfig as EmbedConfig
from raysal.config_sections import FleetConfig as FleetConfig
from raysal.config_sections import IndexConfig as IndexConfig
from raysal.config_sections import PartsConfig as PartsConfig
from raysal.config_sections import Section, validator_of
from raysal.errors import ConfigError
from raysal.former_names import with_current_names
from raysal.paths import find_paths, path_or_url, with_home
from raysal.registry import meaning_of

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, lt=1)]
"""A part of a whole, in [0, 1)."""


class Choice(BaseModel):
    """A part by its registry name and its fields: `{name = "anchoral", anchors = 10}`, or only `"anchoral"`.

    A name may go on after a colon, as in `timm:resnet18` or `class_balanced:coreset`. The text before the colon is the
    name in the registry, or a short name there. The text after it is the part inside (`Inner`), or the value of the
    field `arg`. Fields may be given by former names, too, if the class lists them in `FORMER`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def build(self, place: str, registry: Mapping[str, type[T]]) -> T:
        """An instance of the named class, the parts inside it included.

        Args:
            place: the dotted path of this choice in the config, for errors.
            registry: the classes of this kind of part by name.

        Returns:
            The instance.

        Raises:
            UnknownName: the name, or that of a part inside, is not in the registry.
            ConfigError: a field is unknown, missing or of the wrong type.
        """
        head, _, argument = self.name.partition(":")
        part, said = meaning_of(registry, head, place)
        cls, said = registry[part], dict(said)
        values = with_current_names(dict(self.model_extra or {}), cls, place)
        known = {f.name for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        if argument:
            said[field := field_after_colon(cls)] = argument
            if field not in known:
                problem = f"{head!r} takes nothing after a colon, got {self.name!r}"
                raise ConfigError(f"{place}.name", problem, f"use {head!r}")
        for field, value in said.items():
            if values.setdefault(field, value) != value:
                problem = f"{values[field]!r}, and the name says {value!r}"
                raise ConfigError(f"{place}.{field}", problem, "give one of them")
        types = {f.name: str(f.type) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        places = {name: kind for name, kind in types.items() if "Path" in kind}
        for name in values:
            if name in places:
                given = values[name]
                given = values[name] = tuple(map(_place, given)) if isinstance(given, list | tuple) else _place(given)
                if isinstance(given, str) and "Url" not in places[name]:
                    raise ConfigError(f"{place}.{name}", f"{given} is no local path", "copy the file to a disk")
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{place}.{name}", f"{self.name!r} has no such field", f"its fields: {listed}")
            kind = types[name]
            takes_bool = "bool" in kind or "BeforeValidator" in kind  # one that reads a former spelling sees it first
            if isinstance(values[name], bool) and not takes_bool and ("float" in kind or "int" in kind):
                raise ConfigError(f"{place}.{name}", f"is no number, got {values[name]}", "write one, as 3 or 0.5")
        self._check_given(head, cls, values, place)
        try:
            return validator_of(cls).validate_python(values, context=Origin(place, registry))
        except ValidationError as error:
            problem_found = first_problem(error, place)
            raise problem_found from None

    def _check_given(self, head: str, cls: type, values: Mapping[str, Any], place: str) -> None:
        """Raise an error that says how to give a field that has no default, if one is not given."""
        for field in dataclasses.fields(cls):
            has_default = field.default is not field.default_factory  # both are MISSING without one
            if field.init and not has_default and field.name not in values:
                where = f"{place}.{field.name}"
                if field.name == field_after_colon(cls):
                    form = re.match(rf"`({re.escape(head)}:[^`]+)`", cls.__doc__ or "")
                    fix = f"write it after a colon, as {form[1] if form else f'{head}:NAME'}"
                    raise ConfigError(where, f"{self.name!r} does not say what it is of", fix)
                raise ConfigError(where, f"{self.name!r} needs it, and it is not given", f"add {field.name}")

    def build_named(self, place: str, registry: Mapping[str, type[T]]) -> Named[T]:
        """As `build`, together with the name."""
        return Named(self.name, self.build(place, registry))


@dataclasses.dataclass(frozen=True)
class Named(Generic[T]):
    """A part inside another one, and the name that it was asked for by."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # a part is no type that pydantic knows
    name: str
    part: T


class Origin(NamedTuple):
    """What `Choice.build` tells the validators of fields that hold parts: the place of the outer one, its registry."""

    place: str
    registry: Mapping[str, type[Any]]

    @classmethod
    def of_field(cls, info: ValidationInfo) -> Origin:
        """The place of the field that is being validated, and the registry of its class."""
        outer = info.context
        assert isinstance(outer, Origin), "only `Choice.build` validates fields that hold parts"
        return cls(f"{outer.place}.{info.field_name}", outer.registry)


def _build_inner(value: Any, info: ValidationInfo) -> Named[Any]:
    place, registry = Origin.of_field(info)
    return choice(value, place).build_named(place, registry)


AFTER_COLON = object()
"""Marks the type of the field that takes what a name says after its colon."""
Inner = Annotated[Named[T], PlainValidator(_build_inner), AFTER_COLON]
"""The type of a field that holds another part of the same kind. A config gives its name, or a mapping with `name`."""


def field_after_colon(cls: type) -> str:
    """The field that takes what a name says after its colon: the one that holds a part inside, else `arg`."""
    hints = get_type_hints(cls, include_extras=True)
    return next((name for name, hint in hints.items() if AFTER_COLON in get_args(hint)), "arg")


def choice(value: str | Mapping[str, Any] | Choice, kind: str = "choice") -> Choice:
    """Turn a part's name, or its name and fields, into a `Choice`.

    Args:
        value: a name, a mapping with `name` and fields, or a `Choice`.
        kind: what an error calls the part.

    Returns:
        The choice.

    Raises:
        ConfigError: the value is none of these.
    """
    try:
        return Choice.model_validate(dict(value) if isinstance(value, Mapping) else value)
    except ValidationError as error:
        problem = first_problem(error, kind)
        raise problem from None


def _place(value: Any) -> Any:
    """A URL as text, or a path."""
    return path_or_url(value) if isinstance(value, str | Path) else value


class UpdateConfig(Section):
    """How the head follows the labels.

    `retrain` fits a new head each round. `laplace` takes closed-form steps from the last head (Huseljic et al., arXiv
    2210.06112); it takes back corrected and withdrawn labels in closed form, too. It fits a new head

    - when a new class appears;
    - every `retrain_every` rounds;
    - when more than `retrain_share` of the labels have changed since the last fit;
    - when the mean has moved by more than `retrain_drift` of its length since the last fit;
    - when the mean does worse on all labels seen than the mean of the last fit does.
    """

    mode: Literal["retrain", "laplace"] = "retrain"
    trainer: Choice = Choice(name="logistic")
    retrain_every: Count = 5
    """Rounds from one fit to the next, with `laplace`."""
    retrain_share: Annotated[float, Field(gt=0)] = 0.5
    """Labels that are new, corrected or withdrawn, as a share of the number of labels in the last fit."""
    retrain_drift: Annotated[float, Field(gt=0)] = 1.0
    """Movement of the mean as a share of its length."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Length of a step of the mean, in units of the covariance. Without it, what suits the posterior's structure."""
    passes: Annotated[int, Field(ge=0)] = 8
    """Steps of the mean over all labels when a round begins; with 0, only new labels move the mean."""
    classes: tuple[str, ...] = ()
    """Classes known from the start. Others join when their first label comes."""
    disputed: Literal["leave", "votes"] = "leave"
    """With `leave`, a disputed item trains nothing. With `votes`, every label has its share of the weights."""
    background: Annotated[int, Field(ge=0)] = 0
    """About so many items, drawn uniformly, count as not looked for until somebody labels them (docs/models.md)."""
    background_weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """What each of them counts, in labels."""
    prior_shift: Literal["none", "em"] = "none"
    """With `em`, biases are corrected by how common each class is in the pool, as EM estimates it (Saerens et al.,
    Neural Computation 2002)."""


class RoundsConfig(Section):
    """How many rounds there are, how many labels each asks for, and how they are measured."""

    count: Count = 8
    """Number of rounds."""
    k: Count = 100
    """Items in one batch."""
    holdout: Share = 0.0
    """Share of the items that no round offers and no head learns from. They measure the head, where the oracle knows
    their labels (`simulated`), or people label some of them (`raysal label export RUN --holdout 200`)."""
    tests: Share = 0.0
    """Share of each batch that is drawn from these items, with known probabilities, to measure the run without bias."""
    control: bool = False
    """Also run an arm with random picks and the same number of labels, to compare with."""


def _whole_path(path: Path) -> Path:
    return with_home(path).absolute()


class LikeConfig(Section):
    """What is looked for, where it is no item of the pool: queries, for the strategy `search` while it has no find.

    They are embedded when the run begins, and kept with it; and again for a pool of another encoder. Vectors cannot be,
    and are refused there.
    """

    text: tuple[str, ...] = ()
    """Texts, for a pool of texts."""
    image: tuple[Annotated[Path, AfterValidator(_whole_path)], ...] = ()
    """Files of images, for a pool of images."""
    vectors: Annotated[Path, AfterValidator(_whole_path)] | None = None
    """A .npy file of vectors [q, d] in the space of the pool: of texts, say, by the model that embedded the images."""


class RunConfig(Section):
    """A whole run. Either `pool` is an embedded pool, or `source` and `encoder` say how to make it there."""

    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of all randomness."""
    pool: Annotated[Path | str, BeforeValidator(_place)]
    """The directory of the pool, or its URL: that is text, all else is a path."""
    source: Choice | None = None
    encoder: Choice | None = None
    embed: EmbedConfig = EmbedConfig()
    fleet: FleetConfig = FleetConfig()
    update: UpdateConfig = UpdateConfig()
    target: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The classes that are looked for, together: what the scores `probability` and `log_odds` are of. Heads know them
    from the start."""
    like: LikeConfig = LikeConfig()
    narrow: Choice = Choice(name="none")
    select: Choice = Choice(name="badge")
    start: Choice = Choice(name="typiclust")
    """The strategy of rounds without any label."""
    probabilities: Annotated[Path, AfterValidator(with_home), AfterValidator(Path.absolute)] | None = None
    """A table or a folder of predictions: the probability of each class for every item, for rounds without any
    label. `start` has to be a strategy that takes them, such as `class_balanced:typiclust` or `margin`."""
    parts: PartsConfig = PartsConfig()
    """Where items of the pool are parts: whether a round offers parts or what owns them, and which
    (docs/parts_of_items.md)."""
    oracle: Choice = Choice(name="files")
    rounds: RoundsConfig = RoundsConfig()
    index: IndexConfig = IndexConfig()


S = TypeVar("S", bound=Section)


def as_section(section: type[S], values: Mapping[str, Any] | S, place: str) -> S:
    """Make a section of a config from plain values.

    Args:
        section: its class.
        values: its fields; or the section, which is returned as it is.
        place: its dotted path in a config, for errors.

    Returns:
        The section.

    Raises:
        ConfigError: a field is unknown, or out of range.
    """
    if isinstance(values, section):
        return values
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        problem = first_problem(error, place)
        raise problem from None


def deciding_fields(config: RunConfig) -> dict[str, Any]:
    """The fields that decide the picks: a run that is resumed must have the same.

    Others may change: where the partitions and the pool are, how many rounds there are, and when the index is built.
    The kind of the index may not.

    Args:
        config: the config of a run.

    Returns:
        The fields as plain values.
    """
    values = config.model_dump(mode="json", exclude={"fleet", "embed", "pool", "source", "encoder"})
    values["rounds"] = {name: values["rounds"][name] for name in ("holdout", "tests")}
    values["index"] = {"kind": values["index"]["kind"]}
    return values


def parse_config(values: Mapping[str, Any], base: Path | None = None) -> RunConfig:
    """Make a config from plain values.

    Args:
        values: the fields, as TOML or JSON has them.
        base: the directory that a relative `pool` starts from. Without it, the path stays as it is.

    Returns:
        The config.

    Raises:
        ConfigError: a field is unknown, missing or out of range, or only one of source and encoder is given.
    """
    try:
        config = RunConfig.model_validate(dict(values))
    except ValidationError as error:
        problem = first_problem(error, model=RunConfig)
        raise problem from None
    if (config.source is None) != (config.encoder is None):
        missing = "source" if config.source is None else "encoder"
        raise ConfigError(missing, "source and encoder come together", f"add [{missing}]")
    if base is not None and isinstance(config.pool, Path) and not config.pool.is_absolute():
        config = config.model_copy(update={"pool": base / config.pool})
    return config


def load_config(path: Path, say: Callable[[str], None] | None = None) -> RunConfig:
    """Read a config from a TOML file. `raysal.paths.find_paths` says where relative paths in it start.

    Args:
        path: the file.
        say: is called with a line for each path that starts from the folder of the file.

    Returns:
        The config.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML, a field is wrong, or a path may be two places.
    """
    values = read_toml(path)
    find_paths(values, path.parent, say)
    return parse_config(values)
