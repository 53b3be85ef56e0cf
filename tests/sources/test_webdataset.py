"""Samples of WebDataset shards: as the package `webdataset` reads them, or quarantined by name, or counted."""

from __future__ import annotations

import io
import os
import random
import tarfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from changing_sources import Bytes
from tiers import deep_unless

from raysal.embedding.job import embed
from raysal.errors import BadItem, ConfigError, DuplicateKeys, PassedOverExceeded, SourceError
from raysal.pool import open_pool
from raysal.pool.quarantine import quarantine_of
from raysal.sources import SOURCES, check_keys, detect_source
from raysal.sources import shards as shards_module
from raysal.sources.base import OfFiles, PassesOver, Stamped
from raysal.sources.tar import members_of
from raysal.sources.webdataset import CUT, NO_SAMPLE, WebDataset
from raysal.types import Item
from raysal.web.catalogue import Entry
from raysal.web.payloads import Payloads

FULL = 10**6
Members = Iterable[tuple[str, bytes]]


def write(path: Path, members: Members, format: int = tarfile.USTAR_FORMAT) -> Path:
    """An archive with members in this order, as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def items(source: Any, chunk_rows: int = FULL) -> list[Item]:
    return [item for unit in source.units(chunk_rows) for item in source.read(unit)]


def good(source: Any) -> dict[str, Any]:
    return {item.key: item.payload for item in items(source) if not isinstance(item.payload, BadItem)}


def bad(source: Any) -> dict[str, str]:
    return {item.key: item.payload.problem for item in items(source) if isinstance(item.payload, BadItem)}


def test_samples_are_those_that_the_package_reads(tmp_path: Path) -> None:
    """Keys with dots and folders, several endings, upper case: written and read by `webdataset` itself."""
    rows = [
        {"__key__": key, ending: f"{key} {ending}".encode(), "cls": number, "json": {"width": number, "by": {"x": [1]}}}
        for number, (key, ending) in enumerate(
            [("a", "jpg"), ("b/c", "png"), ("v1.2/d", "JPEG"), ("e f", "webp"), ("g", "jpg"), ("lang/ü", "jpg")]
        )
    ]
    with wds.ShardWriter(f"{tmp_path}/s-%02d.tar", maxcount=4, verbose=0) as sink:
        for row in rows:
            sink.write(row | {"seg.png": b"mask", "txt": f"text {row['cls']}"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its files to the garbage collector
        read = list(wds.WebDataset([str(p) for p in sorted(tmp_path.glob("*.tar"))], shardshuffle=False))
    assert len(read) == len(rows), "the package reads what it wrote"
    source = detect_source(tmp_path, carry=("cls", "json.width", "json.by.x", "json", "txt", "vtt"))
    assert isinstance(source, WebDataset)
    assert source.modality == "image"
    found = items(source, 3)
    assert [item.key for item in found] == [sample["__key__"] for sample in read]
    for item, sample, row in zip(found, read, rows, strict=True):
        ending = next(e for e in ("jpg", "png", "jpeg", "webp") if e in sample)
        assert item.payload == sample[ending]
        written = next(name for name in row if name.lower() == ending)
        assert item.uri == f"{tmp_path}/{os.path.basename(sample['__url__'])}#{row['__key__']}.{written}"
        assert item.carried == {
            "cls": str(row["cls"]), "json.width": str(row["cls"]), "json.by.x": "[1]",
            "json": sample["json"].decode(), "txt": f"text {row['cls']}", "vtt": None,
        }  # fmt: skip
    assert {item.payload for item in items(WebDataset(path=tmp_path, image_column="seg.png"))} == {b"mask"}
    assert [item.payload for item in items(WebDataset(path=tmp_path, text_column="txt"))][2] == "text 2"


FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


@pytest.mark.parametrize("seed", deep_unless((0, 1, 2, 3), range(40)))
def test_members_are_those_of_tarfile(tmp_path: Path, seed: int) -> None:
    """The fast reader of headers, against Python's: long and odd names, owners, times, links, holes, devices."""
    draw = random.Random(seed)
    path = tmp_path / "a.tar"
    form = FORMATS[seed % 3]
    with tarfile.open(
        path, "w", format=form, pax_headers={"comment": "all"} if form == tarfile.PAX_FORMAT else None
    ) as t:
        for number in range(40):
            folder = draw.choice(["", "d/", "x" * 90 + "/", "./", "é/"])
            name = f"{folder}{number}.{draw.choice(['jpg', 'seg.png', 'json'])}"
            if form != tarfile.USTAR_FORMAT and draw.random() < 0.2:
                name = "y" * draw.choice([99, 100, 101, 255, 300, 1000]) + name
            info = tarfile.TarInfo(name)
            info.mtime = draw.choice([0, 1.5, 2**34]) if form == tarfile.PAX_FORMAT else 7
            info.uid = draw.choice([0, 2**22]) if form != tarfile.USTAR_FORMAT else 0
            kind = draw.choice(
                [tarfile.REGTYPE] * 5 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
            )
            info.type = kind
            data = draw.randbytes(draw.choice([0, 1, 511, 512, 513, 3000])) if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(data), "0.jpg" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            t.addfile(info, io.BytesIO(data))
    file = os.open(path, os.O_RDONLY)
    found = list(members_of(file))
    os.close(file)
    with tarfile.open(path) as archive:
        expected = [info for info in archive if not info.isdir() and not info.isfifo()]
    assert [(m.name, m.offset, m.size) for m in found] == [(i.name, i.offset_data, i.size) for i in expected]
    assert [bool(m.problem) for m in found] == [not info.isreg() for info in expected]


