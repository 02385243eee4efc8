"""What is kept of a failed test: sections of its report, and `attempts/TEST_ID/N/` with files.

The process that has the failure asks the cluster once, for a bounded time, and writes both from the
answers.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.secrets import build_secrets
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube.activity import Moment, happenings, shown
from pytest_kindinfra.model import (
    SERVICE_LABEL,
    WORKER_LABEL,
)
from pytest_kindinfra.names import copy_namespace
from pytest_kindinfra.session.selection import needs_of
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.system.files import write_private
from pytest_kindinfra.system.secrets import Redactor, credentials_in
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.kube.activity import Happening
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.directory import RunDirectory


EVIDENCE = "kindinfra_evidence"
"""The user property of a report: where to look for what is known of the test."""


_SECONDS = 10.0
"""A test that failed is not held up for longer than about this."""


_MOST_ATTEMPTS = 100
"""Of a run. A run in which more fail has one cause for most of them."""


_FAILURE_LETTERS = 100_000


_NAME_LETTERS = 100


@dataclass(slots=True)
class _Attempt:
    """The folder of the attempt that a test is at; made at its first failure."""

    since: float
    folder: Path | None = None


_ATTEMPT: pytest.StashKey[_Attempt] = pytest.StashKey()


def keep_failure(
    item: pytest.Item,
    report: pytest.TestReport,
    run: RunDirectory,
    since: float,
    *,
    shared: bool,
    worker: str = "",
) -> None:
    """Add to a failed test's report what its services said and did, and keep that in files.

    Args:
        item: The test.
        report: Of the phase that failed; gets sections, and its property `kindinfra_evidence`.
        run: Where the cluster is found, and where the files go.
        since: When the test's services were there, in seconds since the epoch.
        shared: The cluster has pods of other runs too, in other namespaces.
        worker: Whose copies of services per worker the test has; empty without xdist.
    """
    stack = Stack(run, waits=False)
    try:
        redactor = _redactor(item, stack)
        own, others = _pods(item, stack, run, worker, shared=shared)
        found = list(_happenings(stack.api, [*own, *others], since, redactor))
        report.sections += [(f"kindinfra {title}", text) for title, text in shown(found)]
        names = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in own}
        kept = [one for one in found if not one.container or one.pod in names]
        _keep(item, report, run, since, _files(kept, report, redactor))
    except Exception as error:  # noqa: BLE001 - the test's own failure is what must be seen
        report.sections.append(("kindinfra logs", f"could not be read: {error}"))
    finally:
        stack.close()


def _happenings(
    kube: Kube, pods: Sequence[KubeObject], since: float, redactor: Redactor
) -> Iterator[Happening]:
    deadline = Deadline.after(_SECONDS)
    return happenings(kube, pods, Moment(since), redact=redactor.text, deadline=deadline)


# -- whose logs ----------------------------------------------------------------------------------


def _pods(
    item: pytest.Item, stack: Stack, run: RunDirectory, worker: str, *, shared: bool
) -> tuple[list[KubeObject], list[KubeObject]]:
    """Return the pods of the test, and the others of the stack, those named by the test first.

    Those of the test are in its own namespace, or are of the services that it names and of what
    these need. To a test that names none all belong.
    """
    namespace = getattr(item, "funcargs", {}).get("kindinfra_namespace")
    kube, named = stack.api, needs_of(item) or frozenset()
    own = kube.list_(f"/api/v1/namespaces/{namespace}/pods") if namespace else []
    pods = _pods_of_services(stack, worker, shared=shared)
    pods.sort(key=lambda pod: _service_of(pod) not in named)
    needed = _with_needs(run, named)
    of_test = [pod for pod in pods if not named or _service_of(pod) in needed]
    return [*own, *of_test], [pod for pod in pods if pod not in of_test]


def _pods_of_services(stack: Stack, worker: str, *, shared: bool) -> list[KubeObject]:
    """Return the pods of all services, without the copies that other workers have."""
    paths = ["/api/v1/pods"]
    if shared:
        places = [stack.namespace, *([copy_namespace(stack.namespace, worker)] if worker else [])]
        paths = [f"/api/v1/namespaces/{one}/pods" for one in places]
    pods = [pod for path in paths for pod in stack.api.list_(path, labelSelector=SERVICE_LABEL)]
    return [pod for pod in pods if pod["metadata"]["labels"].get(WORKER_LABEL, worker) == worker]


def _service_of(pod: KubeObject) -> str:
    return str(pod["metadata"]["labels"][SERVICE_LABEL])


def _with_needs(run: RunDirectory, services: Iterable[str]) -> set[str]:
    """Return services and what they need, as far as it is deployed."""
    found: set[str] = set()
    waiting = list(services)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            deployed = run.read(DeployedService, name)
            waiting += deployed.needs if deployed else ()
    return found


def _redactor(item: pytest.Item, stack: Stack) -> Redactor:
    """Return one that knows the kubeconfig's secrets and those of builds."""
    from pytest_kindinfra.run.prepare import read_declaration

    redactor = Redactor(credentials_in(stack.kubeconfig.read_text("utf-8")))
    with suppress(KindInfraError):
        for image in read_declaration(item.config.rootpath).images:
            redactor.learn(build_secrets(image, folder=item.config.rootpath))
    return redactor


