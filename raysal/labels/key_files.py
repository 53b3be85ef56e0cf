"""A file of keys."""

from __future__ import annotations

from pathlib import Path

from raysal.errors import LabelError
from raysal.labels.rows import column_names, read_rows
from raysal.tables import KINDS


def keys_in_file(path: Path) -> list[str]:
    """The keys in a file.

    Args:
        path: a table of `raysal.tables.KINDS` with a column `key`; any other file is text with a key in each line.

    Returns:
        The keys in their order. Empty lines hold none.

    Raises:
        LabelError: the file cannot be read, or holds no column `key`, or no key.
    """
    try:
        if path.suffix.lower() in KINDS:
            if "key" not in (names := column_names(path)):
                raise LabelError(
                    path, f"no column 'key'; its columns: {', '.join(names)}", "name the column of keys so"
                )
            found = [row.get("key") for _, row in read_rows(path, ["key"], lambda *_: None)]
            keys = [str(key) for key in found if key not in (None, "")]
        else:
            text = path.read_text(encoding="utf-8-sig")
            keys = [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]
    except UnicodeDecodeError as error:
        raise LabelError(path, f"not UTF-8 ({error.reason} at byte {error.start})", "convert it to UTF-8") from None
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})", "check the path") from None
    if not keys:
        raise LabelError(path, "holds no key", "write one in each line")
    return keys
