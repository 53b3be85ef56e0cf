"""The tree of errors is as its docstring shows it. A message is one line, and an error survives a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysal import errors, messages

EXAMPLES: dict[str, tuple[object, ...]] = {
    "RaysalError": ("what went wrong",),
    "UnknownName": ("select", "bagde", ["badge", "coreset"]),
    "MissingExtra": ("encoder", "timm", "timm"),
    "DuplicateKeys": (Path("images"), [f"k{i}" for i in range(9)]),
    "FingerprintMismatch": (Path("pool"), "the encoder's fingerprint", "a" * 64, "b" * 64, "embed elsewhere"),
    "SourceChanged": (Path("pool"), ("5 files, was 6", "item 3 is 'd', was 'c'"), "embed elsewhere"),
    "PoolIncomplete": (Path("pool"), 2, 3),
    "PoolExhausted": (512, 498),
    "ItemsLost": (Path("pool"), 3, 20, 0.01),
    "QuarantineExceeded": (Path("pool"), 3, 20, 0.01, {".svg": 2}, "2 files passed over"),
    "PassedOverExceeded": (Path("pool"), 0, 20, 0.1, {".svg": 9}, "9 files passed over"),
    "PicturesLost": (Path("model"), 20, {"a.png": "empty file"}, 0.01),
    "MediaLost": (Path("export"), 20, 1, {"a.png": "the file is gone"}, 0.0),
    "FleetError": (3, "died"),
}
SIMPLE = (Path("there"), "is wrong", "mend it")
CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.RaysalError)]


def example(cls: type[errors.RaysalError]) -> errors.RaysalError:
    return cls(*EXAMPLES.get(cls.__name__, SIMPLE))


def drawn() -> dict[str, tuple[str | None, int]]:
    """Name -> (parent, exit code) from the docstring; a code holds for all below it."""
    tree: dict[str, tuple[str | None, int]] = {}
    above: list[str] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)  +(?:exit (\d))?", line)
        if found:
            depth = len(found[1]) // 4
            above = [*above[:depth], found[2]]
            parent = above[depth - 1] if depth else None
            tree[found[2]] = (parent, int(found[3]) if found[3] else tree[str(parent)][1])
    return tree


def test_the_tree_is_as_drawn() -> None:
    real = {cls.__name__: (str(cls.__base__.__name__), cls.exit_code) for cls in CLASSES}  # type: ignore[union-attr]
    real["RaysalError"] = (None, 1)  # type: ignore[assignment]
    assert drawn() == real


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_the_same_in_another_process(cls: type[errors.RaysalError]) -> None:
    error = example(cls)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), pickle.loads(pickle.dumps(error, 2))):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.exit_code == error.exit_code


@pytest.mark.parametrize("cls", CLASSES[0:0] + [cls for cls in CLASSES if cls is not errors.RaysalError])
def test_a_message_is_one_line_and_says_all(cls: type[errors.RaysalError]) -> None:
    values = EXAMPLES.get(cls.__name__, SIMPLE)
    assert "\n" not in str(example(cls))
    assert str(values[0]) in str(example(cls))
    broken = tuple(f"a\nb\r\n  {value}" if isinstance(value, str | Path) else value for value in values)
    message = str(cls(*broken))
    assert len(message.splitlines()) == 1
    assert "a b" in message or cls is errors.PoolExhausted


def test_messages_keep_their_spaces() -> None:
    assert str(errors.BadItem("two  spaces.png", "is empty")) == "two  spaces.png: is empty"


def test_many_keys_are_named_in_few_words() -> None:
    message = str(example(errors.DuplicateKeys))
    assert message == "images: duplicate keys: k0, k1, k2, k3, k4 and 4 more; make every key unique"


CODES = ["\x1b[36m", "\x1b[0m", "\x1b[1;38;5;208m", "\x1b[2K", "\x1b]8;;http://x\x1b\\", "\x1b]0;title\x07", "\x1bM"]


@given(st.lists(st.sampled_from(CODES) | st.text(st.characters(exclude_characters="\x1b\x07\\"), max_size=5)))
def test_what_other_programs_say_is_quoted_without_codes_for_a_terminal(parts: list[str]) -> None:
    """Whatever stands between the codes stays."""
    kept = "".join(part for part in parts if part not in CODES)
    assert messages.without_codes("".join(parts)) == kept
    assert messages.brief(ValueError("".join(parts))) == (kept.strip().splitlines() or ["ValueError"])[0][:200]
