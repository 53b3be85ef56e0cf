"""The kinds of index, and how FAISS (Douze et al., "The Faiss library", 2024) is asked for each of them.

FAISS is imported here and nowhere else. Its readers are told how much they may allocate, once; which files they are
given is decided by sha256 (`raysal.index.shards`), and only the factory strings made here are ever read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from raysal.errors import Damaged, UserError
from raysal.numerics import round_up
from raysal.scoring.similarity import unit_rows
from raysal.types import Metric

Kind = Literal["flat", "hnsw", "ivf_flat", "ivf_pq", "ivf_rabitq", "ivf_sq8"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FACTORIES = re.compile(r"Flat|HNSW32,Flat|IVF\d+,(Flat|SQ8|PQ\d+x\d+)|RR\d+,IVF\d+,RaBitQ")
"""Every factory string that is built or read."""
OVERFETCH: dict[Kind, int] = {"flat": 2, "hnsw": 2, "ivf_flat": 2, "ivf_pq": 4, "ivf_rabitq": 8, "ivf_sq8": 2}
"""Rows fetched for each one wanted, at first: the coarser the codes, the more of them have to be looked at. Never one:
the row of a labelled anchor is excluded, and would cost every search a second round."""
GRAPH = 272
"""Bytes of links a row of HNSW32 has, over all levels."""
BREADTH = 100
"""Rows that are looked at for each one put into a graph (efConstruction)."""
VECTOR_LIMIT = 2**36
LOOP_LIMIT = 2**27
"""What a file may make a reader allocate (bytes) and repeat."""
CODED = 8192
"""Rows prepared and coded at a time."""
WIDTH = 8
"""Vectors are widened with zeros to a multiple of this: no distance changes, and codes fit their registers."""

_loaded: list[ModuleType] = []


def load_faiss() -> ModuleType:
    """The module `faiss`.

    Raises:
        UserError: it is not installed.
    """
    if not _loaded:
        try:
            import faiss
        except ImportError as error:
            problem = f"the module 'faiss' cannot be imported ({error})"
            raise UserError("index", problem, "pip install faiss-cpu, or search exactly") from None
        faiss.set_deserialization_vector_byte_limit(VECTOR_LIMIT)
        faiss.set_deserialization_loop_limit(LOOP_LIMIT)
        _loaded.append(faiss)
    return _loaded[0]


def width_of(dim: int) -> int:
    return round_up(dim, WIDTH)


def is_inverted(kind: str) -> bool:
    """Whether rows lie in lists by their nearest centroid."""
    return kind.startswith("ivf_")


def is_coded(kind: str) -> bool:
    """Whether similarities by the index are not those of the rows."""
    return kind in ("ivf_pq", "ivf_rabitq", "ivf_sq8")


def factory_of(kind: Kind, dim: int, lists: int, training_rows: int) -> str:
    """What `faiss.index_factory` is asked for."""
    width = width_of(dim)
    bits = min(8, max(int(training_rows).bit_length() - 1, 1))  # a code book of 2^bits needs as many rows
    return {
        "flat": "Flat",
        "hnsw": "HNSW32,Flat",
        "ivf_flat": f"IVF{lists},Flat",
        "ivf_sq8": f"IVF{lists},SQ8",
        "ivf_pq": f"IVF{lists},PQ{width // 4}x{bits}",
        # Turned at random first: one bit a dimension says as much of each only then (Gao & Long, SIGMOD 2024).
        "ivf_rabitq": f"RR{width},IVF{lists},RaBitQ",
    }[kind]


def row_bytes(kind: Kind, dim: int) -> int:
    """Bytes of one row in a file, its number in the shard included."""
    width = width_of(dim)
    return {
        "flat": 4 * width,
        "hnsw": 4 * width + GRAPH,
        "ivf_flat": 4 * width + 8,
        "ivf_sq8": width + 8,
        "ivf_pq": width // 4 + 8,
        "ivf_rabitq": width // 8 + 8 + 8,
    }[kind]


def empty_index(factory: str, dim: int, metric: Metric, seed: int) -> Any:
    """An index without rows and untrained. Raises: ValueError: a factory string that is not ours."""
    faiss = load_faiss()
    if not FACTORIES.fullmatch(factory):
        raise ValueError(f"factory {factory!r} is not one of ours")
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    index = faiss.index_factory(width_of(dim), factory, kind)
    inverted = lists_of(index)
    if inverted is not None:
        inverted.cp.seed = seed % 2**31
        inverted.cp.min_points_per_centroid = 1  # how many there are is decided in the plan, not warned of here
    if hasattr(index, "pq"):
        # Simulated annealing for a search that is not used here; it took 20 times as long as all the rest.
        index.do_polysemous_training = False
        index.pq.cp.seed = seed % 2**31
        index.pq.cp.min_points_per_centroid = 1
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = BREADTH
    return index


def lists_of(index: Any) -> Any:
    """The inverted file in an index, or None."""
    return load_faiss().try_extract_index_ivf(index)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """FAISS with so many threads; 0 leaves the process as it is. Results do not depend on it: FAISS spreads queries
    over threads, and each is answered by one of them (tests/index holds it); the one exception is in `turned`."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def turned(index: Any, vectors: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
    """What lies beneath the rotation of an index, and vectors [n, width] as that takes them; both as they are where
    there is none.

    By one thread: a product's last bits are others with several, and with them the codes. (Which list a row is put
    into is found by several. No row was seen to change its list.)
    """
    faiss = load_faiss()
    if not isinstance(index, faiss.IndexPreTransform):
        return index, vectors
    with threads(1):
        return faiss.downcast_index(index.index), index.chain.at(0).apply_py(vectors)


def train(index: Any, vectors: NDArray[np.float32]) -> None:
    """Train an empty index on vectors [n, width]; by one thread, for what `turned` says of products."""
    with threads(1):
        index.train(vectors)


def add(index: Any, vectors: NDArray[np.float32]) -> None:
    """Put rows [n, width] into a trained index."""
    inner, own = turned(index, vectors)
    inner.add(own)
    index.ntotal = inner.ntotal


def read_faiss(path: Path, *, mapped: bool) -> Any:
    """An index whose sha256 was compared before. Inverted lists are mapped, not loaded, where `mapped`.

    Raises:
        Damaged: FAISS cannot read it.
    """
    faiss = load_faiss()
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if mapped else 0
    try:
        return faiss.read_index(str(path), flags | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
    except RuntimeError as error:
        raise Damaged(path, f"cannot be read ({first_line(error)})", "build the index again") from None


def first_line(error: Exception) -> str:
    """What FAISS says, without where in its sources it said so."""
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return text.rpartition("Error: ")[2][:200]


def prepared(vectors: NDArray[np.floating], metric: Metric) -> NDArray[np.float32]:
    """Vectors [n, d] as an index holds them, float32 [n, width]: of unit length for the cosine, as they are for the
    distance. Zero vectors stay zero, and so have similarity 0 with everything."""
    out = np.zeros((len(vectors), width_of(vectors.shape[1])), np.float32)
    for start in range(0, len(vectors), CODED):  # what is computed between is in float64
        some = vectors[start : start + CODED]
        out[start : start + CODED, : vectors.shape[1]] = unit_rows(some) if metric == "cosine" else some
    return out