def test_a_shard_cut_anywhere_loses_nothing_silently(tmp_path: Path) -> None:
    """Cut at each block and beside it: what is whole is an item, what is torn is named, and the shard is counted."""
    whole = write(tmp_path / "w.tar", [(f"{k}.{e}", (k + e).encode() * 300) for k in "abc" for e in ("jpg", "txt")])
    data = whole.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    source = WebDataset(path=tmp_path / "cut.tar", carry=("txt",))
    expected = good(WebDataset(path=whole))
    for at in sorted({place + shift for place in range(0, end + 1024, 512) for shift in (0, 1, 300)}):
        (tmp_path / "cut.tar").write_bytes(data[:at])
        source = WebDataset(path=tmp_path / "cut.tar", carry=("txt",))
        try:
            found, told = items(source), ""
        except SourceError as error:
            found, told = [], str(error)
        assert found or "no samples in these shards; 1 file passed over: 1 not read to the end (cut.tar: it" in told
        for item in found:
            if not isinstance(item.payload, BadItem):
                assert (item.payload, item.carried["txt"]) == (expected[item.key], f"{item.key}txt" * 300)
            else:
                assert item is found[-1]
                assert "within" in item.payload.problem
        passed = source.passed_over()
        assert (passed.counts, passed.share) == ({CUT: 1}, 1.0), at
        assert [item.key for item in found] == list("abc")[: len(found)]
    (tmp_path / "cut.tar").write_bytes(data[: end + 1024])
    assert not WebDataset(path=tmp_path / "cut.tar").passed_over().counts


def test_each_damaged_header_is_noticed(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "w.tar", [("a.jpg", b"1" * 600), ("b.jpg", b"2")]).read_bytes())
    header = 512 * 3
    for place in (0, 100, 130, 148, 156, 257, 400):
        torn = bytearray(data)
        torn[header + place] ^= 1
        (tmp_path / "t.tar").write_bytes(torn)
        source = WebDataset(path=tmp_path / "t.tar")
        assert good(source) == {"a": b"1" * 600}
        assert source.passed_over().examples[CUT] == (f"t.tar: a damaged header at byte {header}",)


