"""The errors of the project, with did-you-mean hints for names."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "NAME"?` with the nearest known name, or nothing if none is near."""
    import difflib  # each pytest process loads this module

    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and parted by commas, `none` if there are none."""
    return ", ".join(f'"{name}"' for name in names) or "none"


class KindInfraError(Exception):
    """Root of all errors raised on purpose; its text is meant for the user."""


class DeclarationError(KindInfraError):
    """What was declared cannot work.

    Attributes:
        problems: One sentence for each problem, all that were found.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"kindinfra: {count} {noun} in the declaration:\n{lines}")


class ToolMissingError(KindInfraError):
    """A program that is needed is not on PATH."""


class NothingHereError(ToolMissingError):
    """There is no engine or no kind on this machine: what `--kindinfra-missing=skip` is about.

    Raised only by the checks before a bring-up, and only for what is surely absent: a program that
    is not on PATH, or a Docker engine on whose local socket no process listens.
    """


class EngineError(KindInfraError):
    """The engine is installed, but refused, did not answer in time, or is too old."""


class ImageMissingError(KindInfraError):
    """The engine lacks an image that is declared as prebuilt."""

    verb = "is missing"


class CommandError(KindInfraError):
    """A program failed.

    Attributes:
        argv: The command as a list of words.
        exit_code: Its exit code; None if it was ended because its deadline passed.
        output: What it printed on both streams, or the end of that.
        what: What it was run for; may be empty.
        limit: The time limit that ended it: ` within 600 s (--kindinfra-timeout)`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        exit_code: int | None,
        output: str,
        what: str = "",
        limit: str = "",
        fix: str = "",
    ) -> None:
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.output = output
        self.what = what
        self.limit = limit
        late = f"stopped, since it did not end{limit or ' within its time limit'}"
        ending = late if exit_code is None else f"exit code {exit_code}"
        title = f"{what}: {ending}" if what else f"a command failed: {ending}"
        tail = last_lines(output, 20)
        text = f"{title}\n  $ {shlex.join(argv)}\n{indent(tail)}".rstrip()
        super().__init__(f"{text}\nTo fix: {fix}" if fix else text)

    def about(self, output: str) -> CommandError:
        """Return the same error with what matters of the output."""
        return CommandError(
            self.argv,
            exit_code=self.exit_code,
            output=output,
            what=self.what,
            limit=self.limit,
        )

    def with_remedy(self, fix: str) -> CommandError:
        """Return the same error with what to do about it."""
        return CommandError(
            self.argv,
            exit_code=self.exit_code,
            output=self.output,
            what=self.what,
            limit=self.limit,
            fix=fix,
        )


class ClusterError(KindInfraError):
    """The cluster did not come up, or was lost."""


class PortTakenError(ClusterError):
    """The cluster did not come up, because another process uses one of its host ports."""


class ClusterEndedError(ClusterError):
    """A kind node or the engine ended while the run used the cluster."""

    verb = "was lost"


class NotReadyError(KindInfraError):
    """A service did not become ready; the text holds the cause."""


class NeedFailedError(KindInfraError):
    """A service was not tried, because something that it needs failed."""


class CancelledError(KindInfraError):
    """The run is ending, so the work was given up."""


class ProvisionerDiedError(KindInfraError):
    """The process that provisions the stack ended without leaving a result."""


class StateError(KindInfraError):
    """A file of the run is damaged, of another version, or was to be settled twice."""


class OnceError(KindInfraError):
    """The one call behind `kindinfra_once(key, produce)` raised.

    The text holds the original's type and message.
    """


def last_lines(text: str, count: int) -> str:
    """Return the last `count` non-empty lines of `text`, joined by newlines."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


SHORT_LINES = 6
"""Most lines of a failure in its short form, which each test that it concerns shows."""


def shortened(text: str, *, lines: int = SHORT_LINES, first: int = SHORT_LINES) -> str:
    """Return at most `lines` of the non-empty lines of `text`, joined by newlines.

    Args:
        text: What is too long.
        lines: How many lines stay.
        first: How many of them are from the beginning; the others are from the end.
    """
    found = [line for line in text.splitlines() if line.strip()]
    if len(found) <= lines:
        return "\n".join(found)
    begin = min(first, lines)
    return "\n".join([*found[:begin], *found[len(found) - (lines - begin) :]])


def indent(text: str) -> str:
    """Return `text` with each line moved right by four blanks."""
    return "\n".join(f"    {line}" for line in text.splitlines())
