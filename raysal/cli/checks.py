"""The checks of `raysal doctor`: what a machine has, and what on it would make a run fail."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from raysal.cli.dashboards import Finding, dashboards
from raysal.messages import without_codes

MIN_RAY = (2, 54)
"""In earlier versions, web pages could reach a dashboard's DELETE endpoints (CVE-2026-27482)."""
RAY_START_SECONDS = 120
"""Seconds that Ray may take to start."""
NEEDED = (
    "numpy", "torch", "pyarrow", "pydantic", "pillow", "safetensors", "scikit-learn", "typer", "rich",
    "matplotlib",
)  # fmt: skip
EXTRAS = {
    "efficientnet-lite-pytorch": "images",
    "timm": "timm",
    "sentence-transformers": "text",
    "tifffile": "tiff",
    "imagecodecs": "tiff",
    "astropy": "fits",
    "h5py": "arrays",
    "zarr": "arrays",
    "pillow-heif": "heif",
    "simplejpeg": "jpeg",
    "soundfile": "audio",
    "open_clip_torch": "clip",
    "pylance": "lance",
    "obstore": "cloud",
    "fsspec": "fsspec",
}
"""Optional distributions, and the extra of raysal that installs each."""
GIB = 2**30
"""Bytes."""


def examine(place: Path, *, start_ray: bool = True) -> list[Finding]:
    """Run all checks.

    Args:
        place: the directory of a future run.
        start_ray: also start Ray, in a process of its own; this takes seconds.

    Returns:
        The findings.
    """
    found = [*python_and_packages(), *faiss_packages(), cpus(), gpu(), memory(), disk(place)]
    found += [*ray_version(), *dashboards(), ray_security()]
    if start_ray and version_of("ray") is not None:
        found.append(ray_starts())
    return found


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def python_and_packages() -> Iterator[Finding]:
    """Check the versions of raysal, Python and the packages that raysal needs or can use."""
    from raysal import __version__

    yield Finding(name="raysal", state="ok", detail=__version__)
    yield Finding(name="python", state="ok", detail=platform.python_version())
    for name in NEEDED:
        version = version_of(name)
        if version is None:
            yield Finding(name=name, state="broken", detail="not installed", fix=f"pip install {name}")
        else:
            yield Finding(name=name, state="ok", detail=version)
    for name, extra in EXTRAS.items():
        missing = f"not installed (only if you want it: pip install 'raysal[{extra}]')"
        yield Finding(name=name, state="ok", detail=version_of(name) or missing)


def faiss_packages(installed: Sequence[str] | None = None) -> Iterator[Finding]:
    """Check FAISS. faiss-cpu and faiss-gpu install the same files: where both are installed, neither is complete."""
    if installed is None:
        installed = sorted(set(metadata.packages_distributions().get("faiss", [])))
    if len(installed) > 1:
        fix = f"pip uninstall {' '.join(installed)}, then install one of them"
        yield Finding(name="faiss", state="broken", detail=f"{' and '.join(installed)} are both installed", fix=fix)
    elif not installed:
        yield Finding(name="faiss", state="warning", detail="not installed; exact neighbours work without it")
    else:
        yield check_import(installed[0], "faiss")


def check_import(distribution: str, module: str) -> Finding:
    """Check that a module can be imported."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken native library may raise anything
        detail = f"{version_of(distribution)} cannot be imported ({' '.join(str(error).split())})"
        return Finding(
            name=distribution,
            state="broken",
            detail=detail,
            fix=f"pip install --force-reinstall {distribution}",
        )
    return Finding(name=distribution, state="ok", detail=version_of(distribution) or "")


def cpus() -> Finding:
    """Check the CPUs this process may use, and the threads that torch uses."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{usable} usable of {os.cpu_count()}"
    try:
        import torch
    except Exception:  # a broken native library may raise anything; `gpu` reports it
        return Finding(name="cpus", state="ok", detail=detail)
    threads = torch.get_num_threads()
    detail += f", torch uses {threads} threads"
    if threads < usable and "OMP_NUM_THREADS" in os.environ:
        setting = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}"
        return Finding(name="cpus", state="warning", detail=f"{detail} ({setting})", fix="unset OMP_NUM_THREADS")
    return Finding(name="cpus", state="ok", detail=detail)


