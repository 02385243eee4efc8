"""Start other programs: argument lists, never a shell, always a deadline.

It must not know which programs there are.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import IO, TYPE_CHECKING, NoReturn

from pytest_kindinfra.errors import CancelledError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


GRACE = 5.0
"""Seconds between asking a process group to end and killing it."""


_LONGEST_NAP = 0.05


_DEATH_SIGNAL = ("--pdeathsig", "KILL", "--")


_TRIAL = 5.0


def which(program: str, *, fix: str) -> str:
    """Return the path of `program`.

    Raises:
        ToolMissingError: It is not on PATH; `fix` says what to do.
    """
    if path := shutil.which(program):
        return path
    msg = f'"{program}" is not on PATH ({os.environ.get("PATH", "")})\nTo fix: {fix}'
    raise ToolMissingError(msg)


def start(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own.

    Raises:
        ToolMissingError: There is no such program.
    """
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


def become(argv: Sequence[str], *, env: Mapping[str, str]) -> NoReturn:
    """Replace this process by a program, which has its terminal, signals and exit code.

    Args:
        argv: The program's path and its arguments.
        env: Added to this process's environment.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], list(argv), {**os.environ, **env})  # noqa: S606 - a list of words, no shell


def run_here(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
    """Run a program with this process's terminal to its end, and return its exit code.

    Ctrl-C goes to it as well, as to all of the terminal's foreground: it gets the time to end by
    itself, and is killed by a second one only.

    Args:
        argv: The program and its arguments.
        env: Added to this process's environment.
        cwd: The folder to run in.

    Raises:
        ToolMissingError: There is no such program.
        KeyboardInterrupt: Ctrl-C came; the program has ended.
    """
    program = which(argv[0], fix=f'install "{argv[0]}" or put its folder on PATH')
    sys.stdout.flush()
    process = subprocess.Popen([program, *argv[1:]], env={**os.environ, **env}, cwd=cwd)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def start_apart(
    argv: Sequence[str],
    *,
    output: IO[bytes],
    environment: Mapping[str, str],
    folder: Path,
    inherits: int,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, which outlives this process.

    Args:
        argv: The program, by its path, and its arguments.
        output: Gets what it prints.
        environment: All of its variables.
        folder: Where it runs.
        inherits: An open file that it gets too, by the same number.

    Raises:
        OSError: There is no such program.
    """
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        cwd=folder,
        start_new_session=True,
        pass_fds=[inherits],
    )


def leave(exit_code: int) -> NoReturn:
    """End this process, whatever threads it has: one that never returns must not keep it alive.

    What others have registered for the end is done, such as the removal of temporary files.
    """
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - without `threading`'s, which waits for threads
    os._exit(exit_code)


def _dies_with_parent() -> tuple[str, ...]:
    """Return the words that make Linux kill a child whose parent died; none if nothing can.

    `setpriv` of util-linux sets PR_SET_PDEATHSIG and then becomes the program. Python's
    preexec_fn could do it too, but may deadlock in a process with threads (subprocess docs).
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, *_DEATH_SIGNAL) if setpriv and can_kill_with_parent(setpriv) else ()


@cache
def can_kill_with_parent(setpriv: str) -> bool:
    """Whether a `setpriv` has `--pdeathsig`: that of busybox and util-linux before 2.33 has not.

    Tried once in each process, by having it start itself: no other program is needed.
    """
    try:
        tried = subprocess.run(
            [setpriv, *_DEATH_SIGNAL, setpriv, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode == 0


def wait(processes: Sequence[subprocess.Popen[bytes]], deadline: Deadline) -> list[int | None]:
    """Wait for all; None stands for one that the deadline ended."""
    late: set[int] = set()
    try:
        for process in processes:
            if not _wait_for(process, deadline):
                late.add(process.pid)
    finally:
        for process in processes:
            end(process)
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


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process group if its leader still runs: asked first, killed after a grace.

    What outlives the leader is killed with no further grace: no process is left to wait for it.
    """
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
