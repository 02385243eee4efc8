"""Run a program to its end, or in parallel to this process, with its output kept."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self

from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.system.files import open_private
from pytest_kindinfra.system.pipes import Pump, copy_all, written_redacted
from pytest_kindinfra.system.programs import GRACE, end, start, wait
from pytest_kindinfra.system.secrets import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.system.pipes import Copy
    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program printed; its exit code was 0 unless failure was allowed."""

    stdout: str
    stderr: str
    exit_code: int = 0


class Background:
    """A program that runs while the block does, and not longer."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv

    def __enter__(self) -> Self:
        """Start it."""
        self._log = tempfile.TemporaryFile()
        self._parent = os.getpid()
        self._process = start(self._argv, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """End it and what it started; a process forked meanwhile leaves it to its parent."""
        if os.getpid() == self._parent:
            end(self._process)
        self._log.close()

    def output(self) -> str:
        """What it has printed so far."""
        # Not /dev/fd: opening that moves the position of the program's own output on macOS.
        log = self._log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None


def check_output(argv: Sequence[str], **kwargs: Any) -> str:
    """Run `argv` as `subprocess.check_output` does and return its standard output as text.

    For callers whose users know that function: its arguments and its exceptions are the contract.

    Raises:
        subprocess.CalledProcessError: It ended with another exit code than 0; its command is shown
            without secrets.
    """
    __tracebackhide__ = True  # or pytest's --showlocals would show the words as they are
    try:
        return subprocess.check_output(argv, **{"encoding": "utf-8", **kwargs})  # type: ignore[no-any-return]
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        error.cmd = list(Redactor().words(argv))
        raise error.with_traceback(None) from None


class Runner:
    """Runs programs as children of this process; what it shows of them has no secrets.

    Args:
        redactor: Knows the secrets of this run; then logs are written through it. Without one
            children write straight to their logs.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._for_logs = redactor
        self._redactor = redactor or Redactor()

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
        given: str = "",
    ) -> Completed:
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
            given: Its standard input.

        Raises:
            CommandError: It failed, or the deadline passed; shows no secrets.
            CancelledError: The run is ending.
            ToolMissingError: There is no such program.
        """
        with _output_files(log) as (out, err):
            with self._sinks(out, err) as (to_out, to_err), _input_file(given) as stdin:
                process = start(argv, stdin=stdin, stdout=to_out, stderr=to_err, env=env, cwd=cwd)
                exit_code = wait([process], deadline)[0]
            stdout, stderr = _text(out), "" if log else _text(err)
        if exit_code is None or (check and exit_code != 0):
            late = deadline.exceeded() if exit_code is None else ""
            raise self._failure(
                argv, exit_code=exit_code, output=stdout + stderr, what=what, limit=late
            )
        return Completed(stdout, stderr, exit_code)

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
        argvs = [*sinks, source]
        with ExitStack() as opened:  # files without names: nothing is left of a killed process
            logs = [opened.enter_context(tempfile.TemporaryFile()) for _ in argvs]
            processes = _start_pipe(source, sinks, logs)
            pump = Pump(processes[-1], processes[:-1], copy or copy_all)
            pump.start()
            codes = _wait_for_pipe(processes, pump, deadline)
            outputs = [_text(log) for log in logs]
        if pump.error and codes[-1] == 0:
            output = f"what it printed cannot be copied: {pump.error}"
            raise self._failure(source, exit_code=0, output=output, what=what) from pump.error
        for index in _at_fault(codes, pump):
            raise self._failure(
                argvs[index],
                exit_code=codes[index],
                output=outputs[index],
                what=what,
                limit=deadline.exceeded(),
            )
        return tuple(outlet.sent for outlet in pump.outlets)

    @contextmanager
    def _sinks(self, out: IO[bytes], err: IO[bytes]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Give what a child writes to: the files themselves, or what leads to a log redacted."""
        if out is not err or self._for_logs is None:
            yield out, err
            return
        with written_redacted(out, self._for_logs) as sink:
            yield sink, sink

    def _failure(
        self,
        argv: Sequence[str],
        *,
        exit_code: int | None,
        output: str,
        what: str,
        limit: str = "",
    ) -> CommandError:
        words, shown = self._redactor.words(argv), self._redactor.text(output)
        return CommandError(words, exit_code=exit_code, output=shown, what=what, limit=limit)


def _start_pipe(
    source: Sequence[str], sinks: Sequence[Sequence[str]], logs: Sequence[IO[bytes]]
) -> list[subprocess.Popen[bytes]]:
    """Start the sinks, then the source that feeds them; all of them or none."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for argv, log in zip(sinks, logs[:-1], strict=True):
            started.append(start(argv, stdin=subprocess.PIPE, stdout=log, stderr=log))
        started.append(start(source, stdout=subprocess.PIPE, stderr=logs[-1]))
    except BaseException:
        for process in started:
            end(process)
            process.communicate()  # closes its standard input
        raise
    return started


def _wait_for_pipe(
    processes: Sequence[subprocess.Popen[bytes]], pump: Pump, deadline: Deadline
) -> list[int | None]:
    try:
        return wait(processes, deadline)
    finally:
        pump.join(GRACE)


def _at_fault(codes: Sequence[int | None], pump: Pump) -> list[int]:
    """Return who failed, by index, the cause first: a failed end makes the other end fail too."""
    failed = [index for index, code in enumerate(codes) if code != 0]
    hung_up = [n for n, outlet in enumerate(pump.outlets) if outlet.broken or codes[n] is None]
    source = len(codes) - 1
    return sorted(failed, key=lambda index: (index not in hung_up, index != source))


@contextmanager
def _output_files(log: Path | None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give files for both streams: one log for both, or two that vanish."""
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open_private(log, "w+b") as both:
            yield both, both
        return
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        yield out, err


@contextmanager
def _input_file(text: str) -> Iterator[int | IO[bytes]]:
    """Give a program's standard input: a file that vanishes, or nothing."""
    if not text:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file


def _text(file: IO[bytes]) -> str:
    """Return all that was written to a file."""
    file.seek(0)
    return file.read().decode(errors="replace")