def gpu() -> Finding:
    """Check that torch can be imported, and can use the GPU if there is one."""
    try:
        import torch
    except Exception as error:  # a broken native library may raise anything
        detail = f"torch cannot be imported ({' '.join(str(error).split())})"
        return Finding(name="gpu", state="broken", detail=detail, fix="pip install --force-reinstall torch")
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding(
            name="gpu",
            state="ok",
            detail=", ".join(f"{c.name} {c.total_memory / GIB:.0f} GiB" for c in cards),
        )
    if shutil.which("nvidia-smi"):
        fix = "install a torch build for your CUDA driver"
        return Finding(
            name="gpu", state="warning", detail=f"there, but torch {torch.__version__} cannot use it", fix=fix
        )
    return Finding(name="gpu", state="ok", detail="none; everything works on the CPU")


def memory() -> Finding:
    """Check the memory of the machine, or of its container."""
    total, free = _memory()
    if total is None:
        return Finding(name="memory", state="ok", detail="unknown on this system")
    detail = f"{total / GIB:.1f} GiB" + ("" if free is None else f", {free / GIB:.1f} GiB available")
    if free is not None and free < GIB:
        return Finding(name="memory", state="warning", detail=detail, fix="close something, or use --backend local")
    return Finding(name="memory", state="ok", detail=detail)


def _memory() -> tuple[int | None, int | None]:
    """(total, available) bytes, within the container if there is one."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = values["MemTotal"], values["MemAvailable"]
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            free = min(free, max(total - used, 0))
        return total, free
    except (OSError, KeyError, ValueError, IndexError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (ValueError, OSError, AttributeError):
            return None, None


def disk(place: Path) -> Finding:
    """Check the free space at `place`, or at its nearest parent that exists."""
    there = place.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    detail = f"{free / GIB:.1f} GiB free at {there}"
    if not os.access(there, os.W_OK):
        return Finding(name="disk", state="broken", detail=f"{there} cannot be written", fix="choose another place")
    if free < GIB // 4:
        return Finding(name="disk", state="broken", detail=detail, fix="free some space, or choose another place")
    if free < 2 * GIB:
        return Finding(name="disk", state="warning", detail=detail, fix="a pool takes 2 bytes x dim an item")
    return Finding(name="disk", state="ok", detail=detail)


def ray_version(version: str | None = None) -> Iterator[Finding]:
    """Check the version of Ray, and the shared memory that it needs."""
    version = version or version_of("ray")
    if version is None:
        yield Finding(name="ray", state="warning", detail="not installed; --backend local works without it")
        return
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_RAY:
        fix = "pip install -U 'ray[default]>={}.{}'".format(*MIN_RAY)
        yield Finding(name="ray", state="broken", detail=f"{version} has known security holes", fix=fix)
    else:
        yield Finding(name="ray", state="ok", detail=version)
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free < GIB // 4:
        room = f"{shutil.disk_usage(shm).free / 2**20:.0f} MiB free in /dev/shm; Ray will be slow"
        yield Finding(name="shared memory", state="warning", detail=room, fix="docker run --shm-size=1g")


def ray_security() -> Finding:
    """Check that a cluster to join asks for a token."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    address = os.environ.get("RAY_ADDRESS", "")
    detail = f"RAY_AUTH_MODE={mode or 'not set'}" + (f", RAY_ADDRESS={address}" if address else "")
    if address and mode != "token":
        fix = "start the cluster with RAY_AUTH_MODE=token, and set it here"
        return Finding(name="ray security", state="warning", detail=detail, fix=fix)
    return Finding(name="ray security", state="ok", detail=detail)


def ray_starts() -> Finding:
    """Start Ray, or join the cluster of RAY_ADDRESS, in a process of its own, which is ended if it hangs."""
    program = "from raysal.fleet.ray_fleet import connect, cluster_cpus; connect(); print('cpus', cluster_cpus())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=RAY_START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        detail = f"no answer within {RAY_START_SECONDS} s"
        return Finding(name="ray start", state="broken", detail=detail, fix="check RAY_ADDRESS, or use --backend local")
    lines = [line for line in done.stdout.splitlines() if line.startswith("cpus ")]
    if done.returncode or not lines:
        reason = (without_codes(done.stderr).strip().splitlines() or ["no reason given"])[-1]
        return Finding(name="ray start", state="broken", detail=reason, fix="use --backend local, or mend Ray")
    return Finding(name="ray start", state="ok", detail=f"started with {lines[-1].removeprefix('cpus ')} CPUs")
