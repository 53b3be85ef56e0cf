"""Read the JSON values of a file one by one: a list of them, or one after the other. Memory for one value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

_BLOCK = 1 << 20
"""Characters that are read at a time."""
_SPACE = " \t\n\r"


def json_values(file: IO[str]) -> Iterator[tuple[int, Any]]:
    """The values of a list, or of a file that holds one value after another, as JSON Lines does.

    Args:
        file: open for reading text.

    Yields:
        The line that each value begins in, from 1, and the value.

    Raises:
        ValueError: the text is not JSON; the message names the line.
    """
    stream = _Stream(file)
    inside = stream.next_letter() == "["
    if inside:
        stream.take()
    first = True
    while (letter := stream.next_letter()) != ("]" if inside else ""):
        if inside and not first:
            if letter != ",":
                raise ValueError(f"line {stream.line}: expected a comma or the end of the list")
            stream.take()
            letter = stream.next_letter()
        if not letter:
            raise ValueError(f"line {stream.line}: the list does not end")
        yield stream.line, stream.value()
        first = False
    if inside:
        stream.take()
        if stream.next_letter():
            raise ValueError(f"line {stream.line}: text after the end of the list")


class _Stream:
    """What is read of a file and not yet used."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.text, self.place, self.line = file, "", 0, 1
        self.decoder = json.JSONDecoder()

    def _more(self) -> bool:
        """Read on, by as much as is held, so that a long value is not parsed too often; false at the end."""
        self.text = self.text[self.place :]
        self.place = 0
        block = self.file.read(max(_BLOCK, len(self.text)))
        self.text += block
        return bool(block)

    def take(self, end: int | None = None) -> None:
        """Leave the text up to a place behind; by default one letter."""
        end = self.place + 1 if end is None else end
        self.line += self.text.count("\n", self.place, end)
        self.place = end

    def next_letter(self) -> str:
        """The next letter that is no white space; "" at the end."""
        while True:
            while self.place < len(self.text):
                if self.text[self.place] not in _SPACE:
                    return self.text[self.place]
                self.take()
            if not self._more():
                return ""

    def value(self) -> Any:
        """The value that begins at the next letter."""
        while True:
            try:
                found, end = self.decoder.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                raise ValueError(f"line {self.line}: not JSON ({error.msg})") from None
            if isinstance(found, int | float) and not self.text[end:].strip("+-.eE0123456789") and self._more():
                continue  # the number may go on
            self.take(end)
            return found
