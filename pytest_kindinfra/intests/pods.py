"""Commands in a service's pods, and what these pods have logged."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, NotReadyError, indent, last_lines
from pytest_kindinfra.kube.activity import Moment
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.execsocket import Container
from pytest_kindinfra.kube.execute import Executed, execute
from pytest_kindinfra.kube.pods import container_of, containers_of, phase_of
from pytest_kindinfra.kube.routes import live_pods
from pytest_kindinfra.kube.targets import selector
from pytest_kindinfra.system.secrets import Redactor, credentials_in
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.records import DeployedService


_LINES = 20
"""Of each stream, in messages."""


_LOOK_EVERY = 0.1


_LOG_LINES = 10_000


_LOG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What came of a command in a pod.

    Attributes:
        exit_code: The command's.
        stdout: What it printed on standard output; bytes that are no UTF-8 are replaced.
        stderr: What it printed on standard error.
    """

    exit_code: int
    stdout: str
    stderr: str

    def __repr__(self) -> str:
        """Return it without secrets and with the ends of both streams: assertions show it."""
        shown = [_end(text, Redactor().text) for text in (self.stdout, self.stderr)]
        return f"ExecResult(exit_code={self.exit_code}, stdout={shown[0]!r}, stderr={shown[1]!r})"


class ExecError(KindInfraError):
    """A command in a pod failed, did not end in time, or could not be started.

    Attributes:
        exit_code: The command's; None if it has none.
        stdout: What it printed on standard output.
        stderr: What it printed on standard error.
    """

    def __init__(
        self, text: str, *, exit_code: int | None = None, stdout: str = "", stderr: str = ""
    ) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(text)


def run_in_pod(
    reader: Reader,
    record: DeployedService,
    command: Sequence[str],
    *,
    container: str | None,
    stdin: str | bytes | None,
    timeout: float,
    check: bool,
) -> ExecResult:
    """Run a command in a ready pod of a service.

    Args:
        reader: The cluster.
        record: The service.
        command: The command's words.
        container: Which one of the pod's; None means its default one, else its first.
        stdin: What the command reads from standard input.
        timeout: Seconds until it must have ended.
        check: Whether another exit code than 0 is an error.

    Raises:
        ExecError: It did not end in time, could not be started, or failed while `check` is set.
        NotReadyError: The service has no ready pod in that time.
        KindInfraError: The pod has no such container.
        ClusterError: The API server does not answer.
    """
    if isinstance(command, str):
        msg = f'exec() takes a list of words, not the text {command!r}: write ["sh", "-c", ...]'
        raise TypeError(msg)
    deadline = Deadline.after(timeout, option="timeout")
    pod = _ready_pod(reader, record, deadline)
    meta = pod["metadata"]
    where = Container(meta["namespace"], meta["name"], container_of(pod, container))
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = execute(reader.transport, where, command, stdin=data, deadline=deadline)
    stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.exit_code is None or (check and done.exit_code):
        text = _failure(reader, record, where, command, done)
        raise ExecError(text, exit_code=done.exit_code, stdout=stdout, stderr=stderr)
    return ExecResult(done.exit_code, stdout, stderr)


def read_logs(
    reader: Reader, record: DeployedService, *, since: float | None, previous: bool
) -> str:
    """Return what the containers of a service's pods have logged, in the order of time.

    Args:
        reader: The cluster.
        record: The service.
        since: From when on, in seconds since the epoch; None means from the beginning.
        previous: The logs of the containers before their last restart.
    """
    pods = pods_of_service(reader, record)
    return merged_logs(reader, pods, since=since, previous=previous)


def merged_logs(
    reader: Reader, pods: Sequence[KubeObject], *, since: float | None, previous: bool = False
) -> str:
    """Return what the containers of some pods have logged, in the order of time."""
    moment = Moment(since or 0.0)
    lines: list[tuple[str, str]] = []
    for pod in pods:
        for one in containers_of(pod):
            log = _log(reader, pod, one["name"], moment, previous=previous)
            parts = (line.partition(" ") for line in log.splitlines())
            lines += [(when, text) for when, _, text in parts if moment.is_before(when)]
    return "".join(f"{text}\n" for _, text in sorted(lines, key=lambda line: line[0]))