def test_what_no_member_should_be_is_quarantined_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "MAX_BYTES", 1000)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:

        def add(name: str, data: bytes = b"x", **fields: Any) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))

        add("good.jpg")
        add("../climb.jpg")
        add("/etc/absolute.jpg")
        add("a/../../b.jpg")
        add("link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("hard.jpg", b"", type=tarfile.LNKTYPE, linkname="good.jpg")
        add("folder", b"", type=tarfile.DIRTYPE)
        add("large.jpg", b"x" * 1001)
        add("two.jpg")
        add("two.JPG")
        add("several.jpg")
        add("several.png")
        add("none.json", b"{}")
        add("odd\udcff.jpg")
        add("README")
        add("a/.hidden.jpg")
        add("__index__/index.json")
        add("last.jpg")
    source = WebDataset(path=path)
    assert good(source) == {"good": b"x", "last": b"x"}
    found = bad(source)
    for key, problem in {
        "../climb": "leads out", "/etc/absolute": "leads out", "a/../../b": "leads out",
        "link": "'link.jpg': is a link to '/etc/passwd'", "hard": "is a link to 'good.jpg'; pack the files themselves",
        "large": "1001 bytes, at most 1000", "two": "two members .jpg", "several": "several images (.jpg, .png)",
        "none": "no image among its members; it has .json", "odd\\xff": "not UTF-8",
    }.items():  # fmt: skip
        assert problem in found.pop(key), key
    assert not found
    passed = source.passed_over()
    assert passed.counts == {NO_SAMPLE: 3}
    assert passed.examples == {NO_SAMPLE: ("a.tar#README", "a.tar#a/.hidden.jpg", "a.tar#__index__/index.json")}
    assert passed.share == 0


def test_sparse_members_and_carried_values_that_are_none(tmp_path: Path) -> None:
    holes = tmp_path / "holes.jpg"
    with holes.open("wb") as file:
        for hole in range(1, 60):  # more than one header of old GNU can tell
            file.seek(hole << 16)
            file.write(b"data")
    sides = {
        "a": b"[1]",
        "b": b"{",
        "c": b'{"w": null, "v": "\xc3\xa9"}',
        "d": None,
        "e": b"\xff",
        "f": b'{"v": ["\\ud800"]}',
    }
    values = [(f"{k}.{e}", data) for k, side in sides.items() for e, data in (("jpg", b"x"), ("json", side)) if data]
    source = WebDataset(path=write(tmp_path / "a.tar", values), carry=("json.w", "json.v"))
    found = {item.key: item for item in items(source)}
    assert [key for key, item in found.items() if isinstance(item.payload, BadItem)] == ["a", "b", "e", "f"]
    assert found["c"].carried == {"json.w": None, "json.v": "é"}
    assert found["d"].carried == {"json.w": None, "json.v": None}
    for flags in (["--sparse", "--format=gnu"], ["--sparse", "--format=pax"]):
        os.spawnlp(
            os.P_WAIT, "tar", "tar", "-C", str(tmp_path), *flags, "-cf", str(tmp_path / "s.tar"), "holes.jpg", "a.tar"
        )
        sparse = WebDataset(path=tmp_path / "s.tar")
        assert "holes" in bad(sparse)["holes"]
        assert "no image" in bad(sparse)["a"]
        assert not sparse.passed_over().counts


def test_archives_that_cannot_be_read_by_position(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("a.jpg", b"1")])
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.tar")
    (tmp_path / "c.tar").write_bytes((tmp_path / "b.tar.gz").read_bytes())
    (tmp_path / "d.tar").write_bytes(b"<html>not found</html>" * 100)
    (tmp_path / "e.tar").write_bytes(b"")
    (tmp_path / "f.tar").write_bytes(bytes(10240))  # as `tar` writes an empty archive
    (tmp_path / "g.tar").write_bytes((tmp_path / "a.tar").read_bytes() * 2)  # cat a.tar a.tar
    (tmp_path / "h.tar").symlink_to(tmp_path / "nothing")
    (tmp_path / "i.tar").symlink_to(tmp_path / "i.tar")
    (tmp_path / "notes.txt").write_text("x")
    source = detect_source(tmp_path, key_column="shard")
    assert good(source) == {"a.tar/a": b"1", "g.tar/a": b"1"}
    assert isinstance(source, PassesOver)
    passed = source.passed_over()
    assert passed.counts == {".tar.gz": 1, ".txt": 1, CUT: 6}
    assert (passed.lost, passed.unreadable) == (1, True)
    for name, problem in {
        "c.tar": "it is packed by gzip: unpack it", "d.tar": "it is no tar archive",
        "e.tar": "it is empty", "h.tar": r"it cannot be read \(No such file",
        "i.tar": r"it cannot be read \(Too many levels",
    }.items():  # fmt: skip
        with pytest.raises(SourceError, match=f"no samples in these shards; 1 file passed over: .*{problem}"):
            items(WebDataset(path=tmp_path / name))
    assert "more follows behind its end mark" in str(WebDataset(path=tmp_path / "g.tar").passed_over())
    with pytest.raises(SourceError, match=r"b\.tar\.gz: is packed, and cannot be read by position; unpack it"):
        items(detect_source(tmp_path / "b.tar.gz"))
    with pytest.raises(SourceError, match="no samples"):
        items(WebDataset(path=tmp_path / "f.tar"))
    for name in ("a.tar", "c.tar", "d.tar", "e.tar", "f.tar", "g.tar", "h.tar", "i.tar", "notes.txt"):
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match=r"no \.tar shards here; 1 file passed over: 1 \.tar\.gz"):
        items(detect_source(tmp_path))


