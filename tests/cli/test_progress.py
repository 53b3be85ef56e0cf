"""Progress bars, drawn on a real terminal and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import ROOT, cli, write_vectors


def on_a_terminal(words: list[str], cwd: Path) -> tuple[int, str, str]:
    """(exit code, stdout, what the terminal behind stderr got)."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "raysal", *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        cwd=cwd,
        env=environment,
    ) as child:
        os.close(theirs)
        seen = b""  # read along: a slow run redraws more than a terminal's buffer holds
        while True:
            try:
                seen += (part := os.read(ours, 65536))
            except OSError:  # Linux says so when the other side has closed
                break
            if not part:
                break
        os.close(ours)
        out, _ = child.communicate()
    return child.returncode, out, seen.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_bars_are_on_stderr_and_only_on_a_terminal(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.parquet")
    words = ["embed", "v.parquet", "--out", "pool", "--chunk-rows", "50", "--json"]
    code, out, seen = on_a_terminal(words, tmp_path)
    assert code == 0
    assert out.startswith("{")
    assert out.count("\n") == 1
    assert "embedding" in seen
    assert "300/300" in seen
    assert cli("pool", "verify", tmp_path / "pool").err == ""
