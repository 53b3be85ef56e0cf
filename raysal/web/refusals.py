"""What an error becomes for a browser: a status of HTTP by its kind, and words without the paths of this machine.

503 says that the same request may succeed later: the page keeps it, and sends it again.
"""

from __future__ import annotations

import re

from raysal.errors import (
    BadItem,
    Damaged,
    FingerprintMismatch,
    FleetError,
    LabelError,
    NotNow,
    PoolExhausted,
    RaysalError,
    RunError,
    UnknownItem,
    UserError,
)

STATUS: dict[type[RaysalError], int] = {
    NotNow: 503,
    FingerprintMismatch: 503,  # the run went to another pool: the server is to be started again, then it goes on
    Damaged: 503,
    FleetError: 503,
    UnknownItem: 404,
    RunError: 409,
    PoolExhausted: 409,
    UserError: 422,
    RaysalError: 500,
}
"""By the class of the error, or the nearest one above it."""
PATH = re.compile(
    r"(?P<quote>['\"`])/(?:[^'\"`/\n]+/)+(?P<quoted>[^'\"`/\n]+)(?P=quote)"  # in quotes there may be blanks
    r"|(?<![\w:/.~<>-])/(?:[^\s/:;,'\"`()]+(?: +[^\s/:;,'\"`()]+)*/)+(?P<bare>[^\s/:;,'\"`()]+)"
)
"""A path from the root of this machine, of two names or more. Folders may have blanks in their names."""


def status_of(problem: RaysalError) -> int:
    """The status of HTTP for an error."""
    return next(STATUS[kind] for kind in type(problem).__mro__ if kind in STATUS)


def facts_of(problem: RaysalError) -> tuple[str, str, str]:
    """What an error is about, what is wrong, and what to do."""
    if isinstance(problem, LabelError):  # it names items by their keys, which may look like paths
        return problem.where, problem.problem, problem.fix
    if isinstance(problem, BadItem):  # its key is no path, but a reason may name one
        return problem.where, without_paths(problem.problem), without_paths(problem.fix)
    if isinstance(problem, UserError):
        where = problem.where
        name = where.rstrip("/").rpartition("/")[2] if where.startswith("/") else without_paths(where)
        return name, without_paths(problem.problem), without_paths(problem.fix)
    return type(problem).__name__, without_paths(str(problem)), ""


def without_paths(text: str) -> str:
    """A text with the last name of every path of this machine, in place of the path."""
    return PATH.sub(lambda found: f"{q}{found['quoted']}{q}" if (q := found["quote"]) else found["bare"], text)