def pods_of_service(reader: Reader, record: DeployedService) -> list[KubeObject]:
    """Return the pods of a service that are not ending.

    Those that have its label; if none has, those that its workloads select: workloads that were in
    an existing cluster before are left without label.
    """
    found = live_pods(reader, record.service, namespaces=record.namespaces)
    if found:
        return found
    chosen: dict[str, KubeObject] = {}
    for obj in record.objects:
        if obj["kind"] not in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod"}:
            continue
        live = reader.get(reader.path_of(obj, namespace=record.namespace))
        labels = selector(live) if live else {}
        if not labels:
            continue
        where = obj["metadata"].get("namespace") or record.namespace
        query = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = reader.list_(f"/api/v1/namespaces/{where}/pods", labelSelector=query)
        living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        chosen |= {pod["metadata"]["uid"]: pod for pod in living}
    return list(chosen.values())


def is_ready(pod: KubeObject) -> bool:
    """Whether a pod says of itself that it is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def newest_ready(pods: Iterable[KubeObject]) -> KubeObject | None:
    """Return the pod that was made last of those that are ready; None if none is."""
    ready = [pod for pod in pods if is_ready(pod)]
    return max(ready, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)


def _redactor_of(reader: Reader) -> Redactor:
    """Return a redactor that knows the credentials of the cluster."""
    redactor = Redactor()
    with suppress(OSError):
        redactor.learn(credentials_in(reader.kubeconfig.read_text("utf-8")))
    return redactor


def _ready_pod(reader: Reader, record: DeployedService, deadline: Deadline) -> KubeObject:
    """Return a ready pod; one may be on its way, or late with its probe on a busy machine."""
    pods: list[KubeObject] = []

    def ready() -> KubeObject | None:
        pods[:] = pods_of_service(reader, record)
        return newest_ready(pods)

    if pod := wait_until(ready, deadline, every=_LOOK_EVERY):
        return pod
    states = [f"{pod['metadata']['name']} is {phase_of(pod)}" for pod in pods]
    found = ", ".join(states) or "it has no pods"
    msg = f'service "{record.service}" has no ready pod{deadline.exceeded()}: {found}'
    raise NotReadyError(msg)


def _log(reader: Reader, pod: KubeObject, container: str, since: Moment, *, previous: bool) -> str:
    meta = pod["metadata"]
    try:
        return reader.pod_logs(
            meta["namespace"], meta["name"], container, previous=previous, lines=_LOG_LINES,
            limit_bytes=_LOG_BYTES, since=str(since),
        )  # fmt: skip
    except ApiError as error:
        # A container that has not started yet, or was never restarted, has no log.
        if error.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            raise
        return ""


def _failure(
    reader: Reader,
    record: DeployedService,
    where: Container,
    command: Sequence[str],
    done: Executed,
) -> str:
    redactor = _redactor_of(reader)
    ended = f"exit code {done.exit_code}" if done.exit_code is not None else done.failure
    place = f'pod "{where.pod}", container "{where.container}"'
    head = f'a command in service "{record.service}" failed: {redactor.text(ended)} ({place})'
    shown = f"  $ {shlex.join(redactor.words(command))}"
    streams = list(_streams(done, redactor.text))
    return "\n".join([head, shown, *streams])


def _streams(done: Executed, redact: Callable[[str], str]) -> Iterator[str]:
    for name, data in (("stdout", done.stdout), ("stderr", done.stderr)):
        if text := _end(data.decode(errors="replace"), redact):
            yield f"  {name}:\n{indent(text)}"


def _end(text: str, redact: Callable[[str], str]) -> str:
    """Return the end of a text without secrets; one that is cut would not be recognised."""
    shown = redact(text)
    end = last_lines(shown, _LINES)
    return end[-4096:]


def seconds_of(since: Any) -> float | None:
    """Return a moment in seconds since the epoch.

    Args:
        since: Seconds since the epoch, a `datetime` with a time zone, or None.

    Raises:
        TypeError: It is something else.
    """
    from datetime import datetime

    if since is None or (isinstance(since, int | float) and not isinstance(since, bool)):
        return since
    if isinstance(since, datetime) and since.tzinfo is not None:
        return since.timestamp()
    msg = f"since= takes seconds since the epoch or a datetime with a time zone, not {since!r}"
    raise TypeError(msg)
