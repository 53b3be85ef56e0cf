"""A folder of sounds: what is read, what is refused by name, the picture that an encoder gets, and the pool of it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_tools import cli, refused
from numpy.typing import NDArray
from pool_files import quarantined
from served_runs import wav
from tiers import deep_unless

from raysal.config import Choice
from raysal.embedding import ENCODERS
from raysal.embedding.queries import encoder_of_pool
from raysal.embedding.recorded import encoder_fields
from raysal.embedding.spectrogram import Spectrogram
from raysal.errors import BadItem, ConfigError, EncoderError
from raysal.labels.formats.base import Sheet
from raysal.labels.formats.label_studio import labeling_config, task_of
from raysal.pool import Pool, open_pool
from raysal.report.thumbnails import read_gallery
from raysal.sounds import format_of, open_sound, read_sound
from raysal.sources import detect_source
from raysal.spectrograms import MEL_BANDS, RANGE_DB, log_mel, mel_filters
from raysal.web.catalogue import Catalogue
from raysal.web.media import Media
from raysal.web.payloads import Payloads

soundfile = pytest.importorskip("soundfile")

FORMATS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mpeg": "MP3", "aiff": "AIFF"}
INSIDE = "torch:tiny_models:weighted"


def noise(frames: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Noise that gets louder, float32 [channels, frames]."""
    found = np.random.default_rng(seed).uniform(-0.4, 0.4, (channels, frames)) * np.linspace(0.2, 1, frames)
    return found.astype(np.float32)


