"""The one door to other programs: argv lists, always a deadline, nothing left running.

Each program gets a process group of its own, so that Ctrl-C in a terminal ends pytest and not
`kind delete`; and it is told to die with its parent where the platform can do that. This
module must not know which programs there are.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from pytest_kindinfra.errors import CancelledError, CommandError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.timeline import Deadline

GRACE = 5.0
"""Seconds between asking a process group to end and killing it."""

_LONGEST_NAP = 0.05
_CHUNK = 1 << 20


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
            log: A file that gets both streams as they come; the result then holds its text.
            check: Whether another exit code than 0 is an error.

        Raises:
            CommandError: It failed, or the deadline passed.
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


class SubprocessRunner:
    """Runs programs as children of this process."""

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
        """See `Runner.run`."""
        with _output_files(log) as (out, err):
            process = _start(argv, stdout=out, stderr=err, env=env, cwd=cwd)
            exit_code = _wait([process], deadline)[0]
            stdout, stderr = _text(out), "" if log else _text(err)
        if exit_code is None or (check and exit_code != 0):
            raise CommandError(argv, exit_code=exit_code, output=stdout + stderr, what=what)
        return Result(stdout, stderr, exit_code)

    def pipe(
        self,
        source: Sequence[str],
        sinks: Sequence[Sequence[str]],
        *,
        deadline: Deadline,
        what: str,
    ) -> None:
        """See `Runner.pipe`."""
        argvs = [*sinks, source]
        with tempfile.TemporaryDirectory(prefix="kindinfra-") as folder:
            logs = [open(f"{folder}/{n}", "w+b") for n in range(len(argvs))]  # noqa: SIM115, PTH123
            try:
                codes = _wait(_start_pipe(source, sinks, logs), deadline)
                outputs = [_text(log) for log in logs]
            finally:
                for log in logs:
                    log.close()
        for argv, exit_code, output in zip(argvs, codes, outputs, strict=True):
            if exit_code != 0:
                raise CommandError(argv, exit_code=exit_code, output=output, what=what)


class Background:
    """A program that runs while the block does, and not longer."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv

    def __enter__(self) -> Self:
        """Start it."""
        self._log = tempfile.TemporaryFile()
        self._process = _start(self._argv, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """End it and what it started."""
        _end(self._process)
        self._log.close()

    def output(self) -> str:
        """What it has printed so far."""
        with open(f"/dev/fd/{self._log.fileno()}", "rb") as copy:  # noqa: PTH123 - own position
            return copy.read().decode(errors="replace")

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None


def check_output(argv: Sequence[str], **kwargs: Any) -> str:
    """Run `argv` as `subprocess.check_output` does and return its standard output as text.

    For callers whose users know that function: its arguments and its exceptions are the contract.

    Raises:
        subprocess.CalledProcessError: It ended with another exit code than 0.
    """
    return subprocess.check_output(argv, **{"encoding": "utf-8", **kwargs})  # type: ignore[no-any-return]


def which(program: str, *, fix: str) -> str:
    """Return the path of `program`.

    Raises:
        ToolMissingError: It is not on PATH; `fix` says what to do.
    """
    if path := shutil.which(program):
        return path
    msg = f'"{program}" is not on PATH ({os.environ.get("PATH", "")})\nTo fix: {fix}'
    raise ToolMissingError(msg)


def _start_pipe(
    source: Sequence[str], sinks: Sequence[Sequence[str]], logs: Sequence[IO[bytes]]
) -> list[subprocess.Popen[bytes]]:
    """Start the sinks, then the source that feeds them; all of them or none."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for argv, log in zip(sinks, logs[:-1], strict=True):
            started.append(_start(argv, stdin=subprocess.PIPE, stdout=log, stderr=log))
        pipes = [process.stdin for process in started if process.stdin]
        target = pipes[0] if len(pipes) == 1 else subprocess.PIPE
        started.append(_start(source, stdout=target, stderr=logs[-1]))
    except BaseException:
        for process in started:
            _end(process)
            process.communicate()  # closes its standard input
        raise
    if stream := started[-1].stdout:
        threading.Thread(target=_copy, args=(stream, pipes), daemon=True).start()
    else:
        pipes[0].close()
    return started


def _copy(source: IO[bytes], sinks: Sequence[IO[bytes]]) -> None:
    """Copy one stream to several; one that ends early is left out, and its exit code tells."""
    listening = list(sinks)
    with source:
        while listening and (chunk := source.read(_CHUNK)):
            listening = [sink for sink in listening if _takes(sink, chunk)]
    for sink in sinks:
        with suppress(BrokenPipeError):
            sink.close()


def _takes(sink: IO[bytes], chunk: bytes) -> bool:
    try:
        sink.write(chunk)
    except BrokenPipeError:
        return False
    return True


def _start(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    program = which(argv[0], fix=f'install "{argv[0]}" or put its folder on PATH')
    return subprocess.Popen(
        [*_dies_with_parent(), program, *argv[1:]],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )


def _dies_with_parent() -> tuple[str, ...]:
    """Return the words that make Linux kill a child whose parent died.

    `setpriv` of util-linux sets PR_SET_PDEATHSIG and then becomes the program. Python's
    preexec_fn could do it too, but may deadlock in a process with threads (subprocess docs).
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


@contextmanager
def _output_files(log: Path | None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give files for both streams: one log for both, or two that vanish."""
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w+b") as both:
            yield both, both
        return
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        yield out, err


def _wait(processes: Sequence[subprocess.Popen[bytes]], deadline: Deadline) -> list[int | None]:
    """Wait for all; None stands for one that the deadline ended."""
    late: set[int] = set()
    try:
        for process in processes:
            if not _wait_for(process, deadline):
                late.add(process.pid)
    finally:
        for process in processes:
            _end(process)
    return [None if process.pid in late else process.returncode for process in processes]


def _wait_for(process: subprocess.Popen[bytes], deadline: Deadline) -> bool:
    """Return whether it ended by itself; raise if the run is ending."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(_LONGEST_NAP, deadline.left))
            return True
        if deadline.cancelled.is_set():
            msg = "the run is ending"
            raise CancelledError(msg)
        if deadline.passed:
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group if its leader still runs: asked first, killed after a grace.

    What outlives the leader is killed with no further grace: nobody is left to wait for it.
    """
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
