"""`raysal config`: show a config with all its defaults, and check it."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from raysal.cli.output import Debug, Json, Outcome, note

if TYPE_CHECKING:
    from raysal.config import Named, RunConfig

app = typer.Typer(help="Show and check configs.", no_args_is_help=True)


@app.command("show")
def show(
    config: Annotated[Path | None, Argument(help="A TOML config. Without one, the defaults are shown.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Print a config as TOML, with every default filled in: of a run, or a plan of curation."""
    del json, debug
    if config is not None and is_plan(config):
        plan = resolve_plan(config)
        return Outcome(data=plan, view="\n".join(plan_lines(plan)))
    from raysal.config import RunConfig, load_config

    loaded = RunConfig(pool=Path("pool")) if config is None else load_config(config, note)
    resolved = resolve(loaded)
    return Outcome(data=resolved, view="\n".join(toml_lines(resolved)))


@app.command("validate")
def validate(
    config: Annotated[Path, Argument(help="A TOML config.")],
    pool: Annotated[bool, Option("--pool", help="Also open its pool, and check the columns that it names.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    """Check a config and the fields of every part that it names. Does no work.

    If its pool is there, also say what happens where the items run out before the rounds do.
    """
    del json, debug
    if is_plan(config):
        steps = [step["name"] for step in resolve_plan(config)["steps"]]
        view = f"{config}: valid (steps {', '.join(steps)})"
        return Outcome(data={"config": str(config), "ok": True, "steps": steps, "notes": []}, view=view)
    from raysal.config import load_config
    from raysal.rounds.arms import validate as validate_parts
    from raysal.rounds.plan import notes_on

    loaded = load_config(config, note)
    validate_parts(loaded)
    _check_files(loaded)
    if pool:
        from raysal.labels import ORACLES
        from raysal.pool import open_pool

        loaded.oracle.build("oracle", ORACLES).bind(open_pool(loaded.pool), loaded.seed)
    parts = {
        name: choice["name"]
        for name, choice in resolve(loaded).items()
        if isinstance(choice, dict) and "name" in choice
    }
    listed = ", ".join(f"{kind} {name}" for kind, name in parts.items())
    notes = notes_on(loaded)
    view = "\n".join([f"{config}: valid ({listed})", *(f"  {note}" for note in notes)])
    return Outcome(data={"config": str(config), "ok": True, **parts, "notes": notes}, view=view)


def _check_files(config: RunConfig) -> None:
    """Refuse a config that names files to be read which are not there. A pool may be made yet."""
    from raysal.errors import ConfigError
    from raysal.labels import ORACLES

    oracle = config.oracle.build("oracle", ORACLES)
    named: dict[str, Any] = {f"oracle.{one.name}": getattr(oracle, one.name) for one in dataclasses.fields(oracle)}  # type: ignore[arg-type]
    named |= {"probabilities": config.probabilities, "like.vectors": config.like.vectors}
    named |= {f"like.image.{place}": path for place, path in enumerate(config.like.image)}
    for field, path in named.items():
        if isinstance(path, Path) and not path.exists():
            raise ConfigError(field, f"{path} is not there", "check the path")


def resolve(config: RunConfig) -> dict[str, Any]:
    """Turn a config into plain values, every part with all its fields.

    Args:
        config: the config.

    Returns:
        Nested mappings that JSON and TOML can hold; unset values are left out.

    Raises:
        UnknownName: a part does not exist.
        ConfigError: a field of a part does not exist.
    """
    from raysal.embedding import ENCODERS
    from raysal.labels import ORACLES
    from raysal.models.trainers import TRAINERS
    from raysal.narrowing import NARROWERS
    from raysal.sources import SOURCES
    from raysal.strategies import SELECTORS

    registries: dict[str, Mapping[str, type[Any]]] = {
        "source": SOURCES, "encoder": ENCODERS, "narrow": NARROWERS, "select": SELECTORS, "start": SELECTORS,
        "oracle": ORACLES,
    }  # fmt: skip
    values: dict[str, Any] = config.model_dump(mode="python")
    for kind, registry in registries.items():
        choice = getattr(config, kind)
        values[kind] = None if choice is None else choice.build_named(kind, registry)
    values["update"]["trainer"] = config.update.trainer.build_named("update.trainer", TRAINERS)
    resolved: dict[str, Any] = _plain(values)
    return resolved


def is_plan(config: Path) -> bool:
    """Whether a file is a plan of curation, and no config of a run: it has steps. A file that is neither is none."""
    import tomllib

    try:
        return "steps" in tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def resolve_plan(config: Path) -> dict[str, Any]:
    """Turn a plan of curation into plain values, every step with all its fields.

    Args:
        config: a TOML file.

    Returns:
        The seed and the steps; unset values are left out.

    Raises:
        UnknownName: a step does not exist.
        ConfigError: a field is unknown, or out of range.
    """
    from raysal.curation.plan import load_plan, plan_of

    loaded = load_plan(config, note)
    return {"seed": loaded.seed, "steps": [{"name": one.name, **_plain(one.step)} for one in plan_of(loaded.steps)]}


def plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """Write a plan of curation as TOML.

    Args:
        plan: from `resolve_plan`.

    Yields:
        The lines.
    """
    yield f"seed = {_toml_value(plan['seed'])}"
    for step in plan["steps"]:
        yield from ("", "[[steps]]", *(f"{_toml_key(name)} = {_toml_value(value)}" for name, value in step.items()))


def _plain(value: Any) -> Any:
    """The value as JSON can hold it. What is None is left out, since TOML has no word for it."""
    from raysal.config import Named

    if isinstance(value, Named):
        value = _fields_of(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _fields_of(named: Named[Any]) -> dict[str, Any]:
    """What a config says of a part: its name, what stands beside it, and its fields but the one in the name."""
    from raysal.config import field_after_colon

    beside = {field.name: getattr(named, field.name) for field in dataclasses.fields(named) if field.name != "part"}
    said = field_after_colon(type(named.part)) if ":" in named.name else ""
    own = [field.name for field in dataclasses.fields(named.part) if field.init and field.name != said]
    return {**beside, **{name: getattr(named.part, name) for name in own}}


def toml_lines(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Write nested mappings as TOML, plain values before tables. A JSON string is a TOML string, except for DEL.

    Args:
        values: from `resolve`.
        path: the table that they are in; "" is the top.

    Yields:
        The lines.
    """
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield f"{_toml_key(name)} = {_toml_value(value)}"
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{_toml_key(name)}" if path else _toml_key(name)
            yield from ("", f"[{inner}]")
            yield from toml_lines(value, inner)


def _toml_key(name: str) -> str:
    simple = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if simple else _toml_value(name)


def _toml_value(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(name)} = {_toml_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return jsonlib.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
