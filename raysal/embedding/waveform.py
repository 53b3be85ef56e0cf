"""The encoder `waveform`: a callable of the user's own that takes the samples of one sound."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysal.errors import EncoderError
from raysal.sounds import read_sound
from raysal.store import digest_of

Sound = tuple[NDArray[np.float32], int]
PROBE_RATE = 16000
"""Of the sound that finds the length of a vector: one second of silence in one channel."""


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """`waveform:<module>:<callable>`: it takes (waveform float32 [channels, n], rate), and returns a vector [d].

    The rate is that of the file, in samples a second: nothing is resampled. The fingerprint covers the text of the
    module and `version`; whoever changes weights that the module loads from elsewhere gives another `version`.
    """

    arg: str
    version: str = ""

    @property
    def modality(self) -> Literal["sound"]:
        """Always `sound`."""
        return "sound"

    @property
    def dim(self) -> int:
        """Length of a vector, found by a second of silence."""
        return _dim(self.arg)

    def preprocessing(self) -> Mapping[str, Any]:
        """What the callable is given, and the version, as JSON-able values."""
        return {"given": "waveform float32 [channels, n], rate of the file", "version": self.version}

    def fingerprint(self) -> str:
        """Hex sha256 over the name, the text of its module, and the version."""
        try:
            text = inspect.getsource(_module(self.arg))
        except (OSError, TypeError):
            fix = "write a module of Python around it"
            raise EncoderError(f"waveform:{self.arg}", "the text of its module cannot be read", fix) from None
        source = hashlib.sha256(text.encode()).hexdigest()
        return digest_of({"callable": self.arg, "source": source, "preprocessing": dict(self.preprocessing())})

    def prepare(self, key: str, payload: Any) -> Sound:
        """The waveform float32 [channels, n], and the rate."""
        return read_sound(key, payload)

    def encode(self, prepared: Sequence[Sound]) -> NDArray[np.floating[Any]]:
        """Vectors [n, d]; the callable gets one sound after the other."""
        return np.stack([_vector(self.arg, sound) for sound in prepared])


def _vector(name: str, sound: Sound) -> NDArray[np.floating[Any]]:
    found = np.asarray(load_callable(name)(*sound))
    if found.ndim != 1 or found.dtype.kind not in "fiu" or not len(found):
        raise EncoderError(f"waveform:{name}", f"returned {found.dtype} {found.shape}, expected numbers [d]")
    return found.astype(np.float32) if found.dtype != np.float64 else found


@lru_cache(maxsize=4)
def _dim(name: str) -> int:
    return len(_vector(name, (np.zeros((1, PROBE_RATE), np.float32), PROBE_RATE)))


@lru_cache(maxsize=4)
def load_callable(name: str) -> Callable[[NDArray[np.float32], int], Any]:
    """The user's callable.

    Args:
        name: `<module>:<callable>`.

    Returns:
        What is there.

    Raises:
        EncoderError: the module or the callable does not exist, or cannot be called.
    """
    attribute = name.partition(":")[2]
    found = getattr(_module(name), attribute, None)
    if not callable(found):
        raise EncoderError(f"waveform:{name}", f"the module has no callable {attribute!r}", "check the name")
    called: Callable[[NDArray[np.float32], int], Any] = found
    return called


def _module(name: str) -> ModuleType:
    where, _, attribute = name.partition(":")
    if not where or not attribute:
        fix = "for example waveform:my_sounds:vector_of"
        raise EncoderError(f"waveform:{name}", "expected waveform:<module>:<callable>", fix)
    try:
        return importlib.import_module(where)
    except ImportError as error:
        fix = "check the name, and that Python finds the module"
        raise EncoderError(f"waveform:{name}", str(error), fix) from error
