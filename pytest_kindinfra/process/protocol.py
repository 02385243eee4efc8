"""What this project asks of whoever runs programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.timeline import Deadline


@dataclass(frozen=True, slots=True)
class Result:
    """What a program printed; its exit code was 0 unless failure was allowed."""

    stdout: str
    stderr: str
    exit_code: int = 0


class Runner(Protocol):
    """Runs programs."""

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline,
        what: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Result:
        """Run `argv` to its end.

        Args:
            argv: The program and its arguments.
            deadline: When to end it, or, if cancelled, at once.
            what: What is being done, for the error: `building image "api"`.
            env: Added to this process's environment.
            cwd: The folder to run in.
            log: A file that gets both streams as they come, without the secrets of the run and
                with mode 0600; the result then holds its text.
            check: Whether another exit code than 0 is an error.

        Raises:
            CommandError: It failed, or the deadline passed; shows no secrets.
            CancelledError: The run is ending.
            ToolMissingError: There is no such program.
        """
        ...

    def pipe(
        self,
        source: Sequence[str],
        sinks: Sequence[Sequence[str]],
        *,
        deadline: Deadline,
        what: str,
    ) -> None:
        """Send what `source` prints to the standard input of every sink.

        Raises:
            CommandError: The first that failed, a sink before the source.
            CancelledError: The run is ending.
            ToolMissingError: There is no such program.
        """
        ...
