"""Names of files for keys: each key has its own, none climbs out of the folder, and the key can be read from it.

`%XX` stands for a byte of UTF-8 that a name must not have, as in a URL; other letters stay. A suffix that the key lacks
is added after a `%`, which no other name has there: `cat` becomes `cat%.png`. So `cat.png` is the name of the key
`cat.png` alone. A name that would be longer than file systems take is cut, and ends in a digest of its key.
"""

from __future__ import annotations

import unicodedata
from hashlib import sha256
from urllib.parse import quote, unquote

from raysal.sources.kinds import IMAGES, SOUNDS, suffix_of

LONGEST = 200
"""Bytes of a name; file systems take 255, and a program that unpacks it may add some."""
LONGEST_PATH = 1_000
"""Bytes of a path below the folder; systems take 4,096 in all."""
SUFFIXES = frozenset((*IMAGES, *SOUNDS, ".txt", ".npy", ".bin"))
"""What the names of files end in, in small letters. No name of a folder does."""
_EMPTY, _CUT = "%", "%~"
"""The name of an empty part of a path; what stands before a digest."""
_MAGIC = (
    (b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r\n\x1a\n", ".png"), (b"GIF87a", ".gif"), (b"GIF89a", ".gif"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"II+\0", ".tif"), (b"MM\0+", ".tif"), (b"qoif", ".qoi"),
    (b"\0\0\0\x0cjP  ", ".jp2"), (b"\xff\x4f\xff\x51", ".j2k"), (b"SIMPLE  =", ".fits"), (b"BM", ".bmp"),
    (b"P1", ".pbm"), (b"P4", ".pbm"), (b"P2", ".pgm"), (b"P5", ".pgm"), (b"P3", ".ppm"), (b"P6", ".ppm"),
)  # fmt: skip


def suffix_for(key: str, content: bytes) -> str:
    """The suffix of a file, in small letters: its key's where that is one of pictures or sounds, else by how it begins.

    Args:
        key: of the item.
        content: of the file.

    Returns:
        The suffix with its dot, `.bin` where nothing is known.
    """
    own = suffix_of(key.rpartition("/")[2])
    if own in IMAGES or own in SOUNDS:
        return own
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp" and content[8:12] in (b"avif", b"avis"):
        return ".avif"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return ".heic"
    return next((suffix for magic, suffix in _MAGIC if content.startswith(magic)), ".bin")


def sample_name(key: str) -> str:
    """The name of a sample in a tar file, without its suffix. It has no dot and no slash: WebDataset cuts names there.

    Args:
        key: of the item.

    Returns:
        ASCII of at most `LONGEST` letters; `key_of` reads the key from it, unless it was cut.
    """
    name = quote(key, safe="").replace(".", "%2E").replace("~", "%7E")
    return name if len(name) <= LONGEST else _cut(name, key)


def file_path(key: str, suffix: str) -> str:
    """The path of an item's file below a folder. The folders in a key stay folders.

    Args:
        key: of the item.
        suffix: what the name has to end in, in small letters, with its dot; one of `SUFFIXES`.

    Returns:
        A relative path whose parts are neither empty nor hidden; `key_of` reads the key from it, unless it was cut.
    """
    *folders, name = key.split("/")
    safe = _plain(name)
    if suffix_of(name) != suffix:
        safe = f"{safe}%{suffix}"
    if len(safe.encode()) > LONGEST:
        safe = f"{_cut(safe, key)}{suffix}"
    path = "/".join([*map(folder_name, folders), safe])
    return path if len(path.encode()) <= LONGEST_PATH else f"{_cut('', key)}{suffix}"


def folder_name(text: str) -> str:
    """The name of a folder for a part of a key, or for a class. It never ends as the name of a file does."""
    safe = _plain(text) or _EMPTY
    stem, dot, suffix = safe.rpartition(".")
    if dot and f".{suffix.lower()}" in SUFFIXES:
        safe = f"{stem}%2E{suffix}"
    return safe if len(safe.encode()) <= LONGEST else _cut(safe, text)


def key_of(path: str) -> str:
    """The key that a path of `file_path`, or a name of `sample_name`, is of; not of one that was cut.

    Args:
        path: as it was made.

    Returns:
        The key.
    """
    *folders, name = path.split("/")
    own, added, _ = name.partition("%.")
    parts = [*folders, own if added else name]
    return "/".join("" if part == _EMPTY else unquote(part) for part in parts)


def _plain(name: str) -> str:
    """A part of a path: without what no system takes, what shells or sums of files stumble over, and a dot in front."""
    safe = "".join(quote(letter, safe="") if _is_odd(letter) else letter for letter in name)
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def _is_odd(letter: str) -> bool:
    return letter in "%\\/" or unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


def _cut(name: str, key: str) -> str:
    """The beginning of a name, and the digest of its key."""
    digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    kept = name.encode()[: LONGEST - 64].decode("utf-8", "ignore")
    return f"{kept.rpartition('%')[0] if '%' in kept[-2:] else kept}{_CUT}{digest}"
