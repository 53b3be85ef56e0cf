"""The shape of the code: floors, who may import what, registries, sizes."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import raysal

ROOT = Path(raysal.__file__).parent
FLOORS = (
    ("errors", "rng", "defaults"),
    ("store", "types", "config", "registry", "arguments", "features", "numerics"),
    ("pool", "sources"),
    ("fleet", "models", "labels"),
    ("scoring", "embedding"),
    ("context",),
    ("strategies", "narrowing", "index"),
    ("rounds", "curation", "prediction"),
    ("api",),
    ("report", "web", "demo"),
    ("cli", "__main__", "__init__"),
)
"""From the ground up: a module may import from its own floor and from those before it."""
RAY = {"fleet/ray_fleet.py", "embedding/ray_job.py"}
REGISTRIES = {
    "embedding": "ENCODERS",
    "labels": "ORACLES",
    "models.trainers": "TRAINERS",
    "narrowing": "NARROWERS",
    "scoring": "SCORES",
    "sources": "SOURCES",
    "strategies": "SELECTORS",
}

FILES = sorted(ROOT.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())


def unit_of(path: Path) -> str:
    """The module or package of raysal that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor_of(unit: str) -> int:
    floors = [number for number, units in enumerate(FLOORS) if unit in units]
    assert floors, f"{unit} has no floor yet: give it one in FLOORS"
    return floors[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names imported anywhere, in functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def is_module(parts: list[str]) -> bool:
    """Whether a name of raysal is a module or package, not something that `raysal` itself exports."""
    return any((ROOT / part).is_dir() or (ROOT / f"{part}.py").is_file() for part in parts)


@every_file
def test_no_import_runs_up(path):
    unit = unit_of(path)
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] == "raysal" and is_module(parts[1:2]):
            assert floor_of(parts[1]) <= floor_of(unit), f"{unit} imports {name}"


def test_every_module_has_a_floor():
    for unit in {unit_of(path) for path in FILES}:
        floor_of(unit)


@every_file
def test_only_two_files_import_ray(path):
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert "ray" not in names or path.relative_to(ROOT).as_posix() in RAY


@pytest.mark.parametrize(
    "module", ["raysal", "raysal.config", "raysal.pool", "raysal.labels", "raysal.sources", "raysal.cli"]
)
def test_heavy_modules_wait_until_they_are_used(module):
    program = f"import sys, {module}; print(*[m for m in ('torch', 'ray', 'faiss', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(("package", "name"), REGISTRIES.items())
def test_every_entry_of_a_registry_says_what_it_is(package, name):
    registry = getattr(import_module(f"raysal.{package}"), name)
    assert list(registry) == sorted(registry)
    for key, entry in registry.items():
        text = inspect.getdoc(entry) or ""
        assert len(text) > 20, f"{name}[{key!r}] has no docstring"
        # dataclasses write one of their own: "Name(field: type = ...)"
        assert not text.startswith(f"{entry.__name__}("), f"{name}[{key!r}] has no docstring"


@every_file
def test_exported_names_are_sorted_and_exist(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            names = ast.literal_eval(node.value)
            # as ruff sorts them: constants, classes, the rest
            assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
            dotted = ".".join(("raysal", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
            assert all(hasattr(import_module(dotted), name) for name in names)


@every_file
def test_a_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@every_file
def test_no_file_knows_a_machine(path):
    found = re.findall(r"/(?:work|farm|home|root|tmp)/[\w.-]+", path.read_text(encoding="utf-8"))
    assert not found
