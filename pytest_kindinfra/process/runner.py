"""Runs programs to their end: one, or one that feeds others."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.privatefiles import open_private
from pytest_kindinfra.process.children import end, start, text, wait
from pytest_kindinfra.process.protocol import Result
from pytest_kindinfra.process.redacted import written_redacted
from pytest_kindinfra.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.timeline import Deadline

_CHUNK = 1 << 20


class SubprocessRunner:
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
    ) -> Result:
        """See `Runner.run`."""
        with _output_files(log) as (out, err):
            with self._sinks(out, err) as (to_out, to_err):
                process = start(argv, stdout=to_out, stderr=to_err, env=env, cwd=cwd)
                exit_code = wait([process], deadline)[0]
            stdout, stderr = text(out), "" if log else text(err)
        if exit_code is None or (check and exit_code != 0):
            raise self._failure(argv, exit_code=exit_code, output=stdout + stderr, what=what)
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
                codes = wait(_start_pipe(source, sinks, logs), deadline)
                outputs = [text(log) for log in logs]
            finally:
                for log in logs:
                    log.close()
        for argv, exit_code, output in zip(argvs, codes, outputs, strict=True):
            if exit_code != 0:
                raise self._failure(argv, exit_code=exit_code, output=output, what=what)

    @contextmanager
    def _sinks(self, out: IO[bytes], err: IO[bytes]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Give what a child writes to: the files themselves, or what leads to a log redacted."""
        if out is not err or self._for_logs is None:
            yield out, err
            return
        with written_redacted(out, self._for_logs) as sink:
            yield sink, sink

    def _failure(
        self, argv: Sequence[str], *, exit_code: int | None, output: str, what: str
    ) -> CommandError:
        words, shown = self._redactor.words(argv), self._redactor.text(output)
        return CommandError(words, exit_code=exit_code, output=shown, what=what)


def _start_pipe(
    source: Sequence[str], sinks: Sequence[Sequence[str]], logs: Sequence[IO[bytes]]
) -> list[subprocess.Popen[bytes]]:
    """Start the sinks, then the source that feeds them; all of them or none."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for argv, log in zip(sinks, logs[:-1], strict=True):
            started.append(start(argv, stdin=subprocess.PIPE, stdout=log, stderr=log))
        pipes = [process.stdin for process in started if process.stdin]
        target = pipes[0] if len(pipes) == 1 else subprocess.PIPE
        started.append(start(source, stdout=target, stderr=logs[-1]))
    except BaseException:
        for process in started:
            end(process)
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
