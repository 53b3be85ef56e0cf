"""The kinds of index, and what FAISS (Douze et al., "The Faiss library", 2024) is asked for each of them.

Only this module imports FAISS. It limits once what FAISS's readers may allocate. A file is compared with its sha256
before FAISS reads it (`raysal.index.shards`), and only the factory strings made here are read back.
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
"""Rows fetched for each one wanted, before recall is measured: coarser codes need more rows. Never 1: the row of a
labelled anchor is excluded, and would cost every search a second round."""
GRAPH_ROW_BYTES = 272
"""Bytes of the links of one row of HNSW32, over all levels."""
EF_CONSTRUCTION = 100
"""Rows that are looked at for each row put into a graph (efConstruction)."""
MAX_READ_BYTES = 2**36
"""Bytes that a file may make FAISS's reader allocate."""
MAX_READ_LOOPS = 2**27
"""Loops that a file may make FAISS's reader repeat."""
CODE_ROWS = 8192
"""Rows that are prepared and coded at a time."""
WIDTH_MULTIPLE = 8
"""Vectors get zeros up to a multiple of this width: no distance changes, and codes fit the registers."""

_loaded: list[ModuleType] = []


def load_faiss() -> ModuleType:
    """Import FAISS, and limit what its readers may allocate.

    Returns:
        The module `faiss`.

    Raises:
        UserError: FAISS is not installed.
    """
    if not _loaded:
        try:
            import faiss
        except ImportError as error:
            problem = f"the module 'faiss' cannot be imported ({error})"
            raise UserError("index", problem, "pip install faiss-cpu, or search exactly") from None
        faiss.set_deserialization_vector_byte_limit(MAX_READ_BYTES)
        faiss.set_deserialization_loop_limit(MAX_READ_LOOPS)
        _loaded.append(faiss)
    return _loaded[0]


def padded_width(dim: int) -> int:
    """The width of an index's vectors for vectors of length `dim`."""
    return round_up(dim, WIDTH_MULTIPLE)


def is_inverted(kind: str) -> bool:
    """Whether a kind keeps its rows in lists, one for each centroid."""
    return kind.startswith("ivf_")


def is_coded(kind: str) -> bool:
    """Whether a kind keeps codes, so that similarities by the index are approximate."""
    return kind in ("ivf_pq", "ivf_rabitq", "ivf_sq8")


def faiss_factory(kind: Kind, dim: int, lists: int, training_rows: int) -> str:
    """The string that `faiss.index_factory` gets for a kind."""
    width = padded_width(dim)
    bits = min(8, max(int(training_rows).bit_length() - 1, 1))  # a code book of 2^bits needs as many rows
    return {
        "flat": "Flat",
        "hnsw": "HNSW32,Flat",
        "ivf_flat": f"IVF{lists},Flat",
        "ivf_sq8": f"IVF{lists},SQ8",
        "ivf_pq": f"IVF{lists},PQ{width // 4}x{bits}",
        # With a random rotation first: without it, one bit a dimension says little (Gao & Long, SIGMOD 2024).
        "ivf_rabitq": f"RR{width},IVF{lists},RaBitQ",
    }[kind]


def row_bytes(kind: Kind, dim: int) -> int:
    """Bytes of one row in a file, with its number in the shard."""
    width = padded_width(dim)
    return {
        "flat": 4 * width,
        "hnsw": 4 * width + GRAPH_ROW_BYTES,
        "ivf_flat": 4 * width + 8,
        "ivf_sq8": width + 8,
        "ivf_pq": width // 4 + 8,
        "ivf_rabitq": width // 8 + 8 + 8,
    }[kind]


