"""benchmarks/gpu.sh runs, with neither Ray nor FAISS; on a GPU it has not been run yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiers import deep

from benchmarks.gpu import LIMITS

ROOT = Path(__file__).parents[2]
TINY = ["--device", "cpu", "--rows", "3000", "--dim", "32", "--k", "20", "--images", "64", "--size", "32"]


def gpu_sh(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The script, where ray and faiss cannot be imported."""
    for name in ("ray", "faiss"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "PYTHONPATH": str(tmp_path)}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *TINY, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@deep
@pytest.mark.parametrize("parts", ["coreset", " ".join(LIMITS)])
def test_parts_run_on_a_cpu(tmp_path: Path, parts: str) -> None:
    done = gpu_sh(tmp_path, "--parts", *parts.split())
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    assert " ".join(found) == parts
    assert not [part for part, numbers in found.items() if "reason" in numbers]
    if "anchors" in found:
        assert found["anchors"]["recall"] == 1
        assert found["same"]["badge"] == found["same"]["coreset"] == 20


@deep
def test_a_part_that_fails_is_said_and_the_script_fails(tmp_path: Path) -> None:
    done = gpu_sh(tmp_path, "--parts", "machine", "--device", "toaster")
    assert done.returncode != 0
    assert "reason" in json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]["machine"]


@deep
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_what_to_do(tmp_path: Path) -> None:
    done = gpu_sh(tmp_path, "--parts", "machine", "--device", "cuda")
    assert done.returncode == 2
    assert "torch sees no GPU here; --device cpu" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "gpu.json").exists()
