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
from pytest_kindinfra.model import SERVICE_LABEL, WORKER_LABEL, copy_namespace
from pytest_kindinfra.session.selection import needs_of
from pytest_kindinfra.system.secrets import Redactor, credentials_in
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.directory import RunDirectory


class Terminal:
    """Writes lines of the provisioner to pytest's terminal where they disturb nothing.

    Where tests run in other processes a line is written at once, from any thread; else it waits
    for the main thread, which writes it while a test waits, and at the end of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._waiting: deque[str] = deque()
        self._lock = threading.RLock()
        self._direct = config.pluginmanager.hasplugin("dsession")
        if self._direct:
            config.pluginmanager.register(self, "kindinfra-progress")

    def say(self, line: str) -> None:
        """Take a line, from any thread."""
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
        """Print no line between a test's name and its line's end."""
        with self._lock:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """Let no dot come between our look at the terminal and our line."""
        with self._lock:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        """As the others: here pytest writes the percentage."""
        with self._lock:
            return (yield)

    def _write(self) -> None:
        with self._lock:
            while self._waiting:
                write_line(self._config, self._waiting.popleft())


def write_line(config: pytest.Config, line: str) -> None:
    """Write a line of its own to the terminal, also after a row of dots.

    If it is not read any more (`pytest | head`, a connection that was dropped), it is lost and the
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
    item: pytest.Item, run: RunDirectory, since: float, *, shared: bool, worker: str = ""
) -> list[tuple[str, str]]:
    """Return titles and texts for the report of a failed test, without secrets.

    Args:
        item: The test.
        run: Where the cluster is found.
        since: When its services were there, in seconds since the epoch.
        shared: The cluster has pods of other runs too, in other namespaces.
        worker: Whose copies of services per worker the test has; empty without xdist.
    """
    stack = Stack(run, waits=False)
    try:
        redact = _redactor(item, stack).text
        pods = [*_own_pods(item, stack.api), *_pods_of_services(item, stack, worker, shared=shared)]
        found = happenings(
            stack.api, pods, Moment(since), redact=redact, deadline=Deadline.after(SECONDS)
        )
        return [(f"kindinfra {title}", text) for title, text in found]
    except Exception as error:  # noqa: BLE001 - the test's own failure is what must be seen
        return [("kindinfra logs", f"could not be read: {error}")]
    finally:
        stack.close()


def _own_pods(item: pytest.Item, kube: Kube) -> list[KubeObject]:
    """Return the pods in the test's own namespace, if it has one."""
    namespace = getattr(item, "funcargs", {}).get("kindinfra_namespace")
    return kube.list_(f"/api/v1/namespaces/{namespace}/pods") if namespace else []


def _pods_of_services(
    item: pytest.Item, stack: Stack, worker: str, *, shared: bool
) -> list[KubeObject]:
    """Return the pods of all services, those first that the test names."""
    named = needs_of(item) or ()
    paths = ["/api/v1/pods"]
    if shared:
        places = [stack.namespace, *([copy_namespace(stack.namespace, worker)] if worker else [])]
        paths = [f"/api/v1/namespaces/{one}/pods" for one in places]
    pods = [pod for path in paths for pod in stack.api.list_(path, labelSelector=SERVICE_LABEL)]
    own = [pod for pod in pods if _labels(pod).get(WORKER_LABEL, worker) == worker]
    return sorted(own, key=lambda pod: _labels(pod)[SERVICE_LABEL] not in named)


def _labels(pod: KubeObject) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


def _redactor(item: pytest.Item, stack: Stack) -> Redactor:
    """Return one that knows the kubeconfig's secrets and those of builds."""
    from pytest_kindinfra.run.prepare import read_declaration

    redactor = Redactor(credentials_in(stack.kubeconfig.read_text("utf-8")))
    with suppress(KindInfraError):
        for image in read_declaration(item.config.rootpath).images:
            redactor.learn(build_secrets(image, folder=item.config.rootpath))
    return redactor