# -- files ---------------------------------------------------------------------------------------


def _files(
    found: Iterable[Happening], report: pytest.TestReport, redactor: Redactor
) -> Iterator[tuple[str, str]]:
    """Yield the names and the texts of an attempt's files."""
    yield f"failure-{report.when}.txt", redactor.text(report.longreprtext)[-_FAILURE_LETTERS:]
    for one in found:
        ending = ".previous.log" if one.previous else ".log"
        name = ".".join([*one.pod, one.container]) + ending if one.container else f"{one.title}.txt"
        yield name, f"{one.text}\n"


def _keep(
    item: pytest.Item,
    report: pytest.TestReport,
    run: RunDirectory,
    since: float,
    files: Iterable[tuple[str, str]],
) -> None:
    """Write the files of an attempt, and say in the report where they are."""
    attempt = item.stash.get(_ATTEMPT, None)
    if attempt is None or attempt.since != since:
        attempt = item.stash[_ATTEMPT] = _Attempt(since, _new_folder(item, run))
    if attempt.folder is None:
        text = f"not kept: {_MOST_ATTEMPTS} failed attempts of this run are in {run.path}/attempts"
        report.sections.append(("kindinfra evidence", text))
        return
    for name, text in files:
        write_private(attempt.folder / name, text)
    report.sections.append(("kindinfra evidence", str(attempt.folder)))
    for properties in (item.user_properties, report.user_properties):
        properties[:] = [pair for pair in properties if pair[0] != EVIDENCE]
        properties.append((EVIDENCE, str(attempt.folder)))


def _new_folder(item: pytest.Item, run: RunDirectory) -> Path | None:
    """Make the folder of an attempt; None if the run has many already."""
    attempts = run.path / "attempts"
    folder = attempts / _folder_name(item.nodeid)
    if sum(1 for _ in attempts.glob("*/*")) >= _MOST_ATTEMPTS:
        return None
    for path in (attempts, folder):
        path.mkdir(mode=0o700, exist_ok=True)
    number = getattr(item, "execution_count", 1)  # by pytest-rerunfailures
    while True:
        try:
            (folder / str(number)).mkdir(mode=0o700)
        except FileExistsError:  # another process runs the same test, or a plugin runs it again
            number += 1
        else:
            return folder / str(number)


def _folder_name(test: str) -> str:
    """Return the name of a test's folder: the end of its node id, and a hash of it."""
    words = re.sub(r"[^\w.-]+", "-", test, flags=re.ASCII)[-_NAME_LETTERS:].strip("-.")
    return f"{words}-{sha256(test.encode(errors='replace')).hexdigest()[:8]}"