def packed(waveform: NDArray[Any], rate: int = 16000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.T, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def tone(hertz: float, rate: int, seconds: float = 0.5) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_its_samples(kind: str, channels: int, tmp_path: Path) -> None:
    given = noise(9000, channels)
    data = packed(given, kind=FORMATS[kind])
    assert format_of(data[:12]) == kind
    waveform, rate = read_sound("a", data)
    assert (rate, waveform.dtype, waveform.shape[0]) == (16000, np.float32, channels)
    exact = kind not in ("ogg", "mpeg")
    if exact:
        np.testing.assert_allclose(waveform, given, atol=2.0**-15)
    assert np.corrcoef(waveform.mean(0)[:9000], given.mean(0))[0, 1] > (0.9999 if exact else 0.5)
    (tmp_path / "a").write_bytes(data)
    with open_sound("a", tmp_path / "a") as sound:  # as the page reads it: parts, the channels together
        assert (sound.frames, sound.rate) == (waveform.shape[1], rate)
        np.testing.assert_allclose(sound.samples(100, 50), waveform.mean(0)[100:150], atol=1e-3)


def damaged() -> dict[str, tuple[bytes, str]]:
    whole, flac = packed(noise(4000)), packed(noise(40000), kind="FLAC")
    holes = noise(100)
    holes[0, 50] = np.nan
    return {
        "empty.wav": (b"", "empty file"),
        "garbage.mp3": (b"no sound at all", "not a sound of a known format"),
        "picture.wav": (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a sound of a known format"),
        "cut.wav": (whole[: len(whole) // 2], "cut short"),
        "cut.flac": (flac[: len(flac) // 2], "cut"),
        "head.flac": (flac[:20], "cannot be decoded"),
        "silent.wav": (packed(np.zeros((1, 0))), "no sound in this file"),
        "nan.wav": (packed(holes, subtype="FLOAT"), "not finite"),
    }


@pytest.mark.parametrize("name", damaged())
def test_a_damaged_sound_is_refused_by_name(name: str) -> None:
    data, reason = damaged()[name]
    with pytest.raises(BadItem) as caught:
        read_sound(f"the/{name}", data)
    assert caught.value.where == f"the/{name}"
    assert reason in caught.value.problem or (name == "cut.flac" and "decoded" in caught.value.problem)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "AIFF"])
def test_half_a_file_is_not_taken_for_the_whole(kind: str) -> None:
    """Of OGG nothing says how long the whole was."""
    data = packed(noise(60000), kind=kind)
    with pytest.raises(BadItem, match=r"cut short|cannot be decoded"):
        read_sound("a", data[: len(data) // 2])


def slow_log_mel(samples: NDArray[np.float32], rate: int, highest: int, bands: int, columns: int) -> NDArray[np.uint8]:
    """The same, one window after the other, by the definition."""
    window = min((2**n for n in range(4, 20)), key=lambda size: abs(np.log2(size) - np.log2(rate * 0.046)))
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    curve = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))
    spectra = []
    for start in range(0, len(samples) - window + 1, window // 4):
        spectra.append(np.abs(np.fft.rfft(samples[start : start + window].astype(np.float64) * curve)) ** 2)
    filters = mel_filters(window, rate, highest, bands)
    places = min(columns, len(spectra))
    cuts = [place * len(spectra) // places for place in range(places + 1)]
    columns_of = [spectra[cuts[place] : cuts[place + 1]] for place in range(places)]
    energy = np.stack([np.mean([spectrum @ filters for spectrum in some], axis=0) for some in columns_of])
    decibels = np.clip(10 * np.log10(np.maximum(energy / energy.max(), 1e-30)), -RANGE_DB, 0)
    return np.rint(255 * (1 + decibels / RANGE_DB)).astype(np.uint8).T[::-1]


CASES = [(20000, 8000), (300, 44100), (90000, 16000), (70000, 48000)]


@pytest.mark.parametrize(
    ("frames", "rate"),
    deep_unless([(20000, 8000), (300, 44100)], [(20000, 8000), (300, 44100), (90000, 16000), (70000, 48000)]),
)
def test_the_picture_is_that_of_the_definition(frames: int, rate: int) -> None:
    samples = noise(frames)[0]
    fast, slow = log_mel(samples, rate, 6000, 40, 30), slow_log_mel(samples, rate, 6000, 40, 30)
    assert fast.shape == slow.shape
    assert np.abs(fast.astype(int) - slow).max() <= 1
    assert fast.max() == 255


def test_one_sound_has_its_bands_whatever_its_rate() -> None:
    """Nothing is resampled: the axis is in Hz, so sounds of several rates can be compared."""
    rows = [int(log_mel(tone(1000, rate), rate, 8000).mean(1).argmax()) for rate in (8000, 11025, 16000, 44100, 96000)]
    assert max(rows) - min(rows) <= 1
    slow = log_mel(noise(8000)[0], 8000, 8000)
    mel = 2595 * np.log10(1 + np.array([4000, 8000]) / 700)
    empty = int(MEL_BANDS * (1 - mel[0] / mel[1])) - 2
    assert slow[:empty].max() == 0
    assert slow[empty + 6 :].mean() > 100


def test_a_picture_does_not_depend_on_how_loud_the_sound_is() -> None:
    samples = noise(20000)[0]
    one, other = log_mel(samples, 16000, 8000), log_mel(samples / 8, 16000, 8000)
    assert np.abs(one.astype(int) - other).max() <= 1
    assert log_mel(np.zeros(5000, np.float32), 16000, 8000).max() == 0


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("highest", [500, 4000])
def test_no_band_below_half_the_rate_is_empty(rate: int, highest: int) -> None:
    """Not even where bands are narrower than the distance of two frequencies of a transform."""
    window = 2 ** round(np.log2(rate * 0.046))
    assert (mel_filters(window, rate, highest, MEL_BANDS).sum(0) > 0).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "sounds"
    (place / "more").mkdir(parents=True)
    for number in range(6):
        (place / f"{number}.wav").write_bytes(wav(hertz=300.0 * (number + 1)))
    (place / "more" / "a.flac").write_bytes(packed(noise(5000, 2), kind="FLAC"))
    (place / "more" / "b.OGG").write_bytes(packed(noise(5000), kind="OGG"))
    (place / "cut.wav").write_bytes(wav()[:900])
    (place / "notes.txt").write_text("of a walk")
    return place


@pytest.fixture
def pool(folder: Path, tmp_path: Path) -> Pool:
    words = ("--encoder", f"spectrogram:{INSIDE}", "--size", 16, "--max-quarantine", 0.5)
    made = cli("embed", folder, "--out", tmp_path / "pool", *words)
    assert made.code == 0, made
    return open_pool(tmp_path / "pool")


def test_a_folder_of_sounds_becomes_a_pool(pool: Pool, folder: Path) -> None:
    assert (pool.manifest.modality, pool.manifest.source["name"], len(pool)) == ("sound", "sounds", 8)
    (lost,) = quarantined(pool.path).items()
    assert lost[0] == "cut.wav"
    assert lost[1][1].startswith("cut short: 900 bytes of ")
    encoder = encoder_of_pool(pool)  # made again from what the manifest says
    inside = Choice(name=INSIDE, size=16).build("encoder", ENCODERS)
    waveform, rate = read_sound("a", (folder / "more" / "a.flac").read_bytes())
    picture = log_mel(waveform.mean(0), rate, 8000)
    by_hand = inside.encode([inside.prepare("a", picture)])[0]
    id = pool.ids_of(["more/a.flac"])["more/a.flac"]
    assert isinstance(encoder, Spectrogram)
    held = pool.chunks[0].vectors()[list(pool.chunks[0].items(["id"])["id"].to_pylist()).index(id)]
    np.testing.assert_allclose(held.astype(np.float32), by_hand, rtol=2e-3, atol=1e-3)


def test_the_page_and_the_report_show_the_sounds_of_a_pool(pool: Pool, folder: Path) -> None:
    payloads = Payloads(pool)
    media, entries = Media(pool, payloads), Catalogue(pool).entries(pool.ids_of(["0.wav", "more/a.flac"]).values())
    kinds = {}
    for entry in entries.values():
        assert payloads.kind(entry, False) == "sound"
        assert media.spectrogram(entry).data.startswith(b"\x89PNG")
        path, kinds[entry.key] = media.sound(entry)
        assert path.read_bytes() == (folder / entry.key).read_bytes()
    assert kinds == {"0.wav": "audio/wav", "more/a.flac": "audio/flac"}
    shown = read_gallery(pool, {entry.id: entry.key for entry in entries.values()}).shown
    assert all((one.image or "").startswith("data:image/png") for one in shown.values())


def test_sounds_are_exported_with_their_bytes(pool: Pool, folder: Path, tmp_path: Path) -> None:
    keys = [f"{number}.wav" for number in range(6)] + ["more/a.flac", "more/b.OGG"]
    for form in ("webdataset", "parquet", "links"):
        made = cli("export", pool.path, "--as", form, "--out", tmp_path / form)
        assert made.code == 0, made
    with tarfile.open(next((tmp_path / "webdataset" / "data").rglob("*.tar"))) as shard:
        members = {member.name: shard.extractfile(member) for member in shard.getmembers()}
        media = {name: file.read() for name, file in members.items() if file and not name.endswith(".json")}
    assert sorted(media.values()) == sorted((folder / key).read_bytes() for key in keys)
    assert {name.rpartition(".")[2] for name in media} == {"wav", "flac", "ogg"}
    table = pq.read_table(next((tmp_path / "parquet" / "data").rglob("*.parquet")))
    assert b'"audio": {"_type": "Audio"}' in table.schema.metadata[b"huggingface"]
    assert {row["path"]: row["bytes"] for row in table["audio"].to_pylist()} == {
        key: (folder / key).read_bytes() for key in keys
    }
    refused(cli("export", pool.path, "--as", "coco", "--out", tmp_path / "coco"), "the items are sounds")


def test_label_studio_plays_them() -> None:
    schema = pa.schema([("key", pa.string())])
    sheet = Sheet(name="a", schema=schema, tables=list, modality="sound", classes=("bird",))
    config = labeling_config(sheet)
    assert '<Audio name="audio" value="$audio"/>' in config
    assert task_of(sheet, {"key": "0.wav", "uri": "/sounds/0.wav"})["data"]["audio"] == "/sounds/0.wav"


def test_what_a_folder_holds_decides_what_its_sounds_are(folder: Path, tmp_path: Path) -> None:
    """Beside vectors, texts or pictures they are what they were before there was a source of sounds."""
    assert detect_source(folder).modality == "sound"
    assert [key for unit in detect_source(folder).units(100) for key in unit.keys] == [
        "0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "cut.wav", "more/a.flac", "more/b.OGG",
    ]  # fmt: skip
    np.save(folder / "vectors.npy", np.eye(3, dtype=np.float32))
    assert detect_source(folder).modality == "vector"
    assert detect_source(folder / "**" / "*.wav").modality == "sound"


def test_what_is_handed_on_reaches_the_encoder_inside() -> None:
    plain = Choice(name=f"spectrogram:{INSIDE}").build("encoder", ENCODERS)
    other = Choice(name=f"spectrogram:{INSIDE}", size=20, precision="bfloat16", device="cpu:0").build(
        "encoder", ENCODERS
    )
    assert isinstance(plain, Spectrogram)
    assert isinstance(other, Spectrogram)
    inside = [(one.size, one.precision, one.device) for one in (plain.inside, other.inside)]  # type: ignore[attr-defined]
    assert inside == [(224, "float32", "cpu"), (20, "bfloat16", "cpu:0")]
    assert len({plain.fingerprint(), other.fingerprint()}) == 2
    mean = {"name": INSIDE, "mean": [0.1, 0.2, 0.3]}
    coloured = Choice(name="spectrogram", of=mean).build("encoder", ENCODERS)
    name, config = encoder_fields(coloured)
    again = Choice(name=name, **json.loads(json.dumps(config))).build("encoder", ENCODERS)
    assert again == coloured
    assert again.fingerprint() == coloured.fingerprint() != plain.fingerprint()
    with pytest.raises(ConfigError, match=r"encoder.of: .* takes sounds, and a spectrogram is a picture"):
        Choice(name="spectrogram:waveform:tiny_models:loudness").build("encoder", ENCODERS)


def test_a_callable_of_ones_own_gets_the_waveform_and_the_rate(folder: Path, tmp_path: Path) -> None:
    made = cli(
        "embed", folder, "--out", tmp_path / "own", "--encoder", "waveform:tiny_models:loudness", "--max-quarantine", 1
    )
    assert made.code == 0, made
    rows = open_pool(tmp_path / "own").chunks[0].vectors()
    assert rows.shape == (8, 17)
    np.testing.assert_allclose(rows[:6, -1], 0.25, atol=1e-3)  # seconds: frames of a file by its own rate
    np.testing.assert_allclose(rows[6, -1], 5000 / 16000, atol=1e-3)
    with pytest.raises(EncoderError, match="no callable 'absent'"):
        Choice(name="waveform:tiny_models:absent").build("encoder", ENCODERS).dim  # noqa: B018
    with pytest.raises(EncoderError, match=r"returned .* expected numbers \[d\]"):
        Choice(name="waveform:numpy:multiply").build("encoder", ENCODERS).encode([(noise(10), 8000)])
