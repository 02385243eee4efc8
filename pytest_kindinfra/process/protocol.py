"""What this project asks of whoever runs programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

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


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes) -> object:
        """Take all of `data`."""
        ...


class Copy(Protocol):
    """Copies a stream to several; may change it on the way."""

    def __call__(self, source: IO[bytes], sinks: Sequence[Sink]) -> None:
        """Read `source` to its end and write to `sinks`, in their order in `Runner.pipe`."""
        ...


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
        copy: Copy | None = None,
    ) -> tuple[int, ...]:
        """Send what `source` prints to the standard input of every sink.

        Args:
            source: The program that prints, and its arguments.
            sinks: The programs that read.
            deadline: When to end them, or, if cancelled, at once.
            what: What is being done, for the error.
            copy: What is made of the stream on the way; None passes it on as it is.

        Returns:
            How many bytes each sink was sent.

        Raises:
            CommandError: The one at whose fault it failed: a sink that stopped reading, else the
                source, else another sink.
            CancelledError: The run is ending.
            ToolMissingError: There is no such program.
        """
        ...
