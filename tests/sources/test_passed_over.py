"""Each file below a folder is an item or is counted as passed over: none is both, and none is neither."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiers import deep_unless
from trees import LOOK_LIKE_ITEMS, Tree, picture, plant

from raysal.errors import BadItem, ConfigError, SourceError
from raysal.sources import SOURCES, detect_source
from raysal.sources.base import PassesOver
from raysal.sources.files import Files
from raysal.sources.folder import Folder
from raysal.sources.kinds import (
    IMAGE_FORMATS,
    IMAGES,
    OTHER_IMAGES,
    OTHER_TABLES,
    TABLES,
    TEXTS,
    is_picture,
    suffix_of,
)
from raysal.sources.rules import HIDDEN, INSIDE, NO_SUFFIX, ODD_NAME, OTHER_SUFFIXES, SPECIAL, UNREADABLE
from raysal.sources.table import Table
from raysal.sources.text import Text

FULL = 10**6


def keys(source: Folder | Table | Text, chunk_rows: int = FULL) -> list[str]:
    return [key for unit in source.units(chunk_rows) for key in unit.keys]


@pytest.mark.parametrize("seed", deep_unless((0, 1, 2), range(12)))
def test_every_file_is_an_item_or_is_counted(tmp_path: Path, seed: int) -> None:
    tree = plant(tmp_path, seed)
    every = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert every == {*tree.items, *tree.passed}, "the tree is as it says"
    source = Folder(path=tmp_path)
    for chunk_rows in (1, 7, FULL):
        assert keys(source, chunk_rows) == sorted(tree.items)
    passed = source.passed_over()
    assert passed.counts == Counter(tree.passed.values())
    assert (passed.taken, passed.lost, passed.unreadable) == (len(tree.items), len(tree.lost), False)
    assert passed.share == len(tree.lost) / (len(tree.lost) + len(tree.items))
    for group, names in passed.examples.items():
        assert {tree.passed[name] for name in names} == {group}
        assert len(names) == min(3, passed.counts[group])
        assert f"{passed.counts[group]} {group} ({names[0]}" in str(passed) or len(passed.counts) > 8
    assert str(passed).startswith(f"{len(tree.passed)} files passed over: ")


@pytest.mark.parametrize("seed", [0])
def test_the_contents_of_listed_files_arrive(tmp_path: Path, seed: int) -> None:
    tree = plant(tmp_path, seed)
    for unit in Folder(path=tmp_path).units(9):
        for item in Folder(path=tmp_path).read(unit):
            assert item.payload == (tree.root / item.key).read_bytes()
            assert item.uri == str(tree.root / item.key)


def test_only_the_folder_itself_is_read_without_recursion(tmp_path: Path) -> None:
    tree = plant(tmp_path, 1)
    source = Folder(path=tmp_path, recursive=False)
    assert keys(source) == sorted(key for key in tree.items if "/" not in key)
    passed = source.passed_over()
    inside = {name for name in (*tree.items, *tree.passed) if "/" in name and not name.startswith(".")}
    assert passed.counts["in folders inside"] == len(inside)
    assert sum(passed.counts.values()) + passed.taken == len(tree.items) + len(tree.passed)
    assert passed.lost == sum("/" not in name for name in tree.lost)


def test_a_raw_file_beside_its_picture_is_a_copy(tmp_path: Path) -> None:
    for name in ("IMG_1.JPG", "IMG_1.CR2", "img_2.nef", "IMG_3.svg", "sub/IMG_3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    passed = Folder(path=tmp_path).passed_over()
    assert passed.counts == {".cr2": 1, ".nef": 1, ".svg": 1}
    assert (passed.taken, passed.lost) == (2, 2)


def test_links_pipes_and_empty_files(tmp_path: Path) -> None:
    """A link to nothing is an item that cannot be read; a pipe would never end."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.png").write_bytes(b"")
    (root / "dangling.png").symlink_to(root / "nothing")
    (root / "dangling.txt").symlink_to(root / "nothing")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "up").symlink_to(root)
    (root / "again").symlink_to(root / "sub")
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(root / "plug.jpg"))
    source = Folder(path=root)
    assert keys(source) == ["again/a.png", "circle.png", "dangling.png", "sub/a.png"]
    passed = source.passed_over()
    assert passed.counts == {".txt": 1, "not a regular file": 2}
    assert passed.lost == 0
    payloads = [item.payload for unit in source.units(9) for item in source.read(unit)]
    assert [isinstance(payload, BadItem) for payload in payloads] == [False, True, True, False]


