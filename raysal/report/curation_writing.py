"""Write the report of a pool that was curated: as HTML, as JSON, or both into a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from raysal.curation.curated import Curated
from raysal.errors import ConfigError, OutputExists
from raysal.paths import pool_around
from raysal.store import dumps, write_output

FORMS = (".html", ".json")
NAME = "curation"
"""Of the files in a folder."""


def check_place(out: Path, overwrite: bool) -> list[Path]:
    """Look at where a report is to be written, before any work is done.

    Args:
        out: an .html file, a .json file, or a folder, there or not.
        overwrite: files that are there may be replaced.

    Returns:
        The files that will be written.

    Raises:
        ConfigError: the file has another extension, or the directory that it is to be in does not exist.
        OutputExists: a file is there, and is no report; or the report would lie in a pool.
    """
    files = [out]
    if out.suffix.lower() not in FORMS:
        if out.suffix and not out.is_dir():
            raise ConfigError(out, f"unknown extension {out.suffix!r}", "use .html, .json, or a folder for both")
        files = [out / f"{NAME}{form}" for form in FORMS]
        if out.is_file():
            raise OutputExists(out, "is a file, and no folder", "name another folder")
    if not out.absolute().parent.is_dir():
        raise ConfigError(out, "its directory does not exist", f"make {out.absolute().parent}")
    for file in files:
        if file.is_dir():
            raise OutputExists(file, "is a folder", "name another file")
        if (pool := pool_around(file)) is not None:
            raise OutputExists(file, f"lies in the pool {pool}, whose files are its own", "name another place")
        if file.exists() and not overwrite and not is_curation_report(file):
            raise OutputExists(file)
    return files


def write_curation_report(found: Curated, out: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write the report of a pool that was curated.

    The same result gives the same bytes. A report that is there is replaced; another file is only with `overwrite`, and
    kept as `NAME.1`, `NAME.2` ...

    Args:
        found: what became of the items.
        out: an .html file, a .json file, or a folder for both (`curation.html`, `curation.json`), made if need be.
        overwrite: replace files that are there and are no reports.

    Returns:
        The files.

    Raises:
        ConfigError: the file has another extension, or the directory that it is to be in does not exist.
        OutputExists: another file is there, and `overwrite` is false; or the report would lie in a pool.
    """
    from raysal.report.curation import curation_report

    out = Path(out)
    files = check_place(out, overwrite)
    made = curation_report(found)
    content = {".html": made.html.encode("utf-8"), ".json": (dumps(made.data) + "\n").encode("utf-8")}
    if out.suffix.lower() not in FORMS:
        out.mkdir(exist_ok=True)
    for file in files:
        write_output(file, partial(_write, content[file.suffix.lower()]), overwrite=True, disposable=is_curation_report)
    return files


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def is_curation_report(path: Path) -> bool:
    """Whether a file is a report of a curation, in either form; a file that people changed is one, too."""
    with open(path, "rb") as file:
        start = file.read(65536)
    return (b"items are kept" in start[:4096] and b" \xc2\xb7 raysal</title>" in start) or start.startswith(
        b'{"raysal": '
    )
