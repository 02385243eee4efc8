"""What a run shows while it lasts: progress lines, and sections in reports of failed tests."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.dockerfile import build_secrets
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube.activity import Moment, happenings
from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.run.report import heartbeat_line, progress_line, running_line
from pytest_kindinfra.session.selection import needs_of
from pytest_kindinfra.system.secrets import Redactor, credentials_in
from pytest_kindinfra.system.timeline import Deadline, now, phase_kind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, Phase
    from pytest_kindinfra.plan.options import Progress
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Running


_SILENCE = 15.0
"""Seconds after which a line says what goes on."""


class Heartbeats:
    """Which of the phases that print something are to be told about: each once in a while.

    A silence of all is rare while many things go on, so a build that hangs among them would
    not be seen.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, float], float] = {}

    def due(self, running: Iterable[Running], *, at: float) -> list[Running]:
        """Return those that have gone on for so long since their start, or since the last time."""
        printing = [one for one in running if one.says()]
        due = [one for one in printing if self._is_due(one, at)]
        self._told |= {one[:3]: at for one in due}
        return due

    def _is_due(self, one: Running, at: float) -> bool:
        kind, told = phase_kind(one.kind), self._told.get(one[:3])
        if told is not None:
            return at - told >= kind.next_line
        return at - one.start >= kind.first_line


class ProgressLines:
    """Shows the phases of a bring-up as they end."""

    def __init__(self, config: pytest.Config, *, how: Progress, since: float) -> None:
        self._config = config
        self._how = how
        self._since = since
        self._last = since
        self._heartbeats = Heartbeats()
        self._waiting: deque[str] = deque()
        self._terminal = threading.RLock()
        self._direct = config.pluginmanager.hasplugin("dsession")
        if self._direct:
            config.pluginmanager.register(self, "kindinfra-progress")

    def __call__(self, phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        """Take the start or the end of a phase, from any thread."""
        if self._how == "off" or not (ended or self._how == "plain"):
            return
        self._add(progress_line(phase, ended=ended, since=self._since))

    def say(self, text: str) -> None:
        """Say something of the bring-up as a whole, however little is wanted."""
        self._add(f"kindinfra: {text}")

    def beat(self, running: tuple[Running, ...]) -> None:
        """Say what takes long and what it printed last, and what goes on after a silence.

        Args:
            running: The phases that have not ended.
        """
        if self._how == "off":
            return
        for one in self._heartbeats.due(running, at=now()):
            self._add(heartbeat_line(one, at=now(), since=self._since))
        if running and now() - self._last >= _SILENCE:
            self._add(running_line(running, at=now(), since=self._since))

    def _add(self, line: str) -> None:
        self._last = now()
        self._waiting.append(line)
        if self._direct:
            self._write()

    def let_out(self) -> None:
        """Write what waits; to be called by the main thread."""
        if not self._waiting:
            return
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            self._write()
            return
        with capture.global_and_fixture_disabled():
            self._write()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        """Let no line of ours come between a test's name and its line's end."""
        with self._terminal:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """Let no dot come between our look at the terminal and our line."""
        with self._terminal:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        """As the others: here pytest writes the percentage."""
        with self._terminal:
            return (yield)

    def _write(self) -> None:
        with self._terminal:
            while self._waiting:
                write_line(self._config, self._waiting.popleft())


def write_line(config: pytest.Config, line: str) -> None:
    """Write a line of its own to the terminal, also after a row of dots.

    If nobody reads it any more (`pytest | head`, a connection that was dropped), it is lost and the
    work goes on.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    with suppress(Exception):
        reporter.ensure_newline()
        if config.get_terminal_writer().width_of_current_line:  # dots of xdist's workers
            reporter.write_line("")
        reporter.write_line(line)
        reporter.flush()  # or a log that is no terminal has it only when the run is over


SECONDS = 10.0
"""A test that failed is not held up for longer than about this."""


def sections(
    item: pytest.Item, run: RunDirectory, since: float, *, shared: bool
) -> list[tuple[str, str]]:
    """Return titles and texts for the report of a failed test, without secrets.

    Args:
        item: The test.
        run: Where the cluster is found.
        since: When its services were there, in seconds since the epoch.
        shared: The cluster has pods of other runs too, in other namespaces.
    """
    stack = Stack(run, waits=False)
    try:
        redact = _redactor(item, stack).text
        pods = [*_own_pods(item, stack.api), *_pods_of_services(item, stack, shared=shared)]
        found = happenings(
            stack.api, pods, Moment(since), redact=redact, deadline=Deadline.after(SECONDS)
        )
        return [(f"kindinfra {title}", text) for title, text in found]
    except Exception as error:  # noqa: BLE001 - the test's own failure is what must be seen
        return [("kindinfra logs", f"not to be had: {error}")]
    finally:
        stack.close()


def _own_pods(item: pytest.Item, kube: Kube) -> list[KubeObject]:
    """Return the pods in the test's own namespace, if it has one."""
    namespace = getattr(item, "funcargs", {}).get("kindinfra_namespace")
    return kube.list_(f"/api/v1/namespaces/{namespace}/pods") if namespace else []


def _pods_of_services(item: pytest.Item, stack: Stack, *, shared: bool) -> list[KubeObject]:
    """Return the pods of all services, those first that the test names."""
    named = needs_of(item) or ()
    where = f"/namespaces/{stack.namespace}" if shared else ""
    pods = stack.api.list_(f"/api/v1{where}/pods", labelSelector=SERVICE_LABEL)
    return sorted(pods, key=lambda pod: pod["metadata"]["labels"][SERVICE_LABEL] not in named)


def _redactor(item: pytest.Item, stack: Stack) -> Redactor:
    """Return one that knows the kubeconfig's secrets and those of builds."""
    from pytest_kindinfra.run.prepare import read_declaration

    redactor = Redactor(credentials_in(stack.kubeconfig.read_text("utf-8")))
    with suppress(KindInfraError):
        for image in read_declaration(item.config.rootpath).images:
            redactor.learn(build_secrets(image, folder=item.config.rootpath))
    return redactor
