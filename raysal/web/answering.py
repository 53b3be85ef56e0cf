"""Taking answers, and taking them back.

The order of an answer is: the turn is noted, what is about to be free again is handed out to whom it is before, the
ledger takes all labels or none, remarks are kept, the other hand-outs end. So what the ledger refuses leaves no remark.
A request that is sent again after any of these steps does what was left, but for what the annotator has said of an item
since; and the ledger says once what was said once. In one server the requests of one annotator go one after the other:
none comes between another's note and its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from raysal.errors import LabelError, RunError, UnknownItem
from raysal.labels.confusable import confusable
from raysal.labels.records import Said, TellCounts
from raysal.labels.remarks import NOTHING, Remark, Remarks, checked
from raysal.rounds.run_labels import RunLabels
from raysal.types import SKIP, Label
from raysal.web.answers import Answer, SaidSince, before_of, labels_of, remark_of, since
from raysal.web.catalogue import Catalogue
from raysal.web.handouts import KEPT_TURNS, HandOuts, Turn
from raysal.web.people import OneAtATime, named
from raysal.web.standing import Standing
from raysal.web.telling import Teller

MOST_ANSWERS = 5_000
"""Answers of one request at most."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What a desk does with answers, and what it needs of the desk."""

    labels: RunLabels
    teller: Teller
    remarks: Remarks
    handouts: HandOuts
    catalogue: Catalogue
    standing: Standing
    classes: tuple[str, ...]
    """those that the config names"""
    items: Callable[[Sequence[int], str], list[dict[str, Any]]]
    """as `Desk.items`"""
    told: Callable[[], None]
    """called when the ledger has new events"""
    requests: OneAtATime = field(default_factory=OneAtATime)

    def answer(
        self, annotator: str, answers: Sequence[Answer], nonce: str, *, found: bool = False, tab: str = ""
    ) -> dict[str, Any]:
        """Take answers of an annotator: all of them, or none. The same nonce counts once.

        An answer may be late, repeated, corrected, or about an item that was never handed out.

        Args:
            annotator: who.
            answers: about distinct items.
            nonce: names this request, and those that repeat it.
            found: the annotator was not offered the items, but found them by looking around. Then nothing is taken of
                what another one has before them.
            tab: where the annotator works; what is taken back is before it again, unless it was found.

        Returns:
            {counts, items, head, seq, conflicts, warnings}.

        Raises:
            LabelError: nobody is named, an item is not in the pool or has another key, an answer cannot be accepted,
                or another annotator has a found item before them.
            NotNow: a file of the run is busy, or its disk is full. The same request, sent again, does what is left.
        """
        who = named(annotator)
        answers = self._checked(answers, nonce)
        with self.requests.alone(who):
            return self._answer(who, answers, nonce, found, tab)

    def _answer(self, who: str, answers: Sequence[Answer], nonce: str, found: bool, tab: str) -> dict[str, Any]:
        if (broken_off := self.handouts.turn(nonce)) is not None and broken_off.state == "begun":
            said_since = self._since(broken_off)
            answers = [answer.without(said_since) for answer in answers]
        keys = [answer.key for answer in answers]
        said, remarks = self.labels.ledger.said(keys), self.remarks.of_all(keys)
        # What is refused is refused here, before anything is noted.
        labels, withdrawn = labels_of(answers, who)
        self.labels.checked(labels)
        new = [(answer.key, remark_of(answer, remarks[answer.key].get(who))) for answer in answers]
        kept = [(key, checked(key, remark)) for key, remark in new if remark is not None]
        before = [before_of(a, said.get(a.key), remarks[a.key], who, found=found) for a in answers]
        if found and broken_off is None:
            own = {key for key, known in said.items() if who in known.answers}  # a correction stands in nobody's way
            self._claim(who, [answer.key for answer in answers if answer.is_given and answer.key not in own])
        earlier = self.handouts.begin_turn(Turn(nonce, who, "answers", before, "begun"))
        check_own(earlier, who, "answers")
        if earlier is not None and earlier.state != "begun":
            return self._report(who, answers, TellCounts(new=0, repeated=len(answers), corrected=0, disputed=0))
        warnings = self._warnings(answers)
        self._hand_back(who, [] if found else [key for key, _ in withdrawn], tab)
        try:
            counts = self._tell(labels, withdrawn, {a.key: a.id for a in answers})
        except LabelError:
            self.handouts.forget_turn(nonce)  # refused for good: nothing of it may be taken back
            raise
        self.remarks.add(who, kept)
        self.handouts.end_turn(nonce)
        self.handouts.release(who, [a.key for a in answers if a.is_given])
        return {**self._report(who, answers, counts), "warnings": warnings}

    def undo(self, annotator: str, nonce: str, of: str | None = None, *, tab: str = "") -> dict[str, Any]:
        """Take back answers of an annotator that were not taken back yet, notes and ratings with them.

        What the annotator said of an item after those answers, in another tab, stays.

        Args:
            annotator: who.
            nonce: names this request, and those that repeat it.
            of: the nonce of the answers; by default the annotator's last ones.
            tab: where the annotator works; the items are before it again, but for those that were found.

        Returns:
            {items, undone: the nonce of the answers that were taken back, or None where there are none to take back}.

        Raises:
            RunError: `of` names no answers of this annotator that were taken, or too old ones.
            NotNow: as `answer`.
        """
        who = named(annotator)
        with self.requests.alone(who):
            return self._undo(who, nonce, of, tab)

    def _undo(self, who: str, nonce: str, of: str | None, tab: str) -> dict[str, Any]:
        last = self.handouts.last_turn(who) if of is None else self.handouts.turn(of)
        if of is not None and self.handouts.turn(nonce) is None:
            check_undoable(last, who)
        note = [{"undone": None if last is None else last.nonce}]
        earlier = self.handouts.begin_turn(Turn(nonce, who, "undo", note, "begun"))
        check_own(earlier, who, "undo")
        undone = (note if earlier is None else earlier.before)[0]["undone"]
        turn = None if undone is None else self.handouts.turn(undone)
        if turn is None:
            return {"items": [], "undone": None}
        if turn.state in ("begun", "done"):
            self._restore(who, turn, tab)
            self.handouts.end_turn(turn.nonce, "undone")
        self.handouts.end_turn(nonce)
        return {"items": self.items([entry["id"] for entry in turn.before], who), "undone": undone}

    def _claim(self, who: str, keys: Sequence[str]) -> None:
        """Take hand-outs of items that were found, or refuse all of them."""
        if not (others := self.handouts.claim(who, keys)):
            return
        key, other = next(iter(others.items()))
        more = f", and {len(others) - 1} more are with others" if len(others) > 1 else ""
        raise LabelError(repr(key), f"is with {other} now{more}", "go on with other items, or wait for the answer")

    def _hand_back(self, who: str, keys: Sequence[str], tab: str) -> None:
        """Hand out to a tab what the annotator is about to take back, so that nobody gets it between."""
        if keys:
            answerers = self.labels.ledger.answerers
            others = lambda some: {key: set(people) - {who} for key, people in answerers(some).items()}  # noqa: E731
            self.handouts.renew(who, keys, others, tab)

    def _restore(self, who: str, turn: Turn, tab: str) -> None:
        """Say again what the annotator said before a turn, but for what was said of an item since."""
        answered, remarked = self._since(turn)
        entries = [entry for entry in turn.before if entry["key"] not in answered]
        ids = {entry["key"]: entry["id"] for entry in entries}
        labels = [
            Label(key=e["key"], label=e["label"], annotator=who, weight=e.get("weight", 1.0))
            for e in entries
            if e["label"] is not None
        ]
        withdrawn = [(entry["key"], who) for entry in entries if entry["label"] is None]
        offered = {e["key"] for e in entries if e.get("answered", True) and not e.get("found", False)}
        self._hand_back(who, [key for key, _ in withdrawn if key in offered], tab)
        self._tell(labels, withdrawn, ids)
        now = self.remarks.of_all(entry["key"] for entry in turn.before)
        remarks = []
        for entry in turn.before:
            key, held = entry["key"], now[entry["key"]].get(who, NOTHING)
            note, rating = (held if key in remarked else Remark(entry["note"], entry["rating"]))[:2]
            remarks.append((key, Remark(note, rating, held.disputed if key in answered else entry["disputed"])))
        self.remarks.add(who, remarks)

    def _since(self, turn: Turn) -> SaidSince:
        """What the same annotator has spoken of after a turn."""
        return since(other.before for other in self.handouts.turns_after(turn.nonce))

    def _checked(self, answers: Sequence[Answer], nonce: str) -> list[Answer]:
        """The answers with the keys that the pool has for their ids."""
        if not nonce or len(nonce) > 200:
            raise LabelError("nonce", "is missing or too long", "give each request a random one")
        if not 1 <= len(answers) <= MOST_ANSWERS:
            raise LabelError("answers", f"{len(answers)} of them", f"send 1 to {MOST_ANSWERS}")
        entries = self.catalogue.entries(answer.id for answer in answers)
        checked = []
        for answer in answers:
            if answer.id not in entries:
                raise UnknownItem(f"item {answer.id}", "is not in the pool", "load the page again")
            key = entries[answer.id].key
            if answer.key not in ("", key):
                problem = f"given with id {answer.id}, which is {key!r} in the pool of now"
                raise LabelError(repr(answer.key), problem, "load the page again")
            checked.append(answer._replace(key=key))
        if len({answer.id for answer in checked}) < len(checked):
            raise LabelError("answers", "name an item twice", "give one answer for each item")
        return checked

    def _warnings(self, answers: Sequence[Answer]) -> list[str]:
        """What is to be said of classes that come up for the first time."""
        known = self.labels.ledger.texts | set(self.classes)
        new = dict.fromkeys(answer.label for answer in answers if answer.label and answer.label not in known)
        return confusable(new, known)

    def _tell(
        self, labels: Sequence[Label], withdrawn: Sequence[tuple[str, str]], ids: Mapping[str, int]
    ) -> TellCounts:
        """Tell the ledger, and those who follow it."""
        if not labels and not withdrawn:
            return TellCounts(new=0, repeated=0, corrected=0, disputed=0)
        counts = self.teller.tell(labels, withdrawn, ids)
        self.told()
        return counts

    def _report(self, who: str, answers: Sequence[Answer], counts: TellCounts) -> dict[str, Any]:
        keys = [answer.key for answer in answers]
        said: Mapping[str, Said] = self.labels.ledger.said(keys)
        conflicts = [
            {"id": str(answer.id), "labels": labels}
            for answer in answers
            if answer.key in said
            and said[answer.key].state == "disputed"
            and (labels := {name: text for name, text in said[answer.key].answers.items() if text != SKIP})
        ]
        return {
            "counts": asdict(counts),
            "items": self.items([answer.id for answer in answers], who),
            "head": self.standing.head(),
            "seq": self.labels.ledger.head_seq,
            "conflicts": conflicts,
            "warnings": [],
        }


def check_own(earlier: Turn | None, who: str, kind: str) -> None:
    """Refuse a nonce that another request has.

    Args:
        earlier: the turn that has it, if there is one.
        who: the annotator.
        kind: of the request.

    Raises:
        LabelError: it is that of another annotator, or of another kind of request.
    """
    if earlier is not None and (earlier.annotator, earlier.kind) != (who, kind):
        raise LabelError("nonce", "is that of another request", "give each request one of its own")


def check_undoable(turn: Turn | None, who: str) -> None:
    """Refuse to take back answers that an annotator did not give, or gave too long ago.

    Args:
        turn: theirs, if it is known.
        who: the annotator.

    Raises:
        RunError: they cannot be taken back.
    """
    if turn is None or (turn.annotator, turn.kind) != (who, "answers"):
        raise RunError("undo", "the server has no such answers of yours", "look at the item, and answer it anew")
    if turn.state == "old":
        raise RunError("undo", f"you gave more than {KEPT_TURNS} answers since", "answer the item anew")
