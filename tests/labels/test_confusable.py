"""A warning exactly when a class comes in that looks like another one, or like a missing value; in every door, once."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_tools import cli, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, mixture

import raysal
from raysal.errors import LabelError, LabelWarning
from raysal.labels import Ledger
from raysal.labels.confusable import check_classes, confusable
from raysal.labels.events import EventLog, PendingEvent
from raysal.pool import Pool

WORDS = ["cat", "hot dog", "straße", "café", "x1", "über", "42", "7", "1.5"]
"""No two of them are alike in any way."""
DISGUISES = {
    "upper": str.upper,
    "title": str.title,
    "no blanks": lambda word: word.replace(" ", ""),
    "two blanks": "  ".join,
    "a hard blank": lambda word: f"{word[0]}\u00a0{word[1:]}",
    "an invisible mark": lambda word: f"{word}\u200b",
    "a byte order mark": lambda word: f"\ufeff{word}",
    "wide letters": lambda word: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word),
    "decomposed": lambda word: unicodedata.normalize("NFD", word),
    "zeros before": lambda word: f"00{word}" if word.isdigit() else word.upper(),
    "zeros after": lambda word: f"{word}00" if word == "1.5" else word.upper(),
    "plus": lambda word: f"+{word}" if word[0].isdigit() else word.upper(),
}
MISSING = [
    "NA",
    "na",
    "N/A",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
    "NaT",
    "-",
    "?",
    " n / a ",
    "\u200b",
]


@given(
    known=st.lists(st.sampled_from(WORDS), unique=True),
    new=st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([None, *DISGUISES])), unique=True),
    missing=st.none() | st.sampled_from(MISSING),
)
def test_a_sentence_for_each_disguise_and_for_nothing_else(
    known: list[str], new: list[tuple[str, str | None]], missing: str | None
) -> None:
    origin = {word: word for word in WORDS} | {DISGUISES[how](word): word for word, how in new if how is not None}
    names = dict.fromkeys(word if how is None else DISGUISES[how](word) for word, how in new)
    seen, expected = set(known), 0
    for name in names:
        if name not in known:
            expected += origin[name] in seen
            seen.add(origin[name])
    coming = [name for name in names if name not in known]
    assert len(confusable(coming, known)) == expected
    if missing is not None:
        assert len(confusable([*coming, missing], known)) == expected + 1


@pytest.mark.parametrize("how", DISGUISES)
@pytest.mark.parametrize("word", WORDS)
def test_a_disguise_is_seen_through(word: str, how: str) -> None:
    name = DISGUISES[how](word)
    if name == word:
        return
    for new, known in ((name, word), (word, name)):
        (sentence,) = confusable([new], [known])
        assert repr(new) in sentence
        assert repr(known) in sentence
        assert ("as a number" in sentence) == word[0].isdigit()


def test_words_of_the_field_are_not_confused() -> None:
    assert confusable(["cat", "cats", "cat-2", "cat2", "1", "10", "0.1", "1e5x", "Inf", "no"], []) == []


@contextmanager
def said() -> Iterator[list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sentences: list[str] = []
        yield sentences
        sentences += [str(warning.message) for warning in caught if issubclass(warning.category, LabelWarning)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return make_pool(tmp_path_factory.mktemp("pool") / "pool", mixture(40, 4, classes=2)[0])


def keys_of(pool: Pool) -> list[str]:
    return [key for table in pool.items(["key"]) for key in table["key"].to_pylist()]


def test_a_session_warns_once_when_the_class_comes_in(pool: Pool, tmp_path: Path) -> None:
    one, two, three, four, *_ = keys_of(pool)
    with raysal.Session(tmp_path / "run", pool) as session:
        with said() as first:
            session.tell({one: "cat", two: "dog"})
        with said() as second:
            session.tell({three: "Cat"})
        with said() as third:
            session.tell({four: "Cat", three: "Cat"})
        assert (first, third) == ([], [])
        (sentence,) = second
        assert sentence == "class 'Cat' is 'cat' but for case"
        session.tell({three: "cat", four: "cat"})
        with said() as again:  # nobody holds it any more, so it comes in anew
            session.tell({three: "Cat"})
        assert len(again) == 1


def test_strict_refuses_and_records_nothing(pool: Pool, tmp_path: Path) -> None:
    one, two, *_ = keys_of(pool)
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell({one: "cat"}, strict=True)
        before = session.ledger.head_seq
        for wrong in ("CAT", "NA"):
            with pytest.raises(LabelError, match=wrong):
                session.tell({one: "dog", two: wrong}, strict=True)
        assert session.ledger.head_seq == before


def test_several_labels_are_compared_one_by_one(pool: Pool, tmp_path: Path) -> None:
    one, two, three, *_ = keys_of(pool)
    with raysal.Session(tmp_path / "run", pool, update={"trainer": "multi_label"}) as session:
        with said() as none:
            session.tell({one: "cat|dog", two: "-"})
        with said() as some:
            session.tell({three: "dog|CAT"})
        assert none == []
        assert some == ["class 'CAT' is 'cat' but for case"]


def test_numbers_to_learn_are_not_classes(pool: Pool, tmp_path: Path) -> None:
    one, two, *_ = keys_of(pool)
    with raysal.Session(tmp_path / "run", pool, select="coreset", update={"trainer": "regression"}) as session:
        with said() as none:
            session.tell({one: "1.50", two: "1.5"})
        assert none == []
        with pytest.raises(LabelError, match="'NA'"):
            session.tell({one: "NA"})


def test_select_warns_too(pool: Pool) -> None:
    one, two, *_ = keys_of(pool)
    with said() as some:
        raysal.select(pool, k=2, labels={one: "cat", two: "cat "})
    assert some == []
    with said() as some:
        raysal.select(pool, k=2, labels={one: "cat", two: "c at"})
    assert some == ["class 'c at' is 'cat' but for blanks"]


def test_commands_say_it_on_stderr_and_in_json(pool: Pool, tmp_path: Path) -> None:
    one, two, *_ = keys_of(pool)
    (tmp_path / "l.csv").write_text(f"key,label\n{one},cat\n{two},Cat\n")
    (tmp_path / "fine.csv").write_text(f"key,label\n{one},cat\n{two},cat\n")
    sentence = "class 'Cat' is 'cat' but for case"
    run = tmp_path / "run"
    strict = ("label", "import", run, tmp_path / "l.csv", "--pool", pool.path, "--strict")
    refused(cli(*strict), sentence, "--strict")
    assert not run.exists()
    answer = cli("label", "import", run, tmp_path / "l.csv", "--pool", pool.path, "--json")
    assert answer.json["warnings"] == [sentence]
    assert answer.err.splitlines() == [f"raysal: warning: {sentence}"]
    assert answer.code == 0
    assert cli("label", "import", run, tmp_path / "l.csv", "--strict", "--json").json["warnings"] == []  # no news
    assert cli("label", "import", run, tmp_path / "fine.csv", "--json").json["warnings"] == []
    refused(cli("label", "import", run, tmp_path / "l.csv", "--strict"), sentence)
    chosen = cli("select", pool.path, "-k", 2, "--labels", tmp_path / "l.csv", "--json")
    assert chosen.json["warnings"] == [sentence]
    assert "warnings" not in cli("select", pool.path, "-k", 2, "--labels", tmp_path / "fine.csv", "--json").json


def test_a_ledger_of_an_earlier_version_says_how_to_join_its_classes(pool: Pool, tmp_path: Path) -> None:
    """Such a ledger may hold `0.0` and `0`, which that version took for two classes."""
    one, two, *_ = keys_of(pool)
    with raysal.Session(tmp_path / "run", pool) as session:
        session.tell({two: "0"})
    log = EventLog(tmp_path / "run" / "ledger.sqlite")
    with log.writing():
        list(log.read_new())
        log.append([PendingEvent(pool.ids_of([one])[one], one, "labeled", "0.0", "", 1.0)])
    log.close()
    assert cli("status", tmp_path / "run", "--json").json["classes"] == {"0": 1, "0.0": 1}
    (tmp_path / "l.csv").write_text(f"key,label\n{one},0.0\n{two},0.0\n")
    told = cli("label", "import", tmp_path / "run", tmp_path / "l.csv", "--json").json
    assert (told["corrected"], told["repeated"]) == (1, 1)
    assert len(told["warnings"]) == 1
    assert "'0.0' of an earlier version" in told["warnings"][0]
    assert cli("status", tmp_path / "run", "--json").json["classes"] == {"0": 2}
    assert cli("label", "import", tmp_path / "run", tmp_path / "l.csv", "--json").json["warnings"] == []


def test_a_class_that_only_an_earlier_version_spelled_so_is_said_once() -> None:
    with said() as some:
        check_classes(["1"], ["1.0", "cat"])
    assert some == ["'1.0' of an earlier version of raysal is spelled '1' now; import its labels again to join them"]


@given(texts=st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), who=st.lists(st.sampled_from("xy"), max_size=12))
@settings(max_examples=30)
def test_the_ledger_knows_the_texts_that_somebody_holds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], who: list[str]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number, (text, annotator) in enumerate(zip(texts, who, strict=False)):
            id = number % 3
            if number % 5 == 4:
                ledger.withdraw(f"k{id}", annotator)
            elif number % 7 == 6:
                ledger.skip(id, f"k{id}", annotator)
            else:
                ledger.tell([(id, raysal.Label(key=f"k{id}", label=text, annotator=annotator))])
            assert ledger.texts == {answer.label for answer in ledger.answers()}
        with Ledger(path) as again:
            assert again.texts == ledger.texts
            assert again.texts_in_order == ledger.texts_in_order


def test_a_skip_is_no_class() -> None:
    with said() as none:
        check_classes(["!skip", "skip"], ["cat"])
    assert none == []
