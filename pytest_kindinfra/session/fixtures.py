"""What tests can ask for: the cluster as pytest-kind names it, namespaces, once, variables."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
from contextlib import contextmanager
from functools import cached_property, partial
from hashlib import sha256
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, NotReadyError, OnceError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.model import (
    RUN_LABEL,
    TEST_LABEL,
)
from pytest_kindinfra.names import (
    declared_name,
    worker_of,
)
from pytest_kindinfra.plan.checks import Word, fill_words, words
from pytest_kindinfra.state.locks import locked
from pytest_kindinfra.state.records import LoadedByTest, OnceDone, PlanMade
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import which
from pytest_kindinfra.system.runner import Background, Runner, check_output
from pytest_kindinfra.system.secrets import Redactor
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.state.directory import RunDirectory


_PORT = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


_PER_TRY = 5.0


_BETWEEN_TRIES = 0.5


_OPEN_SECONDS = 0.2


_LOOK_EVERY = 0.05


@contextmanager
def forwarded(
    command: Callable[[int | None], Sequence[str]], *, local_port: int | None, retries: int
) -> Iterator[int]:
    """Run `kubectl port-forward` and give the local port once its far end holds a connection.

    While the block runs, kubectl is started again on the same port whenever it ends.

    Args:
        command: Makes the command for a local port; without one kubectl chooses.
        local_port: The port to use, if it must be a certain one.
        retries: How often to start it before giving up.

    Raises:
        KindInfraError: The far end never answered; holds what kubectl said last.
    """
    said = ""
    for _ in range(max(1, retries)):
        with Background(command(local_port)) as process:
            port = wait_until(partial(_port, process), Deadline.after(_PER_TRY), every=0.02)
            if port and _answers(port, process):
                with _kept(process, partial(command, port)):
                    yield port
                return
            said = process.output()
        Deadline.after(_BETWEEN_TRIES).pause(_BETWEEN_TRIES)
    shown = Redactor().text(said.strip())
    msg = f"the port-forward did not answer after {retries} tries: {shown}"
    raise KindInfraError(msg)


@contextmanager
def _kept(first: Background, again: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Have kubectl started again while the block runs; no thread is left after it."""
    over = threading.Event()
    thread = threading.Thread(
        target=_keep, args=(first, again, over), name="kindinfra-port-forward", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep(first: Background, again: Callable[[], Sequence[str]], over: threading.Event) -> None:
    _await_end(first, over)
    while not over.is_set():
        with Background(again()) as process:
            _await_end(process, over)
        over.wait(_BETWEEN_TRIES)


def _await_end(process: Background, over: threading.Event) -> None:
    while not process.ended() and not over.wait(_LOOK_EVERY):
        pass


def _port(process: Background) -> int | None:
    if match := _PORT.search(process.output()):
        return int(match[1])
    if process.ended():
        return -1
    return None


def _answers(port: int, process: Background) -> bool:
    """Whether a connection stays open: kubectl accepts it before it has reached the far end."""
    if port < 0:
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PER_TRY) as connection:
            connection.settimeout(_OPEN_SECONDS)
            try:
                open_still = connection.recv(1) != b""
            except TimeoutError:
                open_still = True
    except OSError:
        return False
    return open_still and not process.ended()


_COLLIDING = frozenset({"apply", "create"})


_LOAD_SECONDS = 600.0


class KindCluster:
    """A handle on the run's cluster.

    Attributes:
        name: kind's name for it.
        kubeconfig_path: The file with its credentials.
    """

    def __init__(self, stack: Stack, run: RunDirectory, *, load: Load = "auto") -> None:
        self.name: str = stack.cluster
        self.kubeconfig_path: Path = stack.kubeconfig
        self._stack = stack
        self._run = run
        self._how: Load = load

    @cached_property
    def kubectl_path(self) -> str:
        """The path of the kubectl on PATH.

        Raises:
            ToolMissingError: There is none.
        """
        return which(
            "kubectl", fix=f"{how_to_get('kubectl')}, or use the `kindinfra` fixture's `kube`"
        )

    @property
    def api(self) -> Any:
        """A `kubernetes.client.ApiClient` (pytest-kind gives pykube's client here)."""
        return self._stack.kube

    def kubectl(self, *args: str, **kwargs: Any) -> str:
        """Run kubectl against the cluster and return what it printed on standard output.

        Args:
            *args: kubectl's arguments.
            **kwargs: Those of `subprocess.check_output`.

        Raises:
            subprocess.CalledProcessError: It ended with another exit code than 0.
        """
        __tracebackhide__ = True  # as in check_output
        argv = [self.kubectl_path, "--kubeconfig", str(self.kubeconfig_path), *args]
        if _COLLIDING.isdisjoint(args[:1]):
            return check_output(argv, **kwargs)
        with locked(self._run.kubectl_lock):
            return check_output(argv, **kwargs)

    def load_docker_image(self, docker_image: str) -> None:
        """Load an image of the engine into the cluster; in a run once for each reference.

        Raises:
            CommandError: It could not be loaded.
        """
        name = _hashed(docker_image)
        with locked(self._run.lock_of(LoadedByTest, name)):
            if self._run.read(LoadedByTest, name):
                return
            self._load(docker_image)
            self._run.write(LoadedByTest(reference=docker_image), name)

    @contextmanager
    def port_forward(
        self,
        service_or_pod_name: str,
        remote_port: int,
        *args: str,
        local_port: int | None = None,
        retries: int = 10,
    ) -> Iterator[int]:
        """Give the local port that leads to a port of a pod or k8s service, while in the block.

        Args:
            service_or_pod_name: `service/NAME`, `deployment/NAME` or a pod's name.
            remote_port: The port there.
            *args: Further arguments of kubectl, such as `-n NAMESPACE`.
            local_port: A fixed port; None means one that kubectl chooses.
            retries: How often kubectl is started before giving up. Once the far end has answered,
                it is started again whenever it ends.

        Raises:
            KindInfraError: The far end did not answer.
        """
        argv = [self.kubectl_path, "--kubeconfig", str(self.kubeconfig_path), "port-forward"]
        argv += ["--address", "127.0.0.1", service_or_pod_name]

        def command(local: int | None) -> list[str]:
            return [*argv, f"{local or ''}:{remote_port}", *args]

        with forwarded(command, local_port=local_port, retries=retries) as port:
            yield port

    def _load(self, docker_image: str) -> None:
        from pytest_kindinfra.wiring import load_one_image

        plan = self._run.settled(PlanMade)
        load_one_image(
            self.name,
            docker_image,
            engine=plan.engine if isinstance(plan, PlanMade) else "auto",
            how=self._how,
            runner=Runner(),
            deadline=Deadline.after(_LOAD_SECONDS),
        )


