"""What is wrong with the value of an option is said in plain words, whichever version of typer says it."""

from __future__ import annotations

import click
import pytest
import typer
from cli_tools import cli
from rich.text import Text

from raysal.cli.commands import app_for


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metric", "l7"), "'l7' is not one of 'cosine', 'l2'"),
        (("--batch-size", 0), "use 1 or more"),
        (("--batch-size", "a"), "not a valid integer"),
        (("--max-quarantine", 1.5), "use 1 or less"),
        (("--max-quarantine", "b"), "not a valid number"),
    ],
)
def test_a_value_is_refused_in_plain_words(words: tuple[object, ...], said: str) -> None:
    refused = cli("embed", "photos", "--out", "pool", *words)
    assert refused.code == 2
    assert f"'{words[0]}'" in refused.err
    assert said in refused.err
    assert not any(word in refused.err for word in ("Input", "Value error", "unable to"))


def test_no_word_of_help_is_taken_for_markup() -> None:
    """What stands in brackets may be a style to what prints help, and is lost then, unless it is escaped."""
    waiting: list[click.Command] = [typer.main.get_command(app_for())]
    said = 0
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for text in (command.help, command.epilog, *(getattr(one, "help", None) for one in command.params)):
            said += text is not None
            assert text is None or Text.from_markup(text).plain == text.replace("\\[", "["), command.name
    assert said > 100
