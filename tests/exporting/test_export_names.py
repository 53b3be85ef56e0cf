"""Names of files for keys: one for each, none climbs or hides, and the key comes back."""

from __future__ import annotations

import string
from pathlib import PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from raysal.exporting.names import LONGEST, SUFFIXES, file_path, folder_name, key_of, sample_name

ODD = [
    "",
    ".",
    "..",
    "~",
    "%",
    "%.",
    "%2E",
    "a.jpg",
    "a",
    "A.JPG",
    ".png",
    "a.png.png",
    "é",
    "猫",
    "\n",
    "\0",
    "\\",
    " ",
    "x%2Fy",
]
PARTS = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(bool)
KIND = st.sampled_from(sorted(SUFFIXES))


@given(keys=st.lists(st.tuples(KEYS, KIND), unique_by=lambda pair: pair[0], max_size=12))
@settings(max_examples=100)
def test_every_key_has_a_name_of_its_own_from_which_it_is_read(keys: list[tuple[str, str]]) -> None:
    paths = [file_path(key, suffix) for key, suffix in keys]
    samples = [sample_name(key) for key, _ in keys]
    assert len({*paths}) == len({*samples}) == len(keys)
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    assert not folders & {*paths}, "a file is where a folder has to be"
    for (key, suffix), path, sample in zip(keys, paths, samples, strict=True):
        assert path.lower().endswith(suffix)
        assert key_of(path) == key
        assert key_of(sample) == key
        assert not {*sample} - {*string.ascii_letters, *string.digits, *"-_%"}, "WebDataset cuts names at dots"
        parts = path.split("/")
        assert all(part and not part.startswith(".") and not {*part} & {*"\\\n\0"} for part in parts)


def test_a_plain_key_stays_as_it_is() -> None:
    for key in ("cat.jpg", "a/b/c 1.JPG", "2024-01/ä ö/n1.tiff"):
        assert file_path(key, f".{key.rpartition('.')[2].lower()}") == key
    assert file_path("cat", ".png") == "cat%.png"
    assert folder_name("cat") == "cat"
    assert folder_name("../etc") == "%2E.%2Fetc"


def test_long_names_are_cut_and_stay_apart() -> None:
    long = ["猫" * 400 + end for end in ("a", "b", "a.png")] + [
        "/".join("x" * 90 for _ in range(60)) + end for end in "ab"
    ]
    for names in ([file_path(key, ".png") for key in long], [sample_name(key) for key in long]):
        assert len({*names}) == len(long)
        assert all(len(part.encode()) <= LONGEST + 5 for name in names for part in name.split("/"))
    assert len({folder_name(key) for key in long}) == len(long)
