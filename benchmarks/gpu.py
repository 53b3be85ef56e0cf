"""What raysal does on a GPU, in about ten minutes: embed, sweep, exact anchors, BADGE and k-center on resident vectors.

    bash benchmarks/gpu.sh                                          # on a machine with a GPU
    python -m benchmarks.gpu --device cpu --rows 5000 --images 64 --out build/gpu   # does it run at all?

Needs neither Ray nor FAISS. Every part runs in a process of its own within a limit of time, and DIR/gpu.json is written
after each of them, so that a part that fails or hangs costs no other one. Every time stands beside that of the bare
work on the same device: the model alone, or the products of ready float32 blocks. Results are compared, too: what the
device finds in a small pool, with what the CPU finds there; anchors' neighbours, with all similarities written out.

Where neither efficientnet_lite_pytorch nor timm is installed, a small network of convolutions stands in for the model;
its weights, as those of timm's models here, are random, which changes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.suite_rows import CannotMeasure, Numbers, alone

NEEDED = {
    "torch": "torch", "numpy": "numpy", "pyarrow": "pyarrow", "pydantic": "pydantic", "typer": "typer", "PIL": "pillow",
    "safetensors": "safetensors", "threadpoolctl": "threadpoolctl", "rich": "rich",
}  # fmt: skip
"""module -> package"""
LIMITS = {
    "machine": 60,
    "pool": 240,
    "embed": 120,
    "sweep": 90,
    "anchors": 90,
    "badge": 120,
    "coreset": 120,
    "same": 90,
}
"""Seconds of each part at most."""
CLUSTERS = 60
CHECKED = 20_000
"""Rows of the pool on which the device is compared with the CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--folder", type=Path, help="where the pool is kept, and found again; default: nowhere")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), metavar="DIR")
    args = parser.parse_args()
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        parser.exit(2, f"not installed: {' '.join(missing)}; install them, or see WHEELS in benchmarks/gpu.sh\n")
    import torch

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(2, "torch sees no GPU here; --device cpu --rows 5000 --images 64 says whether it runs at all\n")
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        failed = run_parts(args, folder)
    sys.exit(1 if failed else 0)


def run_parts(args: argparse.Namespace, folder: Path) -> int:
    """One part after the other; returns how many gave no numbers."""
    given = {name: getattr(args, name) for name in ("device", "rows", "dim", "k", "images", "size")}
    found: dict[str, Any] = {"given": given, "parts": {}}
    deadline, failed = time.monotonic() + 60 * args.minutes, 0
    for part in args.parts:
        started = time.monotonic()
        limit = min(LIMITS[part], deadline - started)
        try:
            if limit < 5:
                raise CannotMeasure(f"not begun: {args.minutes:g} minutes are over")
            numbers = alone("benchmarks.gpu:one_part", part, json.dumps({**given, "folder": str(folder)}), limit=limit)
        except CannotMeasure as error:
            numbers, failed = {"reason": str(error)}, failed + 1
        found["parts"][part] = {**numbers, "wall_s": round(time.monotonic() - started, 1)}
        (args.out / "gpu.json").write_text(json.dumps(found, indent=1))
        print(f"{part}: {json.dumps(found['parts'][part])}", flush=True)
    return failed