def test_a_folder_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    source = WebDataset(path=write(tmp_path / "odd\udcff" / "a.tar", [("a.jpg", b"1")]).parent)
    assert [(item.key, item.uri) for item in items(source)] == [("a", f"{tmp_path}/odd\\xff/a.tar#a.jpg")]


def test_the_same_key_in_two_shards_and_a_sample_that_is_split(tmp_path: Path) -> None:
    for name in ("a.tar", "sub/b.tar"):
        write(tmp_path / name, [("k.1.jpg", name.encode())])
    source = WebDataset(path=tmp_path, image_column="1.jpg")
    with pytest.raises(DuplicateKeys, match=r"duplicate keys: k; .*--key-column shard.*--sort=name"):
        check_keys(source, 10)
    by_shard = detect_source(tmp_path, key_column="shard", image_column="1.jpg")
    assert good(by_shard) == {"a.tar/k": b"a.tar", "sub/b.tar/k": b"sub/b.tar"}
    assert check_keys(by_shard, 1) == (2, 2)
    split = WebDataset(path=write(tmp_path / "split.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.json", b"{}")]))
    with pytest.raises(DuplicateKeys, match="duplicate keys: a;"):
        check_keys(split, 10)
    with pytest.raises(ConfigError, match="image_column and text_column are both given"):
        WebDataset(path=tmp_path, image_column="jpg", text_column="txt")


def test_keys_may_be_values_of_members(tmp_path: Path) -> None:
    """As an export writes them: a name that WebDataset does not cut, and the true key in the JSON."""
    ids = {"a": b'{"id": "x/y.jpg"}', "b": b'{"id": 7}', "c": b"{}", "d": None, "e": b"{", "f": b'{"id": ""}'}
    members = [(f"{k}.{e}", data) for k, side in ids.items() for e, data in (("jpg", b"1"), ("json", side)) if data]
    source = WebDataset(path=write(tmp_path / "t.tar", members), key_column="json.id", carry=("json.id",))
    assert good(source) == {"x/y.jpg": b"1", "7": b"1"}
    found = bad(source)
    assert list(found) == ["t.tar/c", "t.tar/d", "t.tar/e", "t.tar/f"]
    assert all(problem.startswith("its key json.id cannot be read: ") for problem in found.values())
    assert "not JSON" in found["t.tar/e"]