def _hashed(text: str) -> str:
    """Return a file's name for what may hold any letter."""
    return sha256(text.encode()).hexdigest()[:16]


class Once:
    """Calls functions once per run; what they return goes through JSON."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._producing: set[tuple[str, int]] = set()

    def __call__(self, key: str, produce: Callable[[], Any]) -> Any:
        """Return what `produce` returned in the one process that called it.

        Args:
            key: Names the call; the same key means the same value everywhere.
            produce: Takes nothing and returns something that JSON can hold.

        Returns:
            The value after a round trip through JSON, in the producing process too.

        Raises:
            OnceError: `produce` raised; the text holds the original's type and message. Or it asked
                for the key that it is to produce.
        """
        name = _hashed(key)
        if (outcome := self._run.read(OnceDone, name)) is None:
            if (name, get_ident()) in self._producing:  # another thread waits for its turn
                msg = f'"{key}": its producer requests the same key'
                raise OnceError(msg)
            outcome = self._produce(name, key, produce)
        if outcome.error is not None:
            raise OnceError(outcome.error)
        return outcome.value

    def _produce(self, name: str, key: str, produce: Callable[[], Any]) -> OnceDone:
        self._run.make()
        with locked(self._run.lock_of(OnceDone, name)):
            if (outcome := self._run.read(OnceDone, name)) is None:
                mine = name, get_ident()
                self._producing.add(mine)
                try:
                    outcome = _outcome(key, produce)
                finally:
                    self._producing.discard(mine)
                self._run.write(outcome, name)
        return outcome


def _outcome(key: str, produce: Callable[[], Any]) -> OnceDone:
    try:
        return OnceDone(key=key, value=json.loads(json.dumps(produce())))
    except (KeyboardInterrupt, SystemExit):
        raise  # this process is ending, which says nothing about the call
    except BaseException as error:  # noqa: BLE001 - pytest.fail() is no Exception
        return OnceDone(key=key, error=f'"{key}": {type(error).__name__}: {error}')


LABELS = {TEST_LABEL: "true"}


_LONGEST = 63


_RANDOM_BYTES = 4


_SECONDS = 30.0


def fresh_name(test: str) -> str:
    """Return a namespace's name that begins like the test's and that no other test gets."""
    tail = f"-{secrets.token_hex(_RANDOM_BYTES)}"
    words = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-")
    return f"{words[: _LONGEST - len(tail)].strip('-') or 'test'}{tail}"


def make_namespace(stack: Stack, name: str) -> Kube:
    """Make the namespace, wait for its default service account, and return the API used.

    Raises:
        ClusterError: It did not come to be within half a minute.
    """
    # By its run it is found again in a cluster that stays, if its test cannot delete it.
    labels = {**LABELS, RUN_LABEL: stack.run_id}
    stack.api.ensure_namespace(name, Deadline.after(_SECONDS), labels)
    return stack.api


class Exports:
    """The variables that are not set yet.

    Args:
        run: Where results appear.
        worker: Whose copies of services per worker this process has; empty without xdist.
    """

    def __init__(self, run: RunDirectory, worker: str = "") -> None:
        self._stack = Stack(run, waits=False, worker=worker)
        plan = run.settled(PlanMade)
        made = plan if isinstance(plan, PlanMade) else None
        self._left: dict[str, str] = dict(made.env) if made else {}
        names = made.services if made else ()
        self._services = {declared_name(one) for one in names if worker_of(one) in {"", worker}}
        self._set: dict[str, tuple[str, str | None]] = {}

    def set_those_that_are_ready(self) -> None:
        """Set what can be set by now; a variable of a service that no test needs is left out."""
        for name, template in list(self._left.items()):
            if any(word.service and word.service not in self._services for word in words(template)):
                continue
            try:
                value = fill_words(template, self._value)
            except NotReadyError:  # not yet, or never
                continue
            self._set[name] = value, os.environ.get(name)
            os.environ[name] = value
            del self._left[name]

    def restore(self) -> None:
        """Give each variable the value it had before, unless it was changed since."""
        for name, (value, before) in self._set.items():
            if os.environ.get(name) != value:
                continue
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
        self._set.clear()

    def _value(self, word: Word) -> str:
        if not word.service:
            return str(getattr(self._stack, word.attribute))
        endpoint = self._stack.endpoint(word.service, word.endpoint or None)
        return str(getattr(endpoint, word.attribute))
