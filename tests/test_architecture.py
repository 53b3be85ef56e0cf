"""The shape of the code: floors, no circles, who may import what, registries, docstrings, sizes.

An import is whatever makes one file need another: a statement at the top, in a function or under TYPE_CHECKING, and a
string that names a module, as in a registry ("raysal.strategies.simple:Random").
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import raysal
from raysal.registry import Registry

ROOT = Path(raysal.__file__).parent
FLOORS = (
    ("messages", "errors", "rng", "defaults"),
    (
        "store",
        "json_text",
        "commits",
        "databases",
        "tables",
        "types",
        "config",
        "config_problems",
        "config_sections",
        "former_names",
        "registry",
        "arguments",
        "features",
        "numerics",
        "principal_axes",
        "scale",
        "sounds",
        "spectrograms",
        "arrays",
        "arrow",
        "arrow_values",
        "real_numbers",
        "tensors",
        "threads",
        "paths",
        "buckets",
    ),
    ("pool", "sources"),
    ("fleet", "models", "labels"),
    ("scoring", "embedding"),
    ("context", "memory"),
    ("strategies", "narrowing", "index"),
    ("rounds", "curation", "prediction", "ranking", "finetuning", "exporting"),
    ("api",),
    ("report", "web", "demo"),
    ("cli", "__main__", "__init__"),
)
"""From the ground up: a module may import from its own floor and from those before it."""
RAY = {"fleet/ray_fleet.py", "embedding/ray_job.py"}
REGISTRIES = {
    "curation": "STEPS",
    "embedding": "ENCODERS",
    "labels": "ORACLES",
    "labels.formats": "FORMATS",
    "models.trainers": "TRAINERS",
    "narrowing": "NARROWERS",
    "scoring": "SCORES",
    "scoring.aggregators": "AGGREGATORS",
    "scoring.novelty": "NOVELTIES",
    "sources": "SOURCES",
    "strategies": "SELECTORS",
}
LONGEST_FILE = 400
"""Lines."""
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


class Import(NamedTuple):
    """`file` needs the module `name`, said in that line."""

    file: str
    line: int
    name: str


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse(FILES[file].read_text(encoding="utf-8"))


@cache
def file_of(name: str) -> str | None:
    """Return the file of a module or package of raysal; None for any other name."""
    first, *parts = name.split(".")
    if first != "raysal":
        return None
    return next((file for file in ("/".join([*parts, "__init__.py"]), "/".join(parts) + ".py") if file in FILES), None)


@cache
def imports_of(file: str) -> tuple[Import, ...]:
    """Every import of a file."""
    return tuple(_imports_in(file))


def _imports_in(file: str) -> Iterator[Import]:
    """Yield every import, wherever it stands; of `from raysal.a import b` the module `b` if it is one, else `a`.

    `from raysal import __version__` is no import of the package, which stands above all others.
    """
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}:{node.lineno}: imports are absolute"
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                whole = file_of(inner) or inner == "raysal.__version__"
                yield Import(file, node.lineno, inner if whole else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("raysal."):
            name = node.value.partition(":")[0]
            if file_of(name):
                yield Import(file, node.lineno, name)


def unit_of(file: str) -> str:
    """Return the module or package of raysal that a file belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def floor_of(unit: str) -> int:
    floors = [number for number, units in enumerate(FLOORS) if unit in units]
    assert floors, f"{unit} has no floor yet: give it one in FLOORS"
    return floors[0]