@pytest.mark.parametrize("place", ["bad\udcff.png", "folder\udcfe/a.png"])
def test_a_name_that_is_no_text_is_passed_over_by_name(tmp_path: Path, place: str) -> None:
    for name in (place, "good.png", "also \udcff.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    passed = Folder(path=tmp_path).passed_over()
    assert keys(Folder(path=tmp_path)) == ["good.png"]
    assert passed.counts == {"name not UTF-8": 2}
    assert passed.lost == 1
    assert place.replace("\udcff", "\\xff").replace("\udcfe", "\\xfe") in str(passed)


def test_a_root_whose_name_is_no_text_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "r\udcff"
    root.mkdir()
    (root / "a.png").write_bytes(b"1")
    ((item,),) = [list(Folder(path=root).read(unit)) for unit in Folder(path=root).units(5)]
    assert (item.payload, item.uri) == (b"1", str(tmp_path / "r\\xff" / "a.png"))


def test_letters_that_a_terminal_obeys_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n.txt").write_text("")
    (tmp_path / "a.png").write_text("")
    assert "a\\x1b[31m\\n.txt" in str(Folder(path=tmp_path).passed_over())


def test_a_folder_that_cannot_be_listed_is_a_loss_of_unknown_size(tmp_path: Path) -> None:
    """Here its path is too long for the system."""
    (tmp_path / "a.png").write_bytes(b"")
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
    finally:
        os.chdir(here)
    passed = Folder(path=tmp_path).passed_over()
    assert keys(Folder(path=tmp_path)) == ["a.png"]
    assert passed.counts == {"unreadable folder": 1}
    assert passed.share == 1


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder outside of the user's own, while the process may read no folder that is closed to others."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    if os.getuid() == 0:
        os.seteuid(65534)
    yield root
    if os.getuid() == 0:
        os.seteuid(0)
    for folder in root.iterdir():
        if folder.is_dir():
            folder.chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.parametrize(("name", "share"), [("shut", 1), ("lost+found", 0), (".Trash-0", 0)])
def test_a_folder_without_permission(nobody: Path, name: str, share: float) -> None:
    if os.getuid() == 0:
        os.seteuid(0)
    (nobody / name).mkdir()
    (nobody / "a.png").write_bytes(b"")
    (nobody / name / "b.png").write_bytes(b"")
    (nobody / name).chmod(0o000)
    if os.getuid() == 0:
        os.seteuid(65534)
    assert keys(Folder(path=nobody)) == ["a.png"]
    passed = Folder(path=nobody).passed_over()
    assert passed.counts == {"hidden" if name.startswith(".") else "unreadable folder": 1}
    assert passed.share == share


def test_an_error_that_may_pass_stops_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder left out, and there the next time, ids would shift."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"")
    scan = os.scandir

    def failing(path: bytes) -> os.ScandirIterator[bytes]:
        if os.path.basename(path) == b"sub":
            raise OSError(errno.EIO, "Input/output error")
        return scan(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(SourceError, match=r"sub: cannot be listed \(Input/output error\)"):
        keys(Folder(path=tmp_path))


def test_folders_may_be_nested_more_deeply_than_calls(tmp_path: Path) -> None:
    prefix = "d/" * 1100
    for depth in range(1, 1101):
        os.mkdir(tmp_path / prefix[: 2 * depth])
    (tmp_path / prefix / "a.png").write_bytes(b"")
    assert keys(Folder(path=tmp_path)) == [prefix + "a.png"]
    (tmp_path / prefix / "a.png").unlink()
    for depth in range(1100, 0, -1):  # what removes the folders of tests calls itself for each
        os.rmdir(tmp_path / prefix[: 2 * depth])


def test_the_number_of_groups_is_bounded(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"a.x{number}").write_text("")
    (tmp_path / "a.png").write_text("")
    passed = Folder(path=tmp_path).passed_over()
    assert len(passed.counts) <= 101
    assert sum(passed.counts.values()) == 300
    assert str(passed).endswith("of other kinds")


# kinds


NO_PICTURES = frozenset((
    ".blp", ".bufr", ".fli", ".flc", ".ftc", ".ftu", ".grib", ".iim", ".mpg", ".mpeg", ".palm", ".pdf", ".ps", ".icb",
    ".vda", ".vst", ".bw",
))  # fmt: skip
"""Suffixes that Pillow registers, and that mean something else in most folders."""


def test_what_pillow_reads_is_taken_or_known() -> None:
    Image.init()
    for suffix, form in Image.registered_extensions().items():
        taken = suffix in IMAGE_FORMATS.get(form, ())
        assert taken or suffix in {*OTHER_IMAGES, *OTHER_TABLES, *NO_PICTURES}, (suffix, form)
    assert not set(IMAGES) & OTHER_IMAGES
    assert not {*IMAGES, *TABLES} & set(TEXTS)


@pytest.mark.parametrize("suffix", IMAGES)
def test_images_of_every_suffix_are_known_by_content(suffix: str, tmp_path: Path) -> None:
    """Written by Pillow, if it writes this kind; so a renamed file would be noticed."""
    form = next(form for form, suffixes in IMAGE_FORMATS.items() if suffix in suffixes)
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"Pillow writes no {form}")
    file = tmp_path / "picture"
    Image.new("F" if suffix == ".pfm" else "RGB", (3, 3)).save(file, form)
    known = form not in ("DIB", "PPM", "PCX", "TGA", "SGI")  # these have no mark that other files cannot have
    assert is_picture(file.read_bytes()[:16]) is known


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.JPG", ".jpg"),
        ("a", ""),
        (".jpg", ""),
        ("a.", ""),
        ("a.1", ""),
        ("a.b c", ""),
        ("a.fits.gz", ".fits.gz"),
        ("a.tar.gz", ".tar.gz"),
        ("a.CSV.ZST", ".csv.zst"),
        ("a.jpg~", ".jpg~"),
        ("a." + "x" * 13, ""),
        ("d.x/a", ""),
    ],
)
def test_suffixes(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


@pytest.mark.parametrize("suffixes", [("png",), (".PNG",), ("",)])
def test_suffixes_are_written_as_they_are_compared(tmp_path: Path, suffixes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"source.suffixes.*lower case, with the dot"):
        Folder(path=tmp_path, suffixes=suffixes)


def test_the_page_lists_what_is_taken() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
    for kind, suffixes in {"image": IMAGES, "table": TABLES, "texts": TEXTS}.items():
        (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", page, flags=re.MULTILINE)
        assert sorted(row.split()) == sorted(f"`{suffix}`" for suffix in suffixes)
    for group in (HIDDEN, INSIDE, NO_SUFFIX, ODD_NAME, UNREADABLE, SPECIAL, OTHER_SUFFIXES):
        assert f"| `{group}` |" in page


# tables and texts


def table(file: Path, *names: str, **columns: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    vectors = pa.array([[float(len(name)), 1.0] for name in names], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"key": list(names), "vector": vectors, **columns}), file)


def test_tables_below_a_directory_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for place in ("b.PARQUET", "a/z.pq", "a-b/y.parquet", "a/b/x.parquet"):
        table(tmp_path / place, f"in {place}")
    for other in ("_SUCCESS", "_log/00.parquet", "a/.x.parquet", "a/notes.txt", "labels.csv", "c.avro", "d.npz"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("")
    source = detect_source(tmp_path)
    assert isinstance(source, Table)
    assert keys(source, 3) == [f"in {place}" for place in ("a-b/y.parquet", "a/b/x.parquet", "a/z.pq", "b.PARQUET")]
    passed = source.passed_over()
    assert passed.counts == {"hidden": 3, ".txt": 1, ".csv": 1, ".avro": 1, ".npz": 1}
    assert (passed.taken, passed.lost) == (4, 2)
    assert keys(Table(path=tmp_path, recursive=False)) == ["in b.PARQUET"]


def test_folders_of_hive_are_columns(tmp_path: Path) -> None:
    table(tmp_path / "year=2023" / "city=K%C3%B6ln" / "a.parquet", "a", "b")
    table(tmp_path / "year=2024" / "city=__HIVE_DEFAULT_PARTITION__" / "b.parquet", "c")
    table(tmp_path / "year=2025" / "city=x" / "c.parquet", "d", city=["its own"])
    source = detect_source(tmp_path, carry=["year", "city"])
    for chunk_rows in (1, 2, 9):
        items = [item for unit in source.units(chunk_rows) for item in source.read(unit)]
        assert [(item.key, item.carried["year"], item.carried["city"]) for item in items] == [
            ("a", "2023", "Köln"), ("b", "2023", "Köln"), ("c", "2024", None), ("d", "2025", "its own"),
        ]  # fmt: skip
    with pytest.raises(SourceError, match=r"no column 'month'; its columns: key, vector, year, city"):
        list(Table(path=tmp_path, carry=("month",)).units(3))


@pytest.mark.parametrize("depth", ["", "x/", "x/y/"])
@pytest.mark.parametrize("other", ["", "z/w/"])
def test_tables_and_images_are_not_mixed_at_any_depth(tmp_path: Path, depth: str, other: str) -> None:
    table(tmp_path / depth / "t.parquet", "a")
    (tmp_path / other).mkdir(parents=True, exist_ok=True)
    (tmp_path / other / "p.PNG").write_bytes(b"")
    with pytest.raises(SourceError, match=rf"tables and images \({depth}t.parquet, {other}p.PNG\).*by a pattern"):
        detect_source(tmp_path)
    assert isinstance(detect_source(tmp_path / "**" / "*.parquet"), Table)
    assert isinstance(detect_source(tmp_path / "**" / "*.[Pp][Nn][Gg]"), Folder)
    counted = Table(path=tmp_path).passed_over(), Folder(path=tmp_path).passed_over()
    assert [(passed.counts, passed.lost) for passed in counted] == [({".png": 1}, 1), ({".parquet": 1}, 1)]


def test_a_folder_with_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no images in this folder; check"):
        keys(detect_source(tmp_path))
    for name in ("a.txt", "b.svg", "c.svg"):
        (tmp_path / name).write_text("")
    with pytest.raises(SourceError, match=r"no images in this folder; 3 files passed over: 2 .svg \(b.svg, c.svg\), 1"):
        keys(detect_source(tmp_path))


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.tsv").write_text("key\ttext\n3\tc\n")
    (tmp_path / "b.CSV").write_text("key,text\n2,b\n")
    (tmp_path / "a.jsonl").write_text('{"key": 1, "text": "a"}\n')
    for name in ("info.json", "README.md", "more.jsonl.gz", "_x.txt"):
        (tmp_path / name).write_text("")
    source = detect_source(tmp_path)
    assert isinstance(source, Text)
    assert keys(source, 2) == ["1", "2", "3"]
    passed = source.passed_over()
    assert passed.counts == {".json": 1, ".md": 1, ".jsonl.gz": 1, ".txt": 1}
    assert (passed.taken, passed.lost) == (3, 1)
    with_json = detect_source(tmp_path / "*.j*")
    (tmp_path / "info.json").write_text('[{"key": 9, "text": "i"}]')
    assert keys(with_json) == ["1", "9"]


def test_a_change_of_any_text_changes_the_fingerprint(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"key,text\n{name},x\n")
    seen = {Text(path=tmp_path).fingerprint(), Text(path=tmp_path / "a.csv").fingerprint()}
    (tmp_path / "b.csv").write_text("key,text\nb.csv,y\n")
    seen.add(Text(path=tmp_path).fingerprint())
    (tmp_path / "b.csv").rename(tmp_path / "c.csv")
    seen.add(Text(path=tmp_path).fingerprint())
    assert len(seen) == 4


def test_every_source_with_a_path_counts(tmp_path: Path) -> None:
    tree = plant(tmp_path, 0, files=3)
    for name in SOURCES:
        if "path" in SOURCES[name].__dataclass_fields__ and name != "lance":  # type: ignore[attr-defined]
            asked: dict[str, dict[str, Any]] = {
                "boxes": {"boxes": "boxes"},
                "cutouts": {"catalogue": tmp_path / "c.csv", "size": 3},
            }
            source = SOURCES[name](path=tree.root, **asked.get(name, {}))  # type: ignore[call-arg]
            assert isinstance(source, PassesOver)
            assert source.passed_over().counts


def test_one_file_passes_over_nothing(tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", "a")
    (tmp_path / "other.parquet").write_bytes(b"")
    assert Table(path=tmp_path / "t.parquet").passed_over().counts == {}


def test_looking_like_an_item_does_not_depend_on_the_order(tmp_path: Path) -> None:
    tree: Tree = plant(tmp_path, 5)
    files = Files(path=tmp_path, takes=IMAGES, items=OTHER_IMAGES, pictures=False)
    expected = {n for n in tree.lost if n.lower().endswith(LOOK_LIKE_ITEMS) and suffix_of(n) in OTHER_IMAGES}
    assert files.passed_over().lost == len(expected)
    assert np.isclose(files.passed_over().share, len(expected) / (len(expected) + len(tree.items)))
