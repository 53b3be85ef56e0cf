"""What the encoders that run a torch image model share: placing, fingerprinting and running the model."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysal.embedding.precision import Precision, computing_in
from raysal.errors import EncoderError, RaysalError
from raysal.store import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
"""Numbers of `mallopt`, from malloc.h."""

RESIZE = "stretched to a square, Pillow bicubic"
FAST_RESIZE = (
    "JPEG at the smallest scale of 1, 1/2, 1/4 or 1/8 from twice the size on; stretched to a square, torch bicubic"
)
"""What `decode.fast_square_pixels` does, for the fingerprint."""


def place_model(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Put a model on a device, in evaluation mode, with its weights laid out channels-last.

    Channels-last is 1.5 to 2.3 times as fast for EfficientNet-Lite0 on one CPU core (64 and 224 pixels).

    Args:
        model: changed in place.
        device: in torch's words, as `cpu` or `cuda:1`.

    Returns:
        The same model.

    Raises:
        EncoderError: the device cannot be used.
    """
    import torch

    try:
        placed: torch.nn.Module = model.eval().requires_grad_(False).to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises an AssertionError
        raise EncoderError("device", f"{device!r} cannot be used ({error})", "pass --device cpu") from None
    # The stubs of torch give no overload for `memory_format` alone.
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def keep_freed_memory() -> None:
    """Let this process keep freed memory for the next batch. It does nothing without glibc.

    By default, glibc gives large blocks back to the system on every free. The system then zeroes their pages again
    for each layer: 20 to 30 % of the time of EfficientNet-Lite0 at 64 pixels, and two thirds of a job at 224, where a
    layer is larger than any block that glibc would keep (measured 2026-11).
    """
    _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))  # no block is mapped by itself; the heap does not shrink


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """`keep_freed_memory` inside the block; after it free memory goes back, and glibc has its usual largest limits."""
    keep_freed_memory()
    try:
        yield
    finally:
        if _mallopt((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20)):
            ctypes.CDLL(None).malloc_trim(0)


def _mallopt(*settings: tuple[int, int]) -> bool:
    """Set parameters of the allocator; whether it is glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    for parameter, value in settings:
        mallopt(parameter, value)
    return True


def weights_sha256(model: torch.nn.Module) -> str:
    """Hex sha256 over the names, types, shapes and bytes of a model's weights and buffers, in name order."""
    import torch

    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        state.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        state.update(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return state.hexdigest()


def fingerprint_of(model: torch.nn.Module, preprocessing: Mapping[str, Any]) -> str:
    """The fingerprint of an encoder: hex sha256 over its weights and its preprocessing."""
    return digest_of({"weights": weights_sha256(model), "preprocessing": dict(preprocessing)})


def measured_dim(name: str, encode: Callable[[list[NDArray[np.uint8]]], NDArray[np.float32]], size: int) -> int:
    """Length of a vector, found by encoding one grey image. What a model says of itself may be another number.

    Args:
        name: of the encoder, for errors.
        encode: images uint8 [size, size, 3] to vectors.
        size: side of an image in pixels.

    Returns:
        The length d of the one vector [1, d].

    Raises:
        EncoderError: the model fails on this image, or does not return one vector for it.
        RaysalError: the encoder itself says what is wrong.
    """
    try:
        vectors = encode([np.full((size, size, 3), 128, np.uint8)])
    except RaysalError:
        raise
    except Exception as error:  # somebody else's code
        problem = f"fails on a grey image of {size} pixels ({type(error).__name__}: {error})"
        raise EncoderError(name, problem, "try another --size, or another model") from error
    if vectors.ndim != 2 or len(vectors) != 1 or vectors.shape[1] == 0:
        raise EncoderError(name, f"returned {vectors.shape} for one image, expected (1, d)")
    return int(vectors.shape[1])


def one_vector_each(name: str, out: torch.Tensor) -> torch.Tensor:
    """Check that a model has pooled its features.

    Args:
        name: of the encoder, for the error.
        out: what it returned for n images.

    Returns:
        The vectors [n, d].

    Raises:
        EncoderError: it returned neither [n, d] nor [n, d, 1, 1], but a map or a sequence of features for each image.
    """
    import torch

    if not isinstance(out, torch.Tensor):
        raise EncoderError(name, f"returned {type(out).__name__}, not one vector for each image")
    if out.ndim < 2 or any(side != 1 for side in out.shape[2:]):
        raise EncoderError(name, f"returned {tuple(out.shape)}, not [n, d]", "choose a model that pools")
    return out


def run_model(
    features: Callable[[torch.Tensor], torch.Tensor],
    pixels: Sequence[NDArray[np.uint8]],
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
    passes: int = 1,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """Normalise images and run a model on them.

    [n, h, w, c] viewed as [n, c, h, w] is the channels-last layout at no cost. One line of pixels is normalised at a
    time: over a last axis of 3 the same values take six times as long.

    Args:
        features: the model, or a function of it; takes float32 [n, 3, size, size].
        pixels: n images uint8 [size, size, 3].
        mean: what is subtracted from each channel, in units of 0..255.
        std: what each channel is divided by after that, in the same units.
        device: where the model is.
        passes: how many pieces to run the batch in, one after the other.
        precision: of the products of the model.

    Returns:
        Vectors float32 [n, d].

    Raises:
        ConfigError: this CPU has no instructions for the precision.
    """
    import torch

    width = pixels[0].shape[1]
    with torch.inference_mode(), computing_in(precision, device):
        found = []
        for part in np.array_split(np.stack(pixels), passes):
            batch = torch.from_numpy(part).to(torch.device(device)).float()
            lines = batch.view(-1, 3 * width)
            lines.sub_(torch.tensor(mean, device=batch.device).repeat(width))
            lines.div_(torch.tensor(std, device=batch.device).repeat(width))
            out = features(batch.permute(0, 3, 1, 2))
            found.append(out.flatten(1).float().cpu().numpy())
    return found[0] if passes == 1 else np.concatenate(found)
