"""Delete what a run put into a cluster of others: whatever has its label, and nothing else.

Nothing is remembered for it, so a run that was killed can be cleared up by another one.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.apikinds import GROUPS
from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.ours import RUN_LABEL
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_kindinfra.timeline import Deadline

_CUSTOM_SECONDS = 10.0
"""For finalizers of custom resources, while what serves them is still there."""
_NEEDED_VERBS = frozenset({"list", "delete"})
_UNKNOWN = frozenset({403, 404, 405, 503})
"""Of a kind that we may not list, or that an aggregated API server does not serve now."""


class Kind(NamedTuple):
    """A kind of which a run may have objects.

    Attributes:
        path: Where all of them are listed.
        resource: As kubectl calls it: `deployments.apps`.
        group: The API group, empty for the core one.
        namespaced: Whether they live in namespaces.
    """

    path: str
    resource: str
    group: str
    namespaced: bool

    @property
    def rank(self) -> int:
        """When it is deleted: what others bring to an end first, what holds others last."""
        if self.group and "." in self.group and self.group not in GROUPS:
            return 0
        if self.resource == "customresourcedefinitions.apiextensions.k8s.io":
            return 3
        return 1 if self.namespaced else 2


class Found(NamedTuple):
    """An object of a run."""

    kind: Kind
    path: str
    namespace: str


def remove_all(reader: Reader, run_id: str, deadline: Deadline) -> None:
    """Ask for the end of all that a run has put there; pods and namespaces are not waited for.

    Raises:
        CommandError: Something could not be deleted; names all of it.
    """
    found = sorted(find_all(reader, run_id), key=lambda one: one.kind.rank)
    custom = [one for one in found if one.kind.rank == 0]
    problems = _delete(reader, custom)
    if custom:
        gone = lambda: not any(reader.get(one.path) for one in custom)  # noqa: E731
        wait_until(gone, deadline.within(_CUSTOM_SECONDS), every=0.1)
    going = {one.path for one in found if one.kind.resource == "namespaces"}
    rest = [one for one in found if one.kind.rank and one.namespace not in _names(going)]
    problems += _delete(reader, rest)
    if problems:
        command = ("DELETE", f"{RUN_LABEL}={run_id}")
        raise CommandError(command, exit_code=1, output="\n".join(problems))


def find_all(reader: Reader, run_id: str) -> Iterator[Found]:
    """Yield each object with the run's label, of whatever kind."""
    for kind in all_kinds(reader):
        for obj in _listed(reader, kind, run_id):
            meta = obj["metadata"]
            if not meta.get("ownerReferences"):
                namespace = meta.get("namespace", "")
                base, _, plural = kind.path.rpartition("/")
                where = f"/namespaces/{namespace}" if namespace else ""
                yield Found(kind, f"{base}{where}/{plural}/{meta['name']}", namespace)


def all_kinds(reader: Reader) -> Iterator[Kind]:
    """Yield the kinds that the cluster has, of which objects can be listed and deleted."""
    yield from _kinds(reader, "/api/v1", "")
    for group in reader.request("GET", "/apis").get("groups") or ():
        base = f"/apis/{group['preferredVersion']['groupVersion']}"
        yield from _kinds(reader, base, group["name"])


def _kinds(reader: Reader, base: str, group: str) -> Iterator[Kind]:
    answer: Any = {}
    with suppress(ApiError):
        answer = reader.request("GET", base)
    for entry in answer.get("resources") or ():
        name = entry["name"]
        if "/" not in name and set(entry.get("verbs") or ()) >= _NEEDED_VERBS:
            resource = f"{name}.{group}" if group else name
            yield Kind(f"{base}/{name}", resource, group, entry["namespaced"])


def _listed(reader: Reader, kind: Kind, run_id: str) -> list[dict[str, Any]]:
    try:
        return reader.list_(kind.path, labelSelector=f"{RUN_LABEL}={run_id}")
    except ApiError as error:
        if error.status not in _UNKNOWN:
            raise
        return []


def _delete(reader: Reader, found: Iterable[Found]) -> list[str]:
    problems = []
    for one in found:
        try:
            reader.delete(one.path)
        except KindInfraError as error:
            problems.append(str(error))
    return problems


def _names(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[2] for path in paths}


class OurObjects:
    """What one run has put into an existing cluster.

    Args:
        run_id: The run's id.
        kubeconfig: Where a person finds the credentials.
    """

    def __init__(self, run_id: str, kubeconfig: Path) -> None:
        self._run = run_id
        self._kubeconfig = kubeconfig

    def remove(self, kubeconfig: Path, deadline: Deadline) -> None:
        """Delete all of it; see `remove_all`."""
        with closing(Reader(kubeconfig)) as reader:
            remove_all(reader, self._run, deadline)

    def remove_command(self) -> tuple[str, ...]:
        """Return the command by which a person deletes all of it."""
        try:
            with closing(Reader(self._kubeconfig)) as reader:
                found = sorted(find_all(reader, self._run), key=lambda one: one.kind.rank)
        except KindInfraError:
            found = []
        return remove_command(self._kubeconfig, self._run, [one.kind.resource for one in found])


def remove_command(kubeconfig: Path, run_id: str, resources: Iterable[str]) -> tuple[str, ...]:
    """Return what deletes the objects of a run that are of these resources."""
    named = ",".join(dict.fromkeys(resources)) or "all,namespaces"
    words = ("kubectl", "--kubeconfig", str(kubeconfig), "delete", named, "--all-namespaces")
    return (*words, "--wait=false", "--selector", f"{RUN_LABEL}={run_id}")
