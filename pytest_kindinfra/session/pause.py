"""`--kindinfra-pause`: at the first failure the tests stop, until Enter is pressed.

The process that has the failure notes it in the run directory, and waits before the test's fixtures
end. Every other process waits before its next test. The main process, which has the terminal, shows
the commands to look with, waits for Enter, and notes that the pause is over.
"""

from __future__ import annotations

import os
import select
import shlex
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.session.board import hidden_board
from pytest_kindinfra.session.selection import needs_of
from pytest_kindinfra.session.stash import outline, run_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.records import Paused


_WORKERINPUT = "kindinfra_pause"


_LOOK_EVERY = 0.1


def set_up_pause(config: pytest.Config) -> None:
    """Have this process take part in the pause, if the option and a terminal are there."""
    if (workerinput := getattr(config, "workerinput", None)) is not None:
        if workerinput.get(_WORKERINPUT):
            config.pluginmanager.register(_Tests(config), "kindinfra-pause")
    elif outline(config).settings.pause:
        plugin = _Prompting(config) if _has_terminal(config) else _NoTerminal()
        config.pluginmanager.register(plugin, "kindinfra-pause")


class _NoTerminal:
    """Says that tests do not stop, since there is no terminal to go on from."""

    def pytest_report_header(self) -> str:
        return "kindinfra: --kindinfra-pause does nothing: standard input or output is no terminal"


class _Tests:
    """Stops the tests of this process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = os.environ.get("PYTEST_XDIST_WORKER", "main")

    @property
    def _run(self) -> RunDirectory:
        return run_of(self._config)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        """Begin no test while the others stop; before the clock of pytest-timeout starts."""
        from pytest_kindinfra.state.records import Paused

        with _careful():
            if self._run.names(Paused) and not self._is_over():
                self._wait()
        return (yield)

    def _is_over(self) -> bool:
        from pytest_kindinfra.state.records import PauseOver

        return self._run.read(PauseOver) is not None

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, report: pytest.CollectReport | pytest.TestReport
    ) -> None:
        """Stop at a failure, if it is the first one; the test's fixtures have not ended yet."""
        from pytest_kindinfra.state.records import Paused

        if not isinstance(node, pytest.Item) or (needs := needs_of(node)) is None:
            return
        evidence = dict(node.user_properties).get("kindinfra_evidence", "")
        paused = Paused(
            test=f"{node.nodeid} ({report.when})",
            services=tuple(sorted(needs)),
            evidence=str(evidence),
        )
        with _careful():
            if not self._is_over():
                self._run.write(paused, self._worker)
                self._wait()

    def _wait(self) -> None:
        from pytest_kindinfra.state.locks import is_locked
        from pytest_kindinfra.system.timeline import sleep

        while not self._is_over() and not self._run.is_closed:
            if not is_locked(self._run.lock):
                return  # the main process is gone: the pause would have no end
            sleep(_LOOK_EVERY)


class _Prompting(_Tests):
    """Asks at the terminal: without xdist in the test's place, else next to the workers."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Have a worker stop its tests, and begin to look whether it has."""
        node.workerinput[_WORKERINPUT] = True
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, name="kindinfra-pause", daemon=True
            )  # fmt: skip
            self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            with _careful():
                if paused := self._first():
                    self._ask(paused)
                    return

    def _wait(self) -> None:
        """Ask; this is the process of the tests."""
        if paused := self._first():
            self._ask(paused)

    def _first(self) -> Paused | None:
        from pytest_kindinfra.state.records import Paused

        return next(iter(self._run.read_all(Paused).values()), None)

    def _ask(self, paused: Paused) -> None:
        from pytest_kindinfra.session.output import write_line
        from pytest_kindinfra.state.records import PauseOver

        with _stdin(self._config):
            for line in _pause_lines(self._config, self._run, paused):
                write_line(self._config, line)
            while not self._over.is_set() and not _line_is_read():
                pass
        self._run.write(PauseOver())

    def pytest_sessionfinish(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread:
            self._thread.join()


def _pause_lines(config: pytest.Config, run: RunDirectory, paused: Paused) -> Iterator[str]:
    """Yield what is shown when the tests stop: the test, and commands to look with."""
    yield f"kindinfra: {paused.test} failed; the tests stop here, and the cluster stays meanwhile"
    if paused.evidence:
        yield f"  evidence: {paused.evidence}"
    if run.kubeconfig.exists():
        yield f"  export KUBECONFIG={shlex.quote(str(run.kubeconfig))}"
        yield from (f"  {command}" for command in _commands(config, run, paused.services))
    yield "kindinfra: press Enter to go on"


def _commands(config: pytest.Config, run: RunDirectory, services: tuple[str, ...]) -> Iterator[str]:
    from pytest_kindinfra.clusters.kubeconfigs import option_words
    from pytest_kindinfra.model import SERVICE_LABEL
    from pytest_kindinfra.state.records import ClusterReady

    cluster = run.settled(ClusterReady)
    namespace = cluster.namespace if isinstance(cluster, ClusterReady) else "default"
    yield f"kubectl --namespace={namespace} get pods,events"
    settings = outline(config).settings
    words = option_words(settings) if settings.kubeconfig else []
    named = "".join(f" {shlex.quote(word)}" for word in words)
    for name in services:
        if settings.reuse:
            yield f"kindinfra logs{named} {name}"
            yield f"kindinfra exec{named} {name} -- sh -c 'COMMAND'"
        else:
            yield f"kubectl --namespace={namespace} logs --selector={SERVICE_LABEL}={name} --prefix"


def _careful() -> AbstractContextManager[None]:
    """Let no state file that cannot be read or written end the run, or a test."""
    return suppress(KindInfraError, OSError)


# -- the terminal --------------------------------------------------------------------------------


@contextmanager
def _stdin(config: pytest.Config) -> Iterator[None]:
    """Give standard input and output back for a moment, which pytest captures."""
    capture = config.pluginmanager.getplugin("capturemanager")
    disabled = capture.global_and_fixture_disabled() if capture else nullcontext()
    with disabled, hidden_board(config):
        if capture:
            capture.suspend_global_capture(in_=True)  # the next test's capture takes it again
        yield


def _has_terminal(config: pytest.Config) -> bool:
    with _stdin(config), suppress(OSError, ValueError, AttributeError):
        return bool(sys.__stdin__.isatty() and sys.__stdout__.isatty())  # type: ignore[union-attr]
    return False


def _line_is_read() -> bool:
    """Read what is typed; whether a line has ended, or nothing can come any more.

    Not by `input()`, which a thread would still be in when the interpreter ends.
    """
    with suppress(OSError, ValueError):
        if not select.select([0], [], [], _LOOK_EVERY)[0]:
            return False
        data = os.read(0, 1024)
        return not data or b"\n" in data or b"\r" in data
    return True
