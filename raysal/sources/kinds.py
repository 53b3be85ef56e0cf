"""Which files the sources take, by suffix, and which others look like items.

The lists are constants, because a listing gives the items their ids: it must be the same on every machine, whatever is
installed there. A file of a listed kind that cannot be decoded here is quarantined with its reason. Suffixes are lower
case here; those of files may be in any case.
"""

from __future__ import annotations

import re

FITS = (".fits", ".fit", ".fts", ".fits.fz")
IMAGE_FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "FITS": FITS,
    "GIF": (".gif",),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "MPO": (".mpo",),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Formats of pictures that people have and Pillow reads (HEIF with pillow-heif), and their suffixes."""
IMAGES = tuple(sorted(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes))
"""The suffixes of a folder of images."""
SOUNDS = (".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wave")
"""The suffixes of sounds that raysal reads."""
FIRST_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")
"""What `IMAGES` was in pools that do not record it."""

PARQUET = (".parquet", ".pq")
IPC = (".arrow", ".feather", ".ipc")
TABLES = (*PARQUET, *IPC)
NPY = ".npy"
"""A matrix of vectors. Beside tables or images it is passed over."""
HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
ZARR = ".zarr"
"""A folder of this suffix is a Zarr store: one file of arrays, as one of `HDF5` is."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""{suffix: what separates the fields}."""
JSON_LINES = (".jsonl", ".ndjson")
TEXT_LISTS = (*SEPARATORS, *JSON_LINES)
"""Files that a folder of texts consists of. (In a folder, `.json` is mostly a side file.)"""
TEXTS = (*TEXT_LISTS, ".json")
"""Files that hold a text in each row."""

SHARD = ".tar"
"""Suffix of the shards of WebDataset."""
STATE, SPLITS = "state.json", "dataset_dict.json"
"""Files by which a data set that Hugging Face's `datasets` saved is known, and one of several splits."""


def _suffixes(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


OTHER_IMAGES = _suffixes("""
    ai bpg cin cur cut dcm dcx dds djvu dpx emf eps exr flif gbr hdp hdr icns ico im jls jng jp3 jpm jxl jxr kra mng msp
    pcd pict pct psb psd pxr ras rgb rgba svg svgz wdp wmf xbm xcf xpm xwd
    3fr ari arw bay cap cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw orf pef ptx r3d raf raw rw2
    rwl rwz sr2 srf srw x3f
    czi lif lsm mha mhd mrc mrxs nd2 ndpi nii nrrd scn svs vms vsi fits.gz fit.gz nii.gz
""")
"""Suffixes of pictures that raysal does not read: of programs, of cameras, of microscopes and other instruments."""
OTHER_SOUNDS = _suffixes("3gp aac ac3 amr ape au caf dsf dff m4a m4b mid midi mka mp2 mpc ra snd tta voc w64 wma wv")
"""Suffixes of sounds that raysal does not read."""
OTHER_TABLES = _suffixes("avro h5 hdf hdf5 he5 lance npy npz orc tfrecord parquet.gz arrow.gz arrow.zst")
"""Suffixes of tables of vectors or images that are not read beside others."""
OTHER_TEXTS = frozenset(f"{suffix}{packed}" for suffix in TEXT_LISTS for packed in (".gz", ".bz2", ".xz", ".zst"))
"""Suffixes of lists of texts that raysal does not read."""
PACKED_SHARDS = tuple(sorted(_suffixes("tar.gz tar.bz2 tar.xz tar.zst tar.lz4 tgz tbz2 txz")))
"""Suffixes of shards that cannot be read by position."""

_SIDE = _suffixes("""
    txt md rst html htm xml json yaml yml toml ini cfg csv tsv jsonl ndjson xls xlsx ods log py ipynb sh bat js css m r
    tex bib pdf doc docx odt rtf ppt pptx db sqlite sql lnk url
    xmp aae thm lrv exif iptc md5 sha1 sha256 sha512 sfv par2 asc sig crc idx zip tar gz tgz bz2 xz zst 7z rar
    mp3 wav flac m4a mp4 mov avi mkv webm m4v mpg mpeg gpx kml geojson shp
    pt pth ckpt pkl pickle safetensors onnx pb tmp part crdownload download lock
""")
"""Suffixes of files that are known to be no pictures, so that nobody looks into them."""
_COMPOUND = (
    *OTHER_TEXTS,
    *(suffix for suffix in (*IMAGES, *OTHER_IMAGES, *OTHER_TABLES, *PACKED_SHARDS) if suffix.count(".") > 1),
)
_PLAIN = re.compile(r"\.(?=[a-z0-9_~-]*[a-z])[a-z0-9_~-]{1,12}")

_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"qoif",
    b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"SIMPLE  =",
)  # fmt: skip
"""How files of JPEG, PNG, GIF, TIFF, BigTIFF, QOI, JPEG 2000 and FITS begin."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in lower case, with its dot; "" where there is none.

    What follows the last dot is no suffix where it is a number, a longer text, or has other characters than a suffix
    has. So the number of different suffixes in a folder stays small.

    Args:
        name: the name, or a path that ends in it.

    Returns:
        The suffix, as `.jpg` or `.csv.gz`.
    """
    name = name.lower()
    dot = name.rfind(".")
    if dot < 1:
        return ""
    suffix = name[dot:]
    if suffix in (".gz", ".bz2", ".xz", ".zst", ".lz4", ".fz"):
        return next((whole for whole in _COMPOUND if name.endswith(whole)), suffix)
    return suffix if _PLAIN.fullmatch(suffix) else ""


def may_be_picture(suffix: str) -> bool:
    """Whether a file of this suffix, which no source takes, has to be looked into to know that it is no picture."""
    return suffix not in _SIDE and suffix not in _COMPOUND


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture of a format that raysal reads, by its first 16 bytes."""
    return (
        head.startswith(_MAGIC)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS)
        or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0")
    )