def test_what_a_folder_holds_decides_and_what_is_not_plain_is_asked(tmp_path: Path) -> None:
    write(tmp_path / "t" / "a.tar", [("a.txt", "é".encode()), ("b.txt", b"\xff")])
    source = detect_source(tmp_path / "t")
    assert (source.modality, good(source)) == ("text", {"a": "é"})
    assert "not UTF-8" in bad(source)["b"]
    write(tmp_path / "v" / "a.tar", [("a.npy", b"1"), ("a.cls", b"1")])
    with pytest.raises(SourceError, match=r"the first sample has \.npy, \.cls; choose one with --image-column"):
        assert detect_source(tmp_path / "v").modality
    for other in ("a.parquet", "a.csv"):
        (tmp_path / "t" / other).write_text("")
        with pytest.raises(SourceError, match=r"holds both (tables|texts) and shards \(.*'.*\*\*/\*\.tar'"):
            detect_source(tmp_path / "t")
        (tmp_path / "t" / other).unlink()
    (tmp_path / "t" / "a.jpg").write_text("")
    assert detect_source(tmp_path / "t") == SOURCES["folder"](path=tmp_path / "t"), "an archive beside images is a copy"
    assert isinstance(detect_source(str(tmp_path / "t" / "*.tar")), WebDataset)
    assert isinstance(detect_source(tmp_path / "t" / "a.tar"), WebDataset)


def test_new_shards_are_listed_alone_and_changes_are_noticed(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.tar", [(f"{name}{i}.jpg", f"{name}{i}".encode()) for i in range(3)])
    source = WebDataset(path=tmp_path)
    assert isinstance(source, OfFiles)
    assert isinstance(source, Stamped)
    files = list(source.files())
    assert [file.name for file in files] == ["a.tar", "b.tar", "c.tar"]
    units = list(source.units_in(["a.tar", "c.tar"], 4))
    assert [unit.keys for unit in units] == [("a0", "a1", "a2", "c0"), ("c1", "c2")]
    assert [list(source.spans(unit)) for unit in units] == [[("a.tar", 3), ("c.tar", 1)], [("c.tar", 2)]]
    assert [item.payload for unit in units for item in source.read(unit)] == [b"a0", b"a1", b"a2", b"c0", b"c1", b"c2"]
    assert not list(source.units_in([], 4))
    before, stamp = source.fingerprint(), source.stamp()
    write(tmp_path / "b.tar", [("b0.jpg", b"zz")])
    assert source.stamp().digest != stamp.digest
    assert [file for file in source.files() if file not in files] == [
        next(f for f in source.files() if f.name == "b.tar")
    ]
    write(tmp_path / "d.tar", [("d.jpg", b"1")])
    assert source.fingerprint() != before
    assert items(source)
    assert not source.passed_over().counts
    (tmp_path / "d.tar").write_bytes(b"")
    assert source.passed_over().counts == {CUT: 1}
    (tmp_path / "c.tar").write_bytes((tmp_path / "c.tar").read_bytes()[:700])
    unit = next(iter(source.units_in(["a.tar"], 9)))
    (tmp_path / "a.tar").unlink()
    assert all("cannot be read" in item.payload.problem for item in source.read(unit))


def test_a_pool_of_shards_is_made_and_its_items_are_shown_again(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "t" / f"{name}.tar", [(f"{name}{i}.jpg", f"{ord(name)}{i}".encode()) for i in range(4)])
    torn = tmp_path / "t" / "c.tar"
    torn.write_bytes(torn.read_bytes()[: 1024 * 2 + 513])  # within the data of the third one
    with pytest.raises(PassedOverExceeded, match=r"1 not read to the end \(c\.tar: it ends"):
        embed(
            WebDataset(path=tmp_path / "t"), Bytes(modality="image"), tmp_path / "pool", chunk_rows=3, max_quarantine=1
        )
    pool = open_pool(tmp_path / "pool")
    (broken,) = quarantine_of(tmp_path / "pool").rows
    assert (broken["key"], broken["error"]) == ("c2", "member 'c2.jpg': the archive ends within it")
    payloads = Payloads(pool)
    for id, key in ((9, "c1"), (0, "a0"), (5, "b1")):
        assert payloads.read(Entry(id, key, None)) == f"{ord(key[0])}{key[1]}".encode()
    embed(
        WebDataset(path=tmp_path / "t"),
        Bytes(modality="image"),
        tmp_path / "pool",
        chunk_rows=3,
        max_quarantine=1,
        max_passed_over=1,
    )
