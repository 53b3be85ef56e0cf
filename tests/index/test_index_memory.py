"""How much memory a build may use by default: the least of the machine's and of its control groups'."""

from __future__ import annotations

import os

import pytest

from raysal.index import memory, memory_limit
from raysal.index.memory import control_group_limits


@pytest.fixture
def groups(tmp_path):
    """groups(own, {file: content}): the limits found where the kernel's files have these contents."""

    def limits(own: str, files: dict[str, str]) -> list[int]:
        for name, content in files.items():
            path = tmp_path / "mounted" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (tmp_path / "own").write_text(own)
        return control_group_limits(tmp_path / "mounted", tmp_path / "own")

    return limits


def test_version_2_with_the_groups_around_it(groups):
    files = {"a/b/memory.max": "max\n", "a/memory.max": "5000\n", "memory.max": "9000\n"}
    assert groups("0::/a/b\n", files) == [5000, 9000]


def test_version_2_in_a_container(groups):
    assert groups("0::/\n", {"memory.max": "5000\n"}) == [5000]
    assert groups("0::/../over\n", {"memory.max": "5000\n"})[-1:] == [5000]


def test_version_1_beside_an_empty_version_2(groups):
    own = "12:cpu,cpuacct:/docker/x\n7:memory:/docker/x\n0::/docker/x\n"
    assert groups(own, {"memory/memory.limit_in_bytes": "5000\n", "cpu/memory.limit_in_bytes": "1"}) == [5000]


def test_what_cannot_be_read_limits_nothing(groups, tmp_path):
    assert groups("0::/gone\n", {"memory.max": "max\n"}) == []
    assert control_group_limits(tmp_path, tmp_path / "none") == []


def test_the_least_counts_unless_a_size_is_given(monkeypatch):
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limits, expected in (([], host), ([host + 1], host), ([9000, 5000], 5000)):
        monkeypatch.setattr(memory, "control_group_limits", lambda limits=limits: limits)
        assert memory_limit(None, "index.memory") == expected
        assert memory_limit("8GB", "index.memory") == 8_000_000_000
