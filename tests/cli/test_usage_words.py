"""What is wrong with the value of an option is said in plain words, whichever version of typer says it."""

from __future__ import annotations

import pytest
from cli_tools import cli


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
