"""Reading a config, and what pydantic finds wrong with it in words: the path of the field, the problem, the fix."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from raysal.errors import ConfigError

_SHORT = Repr()
"""Shortens a value for a message: the first few entries, 80 letters."""
_SHORT.maxstring = _SHORT.maxother = 80
_WHOLE, _NUMBER = ("is no whole number", "write one, as 3"), ("is no number", "write one, as 0.5")
_TEXT, _LIST = ("is no text", 'write it in quotes, as "..."'), ("is no list", 'write one, as ["...", "..."]')
_TRUTH, _PLACE = ("is neither true nor false", "write true or false"), ("is no path", 'write it as text, as "..."')
_TABLE = "is no table", "write a table with its fields"
_WORDS = {
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "finite_number": ("is no finite number", "write one"),
    "string_type": _TEXT, "bool_type": _TRUTH, "bool_parsing": _TRUTH,
    "tuple_type": _LIST, "list_type": _LIST, "path_type": _PLACE,
    "dict_type": _TABLE, "model_type": _TABLE, "model_attributes_type": _TABLE, "dataclass_type": _TABLE,
    "string_too_short": ("is empty", "write something, or leave it out"),
}  # fmt: skip
"""{a kind of problem, as pydantic calls it: what is wrong, and what to do}."""
_BOUNDS = {"ge": "{:g} or more", "gt": "more than {:g}", "le": "{:g} or less", "lt": "less than {:g}"}
_CHOICE = "is neither the name of a part nor a table", 'write a name in quotes, or a table with `name = "..."`'


def first_problem(error: ValidationError, prefix: str = "", model: type[BaseModel] | None = None) -> ConfigError:
    """The first problem that pydantic found.

    Args:
        error: what it raised.
        prefix: the dotted path of what was validated; "" for a whole config.
        model: the class of that, if it is a section of a config.

    Returns:
        The error, which names the field and the fix.
    """
    problems = error.errors(include_url=False)
    first, where = problems[0], _field_of(problems[0]["loc"])
    # If a field may be one of several things, pydantic reports a problem for each of them.
    own = [problem for problem in problems if _field_of(problem["loc"]) == where]
    more = len(problems) - len(own)
    rest = f"{more} more problem{'s' if more > 1 else ''}" if more else ""
    path = ".".join([*([prefix] if prefix else []), *(str(part) for part in where)])
    problem, fix = _words_of(first, own, where, model)
    return ConfigError(path, problem, "; ".join(filter(None, [fix, rest])))


def _words_of(
    first: Any, own: list[Any], where: tuple[int | str, ...], model: type[BaseModel] | None
) -> tuple[str, str]:
    """The problem of a field, and the fix."""
    name = str(where[-1]) if where else ""
    if first["type"] == "extra_forbidden" and model is not None:
        for part in first["loc"][:-1]:  # only sections forbid extra fields, and sections hold sections
            model = cast("type[BaseModel]", model.model_fields[str(part)].annotation)
        return "no such field", f"the fields there: {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return "is not given", f'add {name} = "..."'
    kinds = {problem["type"] for problem in own}
    said = [_one(problem) for problem in own if problem["type"] != "string_type" or "path_type" not in kinds]
    given = f", got {_SHORT.repr(first['input'])}" if first["type"] != "value_error" else ""
    fixes = list(dict.fromkeys(fix for _, fix in said if fix))
    if isinstance(first["input"], Mapping) and not any("table" in fix for fix in fixes):
        above = f"in [{'.'.join(map(str, where[:-1]))}]" if len(where) > 1 else "above the first [table]"
        fixes = [f"it is no table: write {name} = ... {above}", *fixes]
    return f"{' and '.join(dict.fromkeys(problem for problem, _ in said))}{given}", "; ".join(fixes)


def _one(problem: Any) -> tuple[str, str]:
    """What one problem of pydantic's is, and what to do."""
    kind, context = problem["type"], problem.get("ctx") or {}
    if context.get("class_name") == "Choice":
        return _CHOICE
    if kind in _WORDS:
        return _WORDS[kind]
    if kind == "literal_error":
        return "is none of its values", f"use {context['expected']}"
    if kind == "value_error":  # one of ours, which says what to do
        return str(context.get("error", problem["msg"])), ""
    bound = next((name for name in _BOUNDS if name in context), None)
    if bound is not None:
        return "is out of range", f"use {_BOUNDS[bound].format(context[bound])}"
    return str(problem["msg"]), ""


def _field_of(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of a problem's field. Pydantic adds the alternative of a union, as `float` or `literal['cv']`."""
    last = str(loc[-1]) if loc else ""
    return loc[:-1] if last in ("bool", "float", "int", "str") or "[" in last else loc


def read_toml(path: Path) -> dict[str, Any]:
    """Read the plain values of a config.

    Args:
        path: a TOML file.

    Returns:
        Its fields.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(path, "no such file", "check the path") from None
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})", "pass a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not valid TOML: {error}") from None