def circles(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of nodes that reach each other: strongly connected components (Tarjan 1972) of two or more."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in sorted(needs.get(node, ())):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            circle = path[path.index(node) :]
            del path[path.index(node) :]
            if len(circle) > 1 or node in needs.get(node, ()):
                found.append(sorted(circle))

    for node in sorted(needs):
        if node not in number:
            visit(node)
    return found


# -- imports ----------------------------------------------------------------------------------------------------------


def test_every_module_has_a_floor() -> None:
    for unit in {unit_of(file) for file in FILES}:
        floor_of(unit)


def test_no_import_runs_up() -> None:
    assert not [
        found
        for file in FILES
        for found in imports_of(file)
        if (target := file_of(found.name)) and floor_of(unit_of(target)) > floor_of(unit_of(file))
    ]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Over all imports, those on one floor and those in strings included."""
    needs = {
        file: {target for found in imports_of(file) if (target := file_of(found.name)) and target != file}
        for file in FILES
    }
    assert circles(needs) == []


def test_circles_are_found() -> None:
    needs = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f"}, "g": {"h"}, "h": {"g", "a"}}
    assert sorted(circles(needs)) == [["a", "b", "c"], ["f"], ["g", "h"]]


def test_imports_in_functions_under_type_checking_and_in_strings_are_seen() -> None:
    assert {"raysal.strategies.simple", "raysal.strategies.base"} <= {
        found.name for found in imports_of("strategies/registry.py")
    }
    assert "raysal.api.select" in {found.name for found in imports_of("__init__.py")}


def test_only_two_files_import_ray() -> None:
    assert {file for file in FILES for found in imports_of(file) if found.name.split(".")[0] == "ray"} == RAY


LIGHT = (
    "raysal",
    "raysal.cli",
    "raysal.config",
    "raysal.fleet",
    "raysal.labels",
    "raysal.pool",
    "raysal.report.table",
    "raysal.report.writing",
    "raysal.rounds.loop",
    "raysal.rounds.run_labels",
    "raysal.rounds.status",
    "raysal.sources",
)


def test_heavy_modules_wait_until_they_are_used() -> None:
    """One module after the other in one process: what one imports stays until the end."""
    program = (
        "import sys, importlib\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    print(*[f'{module}: {m}' for m in ('torch', 'ray', 'faiss', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# -- registries -------------------------------------------------------------------------------------------------------


def registry_of(package: str) -> Registry[object]:
    found = getattr(import_module(f"raysal.{package}.registry"), REGISTRIES[package])
    assert isinstance(found, Registry)
    return found


def module_of(file: str) -> str:
    return ".".join(("raysal", *Path(file).with_suffix("").parts)).removesuffix(".__init__")


def test_every_registry_is_listed() -> None:
    assert {file for file in FILES if file.endswith("/registry.py")} == {
        f"{package.replace('.', '/')}/registry.py" for package in REGISTRIES
    }


@pytest.mark.parametrize("package", REGISTRIES)
def test_every_entry_of_a_registry_is_there_and_says_what_it_is(package: str) -> None:
    registry = registry_of(package)
    assert list(registry) == sorted(registry)
    for key, entry in registry.items():
        text = inspect.getdoc(entry) or ""
        assert len(text) > 20, f"{key!r} has no docstring"
        # dataclasses write one of their own: "Name(field: type = ...)"
        assert not text.startswith(f"{getattr(entry, '__name__', key)}("), f"{key!r} has no docstring"


# -- files ------------------------------------------------------------------------------------------------------------


def test_no_two_files_of_tests_share_a_name() -> None:
    """pytest imports them by their names alone, and leaves out the second one with an error."""
    names = Counter(path.name for path in ROOT.parent.glob("tests/**/*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_every_module_has_a_docstring() -> None:
    assert not [file for file in FILES if not ast.get_docstring(tree_of(file))]


def test_exported_names_are_sorted_and_exist() -> None:
    wrong = []
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
                names = ast.literal_eval(node.value)
                # as ruff sorts them: constants, classes, the rest
                if names != sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n)):
                    wrong.append(f"{file}: not sorted")
                module = import_module(module_of(file))
                wrong += [f"{file}: {name} does not exist" for name in names if not hasattr(module, name)]
    assert not wrong


def test_a_file_can_be_read_in_one_sitting() -> None:
    lines = {file: len(path.read_text(encoding="utf-8").splitlines()) for file, path in FILES.items()}
    assert not {file: count for file, count in lines.items() if count > LONGEST_FILE}


def test_no_file_knows_a_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:home|root|tmp|mnt|srv|opt)/[\w.-]+")
    assert not {file: found for file, path in FILES.items() if (found := pattern.findall(path.read_text("utf-8")))}


def test_errors_that_docstrings_name_exist() -> None:
    block = re.compile(r"^( +)Raises:\n((?:\1 +.*\n|\n)+)", re.MULTILINE)
    texts = {file: path.read_text("utf-8") for file, path in FILES.items()}
    known = {name for text in texts.values() for name in re.findall(r"^ *class (\w+)", text, re.MULTILINE)}
    known |= set(vars(builtins))
    named = set()
    for file, text in texts.items():
        for indent, lines in block.findall(text):
            for line in re.findall(rf"^{indent} {{4}}(\w[^:\n]*):", lines, re.MULTILINE):
                named |= {(file, name) for name in line.split(", ") if "." not in name}
    assert len(named) > 500
    assert not {(file, name) for file, name in named if name not in known}


def test_tests_that_are_named_exist() -> None:
    """A docstring that says which test holds a law is believed."""
    pattern = re.compile(r"\btests/[\w./]*\w")
    named = {(file, name) for file, path in FILES.items() for name in pattern.findall(path.read_text("utf-8"))}
    assert not {(file, name) for file, name in named if not (ROOT.parent / name).exists()}


def test_nothing_lies_at_the_top_that_does_not_belong_there() -> None:
    """Pools and labels that commands of a test wrote were once committed by their folders."""
    top = ROOT.parent
    if not (top / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=top, check=True, capture_output=True, text=True).stdout
    belongs = {"pyproject.toml", "constraints.txt", "raysal", "deploy", "configs", "tests", "benchmarks", "docs"}
    belongs |= {"findings", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"}
    assert {name for name in {line.split("/")[0] for line in listed.splitlines()} - belongs if name[0] != "."} == set()