def one_part(part: str, given: str) -> Numbers:
    """A part in this process; says what memory of the device it took."""
    import torch

    args = argparse.Namespace(**json.loads(given))
    args.folder = Path(args.folder)
    found = PARTS[part](args)
    if args.device.startswith("cuda"):
        found["device_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


# -- what parts share ------------------------------------------------------------------------------------------------


def pool_of(args: argparse.Namespace, rows: int) -> Any:
    """Clusters with a falling spectrum, and rows at every distance from their centres, made on the device: nothing can
    be pruned, as in `benchmarks.hard_pool`."""
    import torch

    from benchmarks.machine import made_pool
    from benchmarks.suite_rows_selection import pool_in

    generator = torch.Generator(args.device).manual_seed(11)
    draw = partial(torch.randn, generator=generator, device=args.device)
    scale = torch.arange(1, args.dim + 1, device=args.device, dtype=torch.float32) ** -0.6
    centres = 1.8 * scale * draw(CLUSTERS, args.dim)

    def rows_of(index: int, n: int) -> Any:
        del index
        spread = 1.6 * torch.rand(n, 1, generator=generator, device=args.device)
        which = torch.randint(CLUSTERS, (n,), generator=generator, device=args.device)
        return (centres[which] + draw(n, args.dim) * scale * spread).half().cpu().numpy()

    about = {"name": "hard", "device": args.device}
    return pool_in(args.folder, f"pool-{rows}", lambda path: made_pool(path, rows, args.dim, about, rows_of))


def in_turn(works: dict[str, Callable[[], object]], device: str, turns: int = 3) -> dict[str, float]:
    """Median seconds of each, in turn, after one run of each that warms up."""
    import torch

    from benchmarks.suite_rows_selection import medians

    def waiting(work: Callable[[], object]) -> None:
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return medians({name: partial(waiting, work) for name, work in works.items()}, turns)


def bare_columns(args: argparse.Namespace, columns: int) -> tuple[Callable[[], object], float]:
    """Products of ready float32 blocks with as many columns, of a million rows at most; and how many of them the pool
    takes."""
    from benchmarks.sweep import bare_products

    rows = min(args.rows, 1_000_000)
    return bare_products(rows, args.dim, columns, args.device), args.rows / rows


# -- parts -----------------------------------------------------------------------------------------------------------


def machine(args: argparse.Namespace) -> Numbers:
    """What the device is, and its rate of products."""
    import torch

    from benchmarks.machine import describe

    side = 8192 if args.device.startswith("cuda") else 512
    found: Numbers = {"name": describe(args.device), "cpus": os.cpu_count()}
    for name, kind in (("float32", torch.float32), ("float64", torch.float64)):
        a, b = (torch.randn(side, side, dtype=kind, device=args.device) for _ in range(2))
        seconds = in_turn({"s": partial(torch.mm, a, b)}, args.device)["s"]
        found[f"gemm_{name}_tflops"] = 2 * side**3 / seconds / 1e12
    data = torch.ones(2**28 if args.device.startswith("cuda") else 2**22, dtype=torch.uint8, device=args.device)
    found["copy_gbytes"] = len(data) / in_turn({"s": data.clone}, args.device)["s"] / 1e9
    return found


def make_pool(args: argparse.Namespace) -> Numbers:
    """Make the pool, and read it to the device."""
    from raysal.fleet import LocalFleet, plan_partitions

    start = time.perf_counter()
    pool = pool_of(args, args.rows)
    made = time.perf_counter() - start
    start = time.perf_counter()
    with LocalFleet(plan_partitions(pool, 1, device=args.device)):
        opened = time.perf_counter() - start
    return {"make_s": made, "open_s": opened, "open_gbytes": args.rows * args.dim * 2 / opened / 1e9}


def embed(args: argparse.Namespace) -> Numbers:
    """The job in this process beside the bare model on pixels that lie on the device, images/s."""
    import numpy as np
    import torch

    import raysal
    from raysal.embedding.custom import Torch
    from raysal.embedding.torch_model import place_model
    from raysal.sources import Memory

    encoder = Torch(arg="benchmarks.gpu:network", size=args.size, device=args.device)
    model, batch = place_model(network(), args.device), min(256, args.images)
    rng = np.random.default_rng(0)
    few = [rng.integers(256, size=(args.size, args.size, 3), dtype=np.uint8) for _ in range(min(args.images, 512))]
    images = [few[i % len(few)] for i in range(args.images)]
    block = torch.randn(batch, 3, args.size, args.size, device=args.device).contiguous(
        memory_format=torch.channels_last
    )

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(max(args.images // batch, 1)):
                model(block)

    bare_s = in_turn({"s": bare}, args.device, 1)["s"] / (max(args.images // batch, 1) * batch)
    start = time.perf_counter()
    for image in few:
        encoder.prepare("image", image)
    prepare_s = (time.perf_counter() - start) / len(few)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source = Memory(images=images, keys=range(args.images))
        start = time.perf_counter()
        raysal.embed(source, encoder, out=Path(folder) / "pool", batch_size=batch, device=args.device, decode_threads=8)
        image_s = (time.perf_counter() - start) / args.images
    rates = {"images_a_second": 1 / image_s, "bare_images_a_second": 1 / bare_s, "rate": bare_s / image_s}
    return {"model": type(model).__name__, **rates, "prepare_us": prepare_s * 1e6}


def network() -> Any:
    """A model of images with random weights, the same on every call: timm's EfficientNet-B0, or a few convolutions."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if find_spec("timm") is not None:
            import timm

            return timm.create_model("efficientnet_b0", pretrained=False, num_classes=0)
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128), (128, 256), (256, 512)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def sweep_margin(args: argparse.Namespace) -> Numbers:
    """A sweep of ten classes beside bare products of as many columns."""
    from benchmarks.machine import random_head
    from raysal.fleet import LocalFleet, plan_partitions
    from raysal.scoring.sweep import SweepRequest, sweep

    pool = pool_of(args, args.rows)
    head, request = random_head(pool, 10), SweepRequest(scores=("margin",), top=1000)
    bare, times = bare_columns(args, 10)
    with LocalFleet(plan_partitions(pool, 1, device=args.device)) as fleet:
        works: dict[str, Callable[[], object]] = {"bare_s": bare, "sweep_s": lambda: sweep(fleet, head, request)}
        found = in_turn(works, args.device)
    found["bare_s"] *= times
    gbytes = args.rows * args.dim * 2 / found["sweep_s"] / 1e9
    return {**found, "rate": found["bare_s"] / found["sweep_s"], "reads_gbytes": gbytes}


def anchors(args: argparse.Namespace) -> Numbers:
    """The 50 nearest of every row for 100 anchors, beside bare products; recall against all similarities in float64."""
    import numpy as np
    import torch

    from raysal.fleet import LocalFleet, plan_partitions
    from raysal.scoring.sweep import Search, SweepRequest, sweep

    pool = pool_of(args, args.rows)
    rows = np.random.default_rng(3).choice(min(len(pool), 60_000), 100, replace=False)
    near = pool.chunks[0].vectors()[rows].astype(np.float32)
    request = SweepRequest(searches=(Search(anchors=near, each=50),))
    bare, times = bare_columns(args, 100)
    with LocalFleet(plan_partitions(pool, 1, device=args.device)) as fleet:
        works: dict[str, Callable[[], object]] = {"bare_s": bare, "search_s": lambda: sweep(fleet, None, request)}
        found: Numbers = dict(in_turn(works, args.device))
        answers = [ids for ids, _ in sweep(fleet, None, request).searches[0].of_each]
    found["bare_s"] *= times
    few = torch.from_numpy(near[:5]).double().to(args.device)
    few /= few.norm(dim=1, keepdim=True)
    parts = []
    for chunk in pool.chunks:
        x = torch.from_numpy(np.ascontiguousarray(chunk.vectors())).to(args.device).double()
        parts.append((few @ (x / x.norm(dim=1, keepdim=True)).T).cpu())
    best = torch.cat(parts, 1).topk(min(50, len(pool)), dim=1).indices
    hits = [len(np.intersect1d(own.numpy(), ids)) / len(own) for own, ids in zip(best, answers[:5], strict=True)]
    return {**found, "rate": found["bare_s"] / found["search_s"], "recall": float(np.mean(hits))}


def batch(rule: str, args: argparse.Namespace) -> Numbers:
    """A batch by a rule from vectors on the device, beside one product of all rows with all picks, and a sweep."""
    from benchmarks.suite_rows_selection import opened
    from raysal.fleet import LocalFleet

    pool = pool_of(args, args.rows)
    product, times = bare_columns(args, args.k)
    with opened(pool, *labels_of(pool), args.device) as run:
        assert isinstance(run.fleet, LocalFleet)
        works: dict[str, Callable[[], object]] = {
            "product_s": product, "sweep_s": run.sweep, "batch_s": lambda: run.pick(rule, args.k)
        }  # fmt: skip
        found: Numbers = dict(in_turn(works, args.device, 1))
    found["product_s"] *= times
    return {**found, "products": (found["batch_s"] - found["sweep_s"]) / found["product_s"], "picks": run.picks}


def same_as_cpu(args: argparse.Namespace) -> Numbers:
    """How many of the first picks are those of the CPU, on a small pool that both have."""
    from benchmarks.suite_rows_selection import opened

    pool, k = pool_of(args, min(CHECKED, args.rows)), min(100, args.k)
    found: Numbers = {"k": k}
    for rule in ("badge", "coreset"):
        picks = []
        for device in ("cpu", args.device):
            with opened(pool, *labels_of(pool), device) as run:
                picks.append(run.pick(rule, k).tolist())
        found[rule] = next((i for i, pair in enumerate(zip(*picks, strict=True)) if pair[0] != pair[1]), k)
    return found


def labels_of(pool: Any) -> tuple[Any, list[str]]:
    from benchmarks import hard_pool

    return hard_pool.labels_of(pool.chunks[0].vectors())


PARTS: dict[str, Callable[[argparse.Namespace], Numbers]] = {
    "machine": machine,
    "pool": make_pool,
    "embed": embed,
    "sweep": sweep_margin,
    "anchors": anchors,
    "badge": partial(batch, "badge"),
    "coreset": partial(batch, "coreset"),
    "same": same_as_cpu,
}

if __name__ == "__main__":
    main()
