"""What items look like: bounded, small, cached, and nothing outside of the pool's items."""

from __future__ import annotations

import io
import threading
import tracemalloc
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import packed
from numpy.typing import NDArray
from page_server import page_of
from PIL import Image
from pools import make_pool
from served_runs import picture_pool, wav

from raysal.embedding.job import embed
from raysal.embedding.precomputed import Precomputed
from raysal.errors import BadItem, RaysalError
from raysal.pool import Pool, open_pool
from raysal.rounds.session import Session
from raysal.sounds import open_sound
from raysal.sources.npy import Npy
from raysal.spectrograms import SPECTROGRAM_BYTES, WINDOW, spectrogram, spectrogram_png
from raysal.web import payloads as payloads_module
from raysal.web.catalogue import Catalogue, Entry
from raysal.web.media import CACHE_BYTES, PIXEL_BYTES, ROOM_BYTES, Gate, Media, full_size, pixels_of
from raysal.web.payloads import Payloads


def shown_of(pool: Pool, folder: Path | None = None) -> tuple[Catalogue, Media, Payloads]:
    payloads = Payloads(pool, folder)
    return Catalogue(pool), Media(pool, payloads), payloads


def entry_of(pool: Pool, key: str) -> Entry:
    return Catalogue(pool).entries([pool.ids_of([key])[key]]).popitem()[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return open_pool(picture_pool(tmp_path_factory.mktemp("pictures"), 12, sides=(300, 200)))


def test_a_catalogue_knows_every_item_and_no_other(tmp_path: Path):
    vectors = np.eye(11, 4)
    pool = make_pool(tmp_path / "pool", vectors, chunk_rows=3, labels=[f"l{i}" for i in range(11)], missing=[0, 4, 10])
    catalogue = Catalogue(pool, room=1)  # one chunk at a time
    wanted = [9, 0, 1, 4, 10, 11, -1, 1 << 40, 2]
    found = catalogue.entries(wanted)
    assert {id: entry.key for id, entry in found.items()} == {9: "item-000009", 1: "item-000001", 2: "item-000002"}
    assert list(found) == [9, 1, 2]
    assert catalogue.carried(9) == {"label": "l9"}
    assert catalogue.carried(4) == {}


def test_a_picture_is_that_of_its_id_and_fits_its_square(pictures: Pool):
    catalogue, media, _ = shown_of(pictures)
    for id, entry in catalogue.entries(range(12)).items():
        small = media.picture(entry, 100, small=True)
        image = Image.open(io.BytesIO(small.data))
        assert image.size == (128, 85)
        assert int(np.argmax(np.asarray(image.convert("RGB")).mean(axis=(0, 1)))) == id % 3
        assert (small.media_type, image.format) == ("image/jpeg", "JPEG")
        whole = Image.open(io.BytesIO(media.picture(entry, 4096, small=False).data))
        assert whole.size == (300, 200)
        assert whole.format == ("JPEG" if entry.key.endswith("jpg") else "PNG")
        assert media.sizes[id] == (300, 200)


def test_a_picture_is_made_once_and_its_tag_is_of_the_item_and_the_pool(pictures: Pool):
    catalogue, media, payloads = shown_of(pictures)
    one, two = catalogue.entries([1, 2]).values()
    first = media.picture(one, 256, small=True)
    payloads.read = None  # type: ignore[assignment,method-assign]
    assert media.picture(one, 200, small=True) is first
    assert media.etag(1, "x") != media.etag(2, "x")
    assert first.etag == media.etag(1, "thumb256")
    with pytest.raises(TypeError):
        media.picture(two, 256, small=True)


def test_the_cache_stays_within_its_bound(pictures: Pool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raysal.web.media.CACHE_BYTES", 60_000)
    catalogue, media, _ = shown_of(pictures)
    for entry in catalogue.entries(range(12)).values():
        media.picture(entry, 64, small=True)
        assert sum(len(kept.data) for kept in media._packed.values()) == media._bytes <= 60_000
    assert media._packed
    assert CACHE_BYTES > 60_000


def test_a_broken_picture_is_said_of_that_item_alone_and_forgotten_when_it_is_mended(tmp_path: Path):
    pool = open_pool(picture_pool(tmp_path, 4))
    file = tmp_path / "images" / "some" / "0002.png"
    good = file.read_bytes()
    _, media, payloads = shown_of(pool)
    entry = entry_of(pool, "some/0002.png")
    for data, problem in ((good[:100], "decoded|identif|trunc|format"), (b"", "empty"), (b"text", "not an image")):
        file.write_bytes(data)
        payloads._read.clear()
        with pytest.raises(BadItem, match=problem):
            media.picture(entry, 64, small=True)
        assert media.broken.keys() == {entry.id}
        assert str(tmp_path) not in media.broken[entry.id]
    file.unlink()
    payloads._read.clear()
    with pytest.raises(BadItem, match="cannot be read"):
        media.picture(entry, 64, small=True)
    file.write_bytes(good)
    payloads._read.clear()
    assert media.picture(entry, 64, small=True).data
    assert media.broken == {}
    (tmp_path / "images").rename(tmp_path / "moved")
    payloads._read.clear()
    with pytest.raises(RaysalError):
        media.picture(entry, 128, small=True)


def test_a_picture_that_is_too_large_is_refused_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pool = open_pool(picture_pool(tmp_path, 2))
    media = shown_of(pool)[1]
    bomb = packed(Image.new("L", (12_000, 12_000)), "PNG")
    assert len(bomb) < 200_000
    (tmp_path / "images" / "some" / "0000.png").write_bytes(bomb)
    with pytest.raises(BadItem, match="too large"):
        media.picture(entry_of(pool, "some/0000.png"), 64, small=True)
    monkeypatch.setattr(payloads_module, "MAX_BYTES", 1000)
    (tmp_path / "images" / "some" / "0001.jpg").write_bytes(bytes(1001))
    with pytest.raises(BadItem, match="1001 bytes"):
        media.picture(entry_of(pool, "some/0001.jpg"), 64, small=True)


def test_heads_say_how_many_pixels_there_will_be():
    assert full_size(packed(Image.new("RGB", (30, 20)), "JPEG")) == (30, 20)
    assert pixels_of(np.zeros((4, 5, 3), np.uint8)) == 20
    assert full_size(b"no image") is None
    assert pixels_of(b"no image") == media_most()


def media_most() -> int:
    from raysal.embedding.decode import MAX_PIXELS

    return MAX_PIXELS


def test_pictures_that_are_decoded_together_stay_below_the_limit():
    gate, lock, inside, most = Gate(10), threading.Lock(), 0, 0

    def work(amount: int) -> None:
        nonlocal inside, most
        for _ in range(200):
            with gate.room(amount):
                with lock:
                    inside += min(amount, 10)
                    most = max(most, inside)
                with lock:
                    inside -= min(amount, 10)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (3, 4, 6, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert most <= 10


def test_what_is_large_waits_for_nothing_that_comes_later():
    gate, order = Gate(10), list[str]()

    def come(name: str, amount: int) -> threading.Thread:
        def work() -> None:
            with gate.room(amount):
                order.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def came(count: int) -> None:
        with gate._changed:
            assert gate._changed.wait_for(lambda: len(gate._waiting) + len(order) == count, 60)

    with gate.room(4):
        threads = [come("large", 10)]
        came(1)
        threads.append(come("small", 1))
        came(2)
        assert order == [], "there is room for the small one, and it is not its turn"
    for thread in threads:
        thread.join(60)
    assert order == ["large", "small"]


def test_sounds_and_pictures_wait_at_the_same_gate(tmp_path: Path):
    pool = vector_pool(tmp_path, ["a.wav", "b.png"])
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "b.png").write_bytes(packed(Image.new("RGB", (9, 7)), "PNG"))
    catalogue, media, _ = shown_of(pool)
    entries = catalogue.entries(range(2))
    asked: list[int] = []

    class Noted(Gate):
        def room(self, amount: int) -> Any:
            asked.append(amount)
            return super().room(amount)

    media._gate = Noted(ROOM_BYTES)
    media.spectrogram(entries[0])
    media.picture(entries[1], 64, small=True)
    assert asked == [SPECTROGRAM_BYTES, PIXEL_BYTES * 63]


def vector_pool(folder: Path, keys: list[str]) -> Pool:
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", np.eye(len(keys), 8, dtype=np.float32))
    (folder / "keys.txt").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    embed(Npy(path=folder / "vectors.npy", keys=folder / "keys.txt"), Precomputed(), folder / "pool")
    return open_pool(folder / "pool")


def test_keys_of_ready_vectors_may_name_files_beside_them_and_none_outside(tmp_path: Path):
    (tmp_path / "secret.wav").write_bytes(wav())
    keys = ["a.wav", "../secret.wav", "b.png", "c", str(tmp_path / "secret.wav"), "link.wav", "."]
    pool = vector_pool(tmp_path / "data", keys)
    (tmp_path / "data" / "a.wav").write_bytes(wav())
    (tmp_path / "data" / "b.png").write_bytes(packed(Image.new("RGB", (9, 7)), "PNG"))
    (tmp_path / "data" / "link.wav").symlink_to(tmp_path / "secret.wav")
    catalogue, media, payloads = shown_of(pool)
    entries = catalogue.entries(range(7))
    kinds = ["sound", "sound", "image", "vector", "sound", "sound", "vector"]
    assert [payloads.kind(entry, False) for entry in entries.values()] == kinds
    assert payloads.kind(entries[3], True) == "table"
    assert media.sound(entries[0])[0].read_bytes() == wav()
    assert Image.open(io.BytesIO(media.picture(entries[2], 64, small=True).data)).size == (9, 7)
    for id in (1, 4, 5):
        with pytest.raises(BadItem, match="leads out"):
            media.sound(entries[id])
        with pytest.raises(BadItem, match="leads out"):
            media.spectrogram(entries[id])
    elsewhere = shown_of(pool, tmp_path)[1]
    assert elsewhere.sound(Entry(4, "secret.wav", None))[0].read_bytes() == wav()


def test_texts_are_those_of_their_ids_however_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payloads_module, "UNITS_BYTES", 1)
    from test_shown import text_pool

    pool = text_pool(tmp_path, 23)
    catalogue, media, payloads = shown_of(pool)
    entries = catalogue.entries(range(23))
    for id in (3, 22, 0, 11, 12, 4):
        assert media.text(entries[id]) == f"the text of number {id} " + "x" * 400
        assert len(payloads._units) == 1
    assert media.text(entries[5], 10).endswith("…")


def test_a_sound_is_sent_in_the_pieces_that_a_player_asks_for(tmp_path: Path):
    pool = vector_pool(tmp_path, ["a.wav", "b.wav", "c.wav"])
    sound = wav(seconds=3)
    (tmp_path / "a.wav").write_bytes(sound)
    (tmp_path / "b.wav").write_bytes(b"no sound at all")
    with Session(tmp_path / "run", pool.path):
        pass
    with page_of(tmp_path / "run") as page, page.browser() as browser:
        for asked, piece in ((None, sound), ("bytes=0-", sound), ("bytes=7-20", sound[7:21]), ("bytes=-9", sound[-9:])):
            answer = browser.get("/api/item/0/sound", headers={} if asked is None else {"Range": asked})
            assert (answer.status_code, answer.content) == (200 if asked is None else 206, piece)
            assert answer.headers["content-type"] == "audio/wav"
        assert browser.get("/api/item/0/sound", headers={"Range": f"bytes={len(sound)}-"}).status_code == 416
        assert browser.refused("/api/item/1/sound")[0] == 422
        assert browser.refused("/api/item/2/sound")[0] == 422
        assert browser.get("/api/item/0/spectrogram").headers["content-type"] == "image/png"


def whole(samples: NDArray[np.float32]) -> tuple[Any, int]:
    """Samples in memory, as `spectrogram` asks for them."""
    return lambda start, count: samples[start : start + count], len(samples)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_is_read_and_stands_at_its_height(
    tmp_path: Path, width: int, channels: int, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.wav").write_bytes(wav(hertz=1000, rate=8000, width=width, channels=channels))
    with open_sound("a", tmp_path / "a.wav") as sound:
        assert (sound.rate, sound.frames) == (8000, 2000)
        samples = sound.samples(0, 2000)
        assert 0.7 < np.abs(samples).max() <= 1
        monkeypatch.setattr("raysal.sounds.BLOCK_BYTES", 100)
        np.testing.assert_array_equal(sound.samples(70, 500), samples[70:570])
        picture = spectrogram(sound.samples, sound.frames, bands=128)
    np.testing.assert_array_equal(picture, spectrogram(*whole(samples), bands=128))
    assert picture.shape == (128, (2000 - WINDOW) // (WINDOW // 4) + 1)
    loudest = 127 - picture.astype(int).sum(axis=1).argmax()  # of 128 bands up to 4000 Hz, from below
    assert loudest == pytest.approx(128 * 1000 / 4000, abs=1.5)


def test_a_long_sound_of_many_channels_takes_no_more_memory_than_a_short_one(tmp_path: Path):
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((64, 2, 48_000, 0, "NONE", ""))
        for _ in range(48):
            file.writeframes(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert Image.open(io.BytesIO(spectrogram_png("a", path))).size == (900, 256)
        assert tracemalloc.get_traced_memory()[1] < SPECTROGRAM_BYTES
    finally:
        tracemalloc.stop()


def test_a_head_that_names_more_than_there_is_adds_no_silence(tmp_path: Path):
    said = wav(seconds=0.5)
    (tmp_path / "a.wav").write_bytes(said[: len(said) // 2])
    with open_sound("a", tmp_path / "a.wav") as sound:
        assert sound.frames == (len(said) // 2 - 44) // 2


def test_silence_and_what_is_no_sound(tmp_path: Path):
    assert spectrogram(*whole(np.zeros(3, np.float32))).max() == 0
    wide = bytearray(wav(width=4))
    wide[34:36] = (64).to_bytes(2, "little")  # bits of a sample
    for data in (b"", b"RIFF", wav()[:30], wav()[:44], b"text" * 100, bytes(wide)):
        (tmp_path / "a.wav").write_bytes(data)
        with pytest.raises(BadItem, match=r"a\.wav"):
            spectrogram_png("a.wav", tmp_path / "a.wav")
