"""What waiters get: a result is pending, then running, then ready or failed, and stays so.

A failure is a result too. Pure: errors in, records out.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pytest_kindinfra.errors import (
    SHORT_LINES,
    CancelledError,
    KindInfraError,
    NeedFailedError,
    NothingHereError,
    shortened,
)
from pytest_kindinfra.state.codec import Record, from_json, to_json
from pytest_kindinfra.system.files import DISK_FULL

if TYPE_CHECKING:
    from collections.abc import Callable


_LINES = SHORT_LINES - 1


_FIRST = 2
"""The first lines name what failed, the last ones say why."""


RUNNING = {"state": "running"}
"""The value of a result on which work has started."""


class Result(Record):
    """A record whose file says `running` before, or `failed` in its place: see `Failed`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The result of something that will never be ready.

    Attributes:
        short: At most five lines, for each test that it concerns.
        full: The whole cause, shown once.
        root: With what it began: `image "api"`.
        verb: What happened to the root: `failed to build`.
        cancelled: Nothing is wrong, the run ended.
        missing: It began with an engine or kind that is not here.
    """

    short: str
    full: str
    root: str
    verb: str = "failed"
    cancelled: bool = False
    missing: bool = False


R = TypeVar("R", bound=Result)
F = TypeVar("F", bound=Failed)


def value_of(result: Result | Failed) -> dict[str, Any]:
    """Return a settled result as its file holds it."""
    state = "failed" if isinstance(result, Failed) else "ready"
    return {"state": state, **to_json(result)}


def result_of(kind: type[R], value: Any) -> R | Failed | None:
    """Return the result that a file holds, None if it is still running.

    Args:
        kind: What the result is when it is ready.
        value: What the file holds.

    Raises:
        ValueError: It is no such result; says why.
    """
    if value == RUNNING:
        return None
    state = value.get("state") if isinstance(value, dict) else None
    if state not in {"ready", "failed"}:
        msg = f"it is neither running nor ready nor failed, but {value!r:.60}"
        raise ValueError(msg)
    rest = {name: part for name, part in value.items() if name != "state"}
    return from_json(Failed, rest) if state == "failed" else from_json(kind, rest)


class BlockedError(NeedFailedError):
    """Something was not tried, because what it needs failed.

    Attributes:
        root: The image, service or cluster with which it began: `image "api"`.
        verb: What happened to it: `failed to build`.
        cause: The text of that failure.
        short: The same in at most five lines.
        missing: It began with an engine or kind that is not here.
    """

    def __init__(self, *, root: str, error: BaseException) -> None:
        self.root = root
        self.missing = _is_missing(error)
        self.cause = text_of(error)
        self.verb = verb_of(root, error)
        super().__init__(f"{root} {self.verb}:\n{self.cause}")
        short = getattr(error, "short", None) or self.cause
        shorter = shortened(short, lines=_LINES - 1, first=_FIRST)
        self.short = f"{root} {self.verb}:\n{shorter}"


@overload
def failure_of(
    error: BaseException, *, subject: str, redact: Callable[[str], str] = str
) -> Failed: ...


@overload
def failure_of(
    error: BaseException, *, subject: str, redact: Callable[[str], str] = str, kind: type[F]
) -> F: ...


def failure_of(
    error: BaseException,
    *,
    subject: str,
    redact: Callable[[str], str] = str,
    kind: type[Failed] = Failed,
) -> Failed:
    """Return the result that describes a failure to those that wait.

    Args:
        error: What was raised; an error of this project is shown by its text, a bug by its
            traceback.
        subject: What failed: `service "api"`.
        redact: Takes secrets out of a text.
        kind: The class of the result.
    """
    text = text_of(error)
    full = error.cause if isinstance(error, BlockedError) else text
    short = getattr(error, "short", None) or shortened(text, lines=_LINES, first=_FIRST)
    return kind(
        short=redact(f"{subject} {verb_of(subject, error)}: {short}"),
        full=redact(full),
        root=redact(error.root if isinstance(error, BlockedError) else subject),
        verb=error.verb if isinstance(error, BlockedError) else verb_of(subject, error),
        cancelled=isinstance(error, CancelledError),
        missing=_is_missing(error),
    )


_VERBS = {
    "image": "failed to build",
    "service": "failed to start",
    "the cluster": "failed to start",
}
"""By the words of a subject before its name: `image "api"`, `service "api"`, `the cluster`."""


STACK_FAILED = re.compile(
    rf'(?:service "[^"]*" {_VERBS["service"]}|the cluster (?:{_VERBS["the cluster"]}|was lost)): '
)
"""In the text of a test that failed because of a service or the cluster."""


def verb_of(subject: str, error: BaseException) -> str:
    """Return what happened to a subject: `failed to build` for `image "api"`."""
    verb: str = "" if isinstance(error, BlockedError) else getattr(error, "verb", "")
    return verb or _VERBS.get(subject.partition(' "')[0], "failed")


def _is_missing(error: BaseException) -> bool:
    """Whether an error says that engine or kind is not here, or comes of one that does."""
    return isinstance(error, NothingHereError) or getattr(error, "missing", False)


def text_of(error: BaseException) -> str:
    """Return what to show of an error: our own say all, a bug shows where it is."""
    if isinstance(error, KindInfraError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk is full: {error}\nTo fix: free some space there, and run again"
    return "".join(traceback.format_exception(error))
