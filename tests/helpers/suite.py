"""The tests of this folder by name, read from their source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]


@cache
def in_make_test() -> dict[str, bool]:
    """Return every test function, and whether `make test` runs it, or some of its parameters."""
    found: dict[str, bool] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        whole = any(
            isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") == "pytestmark"
            and "deep" in ast.unparse(node)
            for node in tree.body
        )
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names = {getattr(mark, "id", getattr(mark, "attr", "")) for mark in node.decorator_list}
                deep = whole or "deep" in names
                found[node.name] = found.get(node.name, False) or not deep
    return found