def empty_index(factory: str, dim: int, metric: Metric, seed: int) -> Any:
    """Make an index that is not trained and has no rows.

    Args:
        factory: from `faiss_factory`.
        dim: length of the pool's vectors.
        metric: of the pool.
        seed: for its k-means.

    Returns:
        A FAISS index of `padded_width(dim)`.

    Raises:
        ValueError: the factory string is not one of ours.
    """
    faiss = load_faiss()
    if not FACTORIES.fullmatch(factory):
        raise ValueError(f"factory {factory!r} is not one of ours")
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    index = faiss.index_factory(padded_width(dim), factory, kind)
    inverted = inverted_lists(index)
    if inverted is not None:
        inverted.cp.seed = seed % 2**31
        inverted.cp.min_points_per_centroid = 1  # the plan decides how many there are; FAISS shall not warn
    if hasattr(index, "pq"):
        # Simulated annealing for a search that is not used here; it took 20 times as long as the rest of the training.
        index.do_polysemous_training = False
        index.pq.cp.seed = seed % 2**31
        index.pq.cp.min_points_per_centroid = 1
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = EF_CONSTRUCTION
    return index


def inverted_lists(index: Any) -> Any:
    """The inverted lists of an index, or None."""
    return load_faiss().try_extract_index_ivf(index)


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """Let FAISS use `count` threads inside the block; 0 changes nothing.

    Search results do not depend on the count: FAISS spreads queries over threads, and one thread answers each query
    (tests/index/test_index_build.py holds it). `apply_rotation` has the one exception.
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def apply_rotation(index: Any, vectors: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
    """Rotate vectors as an index does, and return the index beneath its rotation.

    One thread computes the product: with several threads its last bits differ, and with them the codes. (Several
    threads find the list that a row is put into. No row was seen to change its list.)

    Args:
        index: a FAISS index.
        vectors: float32 [n, width], from `prepare_vectors`.

    Returns:
        The inner index and the rotated vectors; both arguments unchanged where the index has no rotation.
    """
    faiss = load_faiss()
    if not isinstance(index, faiss.IndexPreTransform):
        return index, vectors
    with faiss_threads(1):
        return faiss.downcast_index(index.index), index.chain.at(0).apply_py(vectors)


def train_empty(index: Any, vectors: NDArray[np.float32]) -> None:
    """Train an empty index on vectors [n, width], with one thread, for the reason that `apply_rotation` gives."""
    with faiss_threads(1):
        index.train(vectors)


def add_rows(index: Any, vectors: NDArray[np.float32]) -> None:
    """Put rows [n, width] into a trained index."""
    inner, own = apply_rotation(index, vectors)
    inner.add(own)
    index.ntotal = inner.ntotal


def read_faiss(path: Path, *, mapped: bool) -> Any:
    """Read an index. The caller has compared the file's sha256 with its record.

    Args:
        path: the file.
        mapped: map its inverted lists instead of loading them.

    Returns:
        The FAISS index.

    Raises:
        Damaged: FAISS cannot read the file.
    """
    faiss = load_faiss()
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if mapped else 0
    try:
        return faiss.read_index(str(path), flags | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
    except RuntimeError as error:
        raise Damaged(path, f"cannot be read ({faiss_message(error)})", "build the index again") from None


def faiss_message(error: Exception) -> str:
    """The message of a FAISS error, without the place in FAISS's sources."""
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return text.rpartition("Error: ")[2][:200]


def prepare_vectors(vectors: NDArray[np.floating], metric: Metric) -> NDArray[np.float32]:
    """Bring vectors into the form an index holds: unit length for the cosine, unchanged for the distance.

    A zero vector stays zero, so its similarity to every vector is 0.

    Args:
        vectors: [n, d].
        metric: of the pool.

    Returns:
        float32 [n, width], with zeros beyond d.
    """
    out = np.zeros((len(vectors), padded_width(vectors.shape[1])), np.float32)
    for start in range(0, len(vectors), CODE_ROWS):  # unit lengths are computed in float64
        some = vectors[start : start + CODE_ROWS]
        out[start : start + CODE_ROWS, : vectors.shape[1]] = unit_rows(some) if metric == "cosine" else some
    return out
