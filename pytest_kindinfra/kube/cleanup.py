"""Delete what a run put into a shared cluster, and the Lease that holds its namespace."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import run_of
from pytest_kindinfra.kube.expiry import OWNER_LABEL, has_expired
from pytest_kindinfra.kube.kinds import GROUPS
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.model import RUN_LABEL
from pytest_kindinfra.system.files import is_there
from pytest_kindinfra.system.timeline import retry, sleep, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline


_LEASE_NAME = "kindinfra"


LEASE: KubeObject = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": _LEASE_NAME},
}
"""The object's outline."""


_HOST = "dev.kindinfra/host"


_FOLDER = "dev.kindinfra/run-directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """A run that holds a namespace.

    Attributes:
        run_id: Its id, which is in the labels of its objects.
        host: The machine on which it runs.
        folder: Its run directory there.
    """

    run_id: str
    host: str
    folder: str


def acquire_lease(reader: Reader, namespace: str, holder: LeaseHolder) -> LeaseHolder | None:
    """Acquire the namespace's Lease, or return the run that holds it."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    try:
        reader.request("POST", path, body=_lease(holder))
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
        lease = reader.get(f"{path}/{_LEASE_NAME}")
        return _read_holder(lease) if lease else acquire_lease(reader, namespace, holder)
    return None


def _lease(holder: LeaseHolder) -> dict[str, Any]:
    return {
        **LEASE,
        "metadata": {
            "name": _LEASE_NAME,
            "labels": {RUN_LABEL: holder.run_id},
            "annotations": {_HOST: holder.host, _FOLDER: holder.folder},
        },
        "spec": {"holderIdentity": holder.run_id},
    }


def _read_holder(lease: dict[str, Any]) -> LeaseHolder:
    meta = lease["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return LeaseHolder(
        run_id=labels.get(RUN_LABEL, ""),
        host=annotations.get(_HOST, ""),
        folder=annotations.get(_FOLDER, ""),
    )


_CUSTOM_SECONDS = 10.0
"""For finalizers of custom resources, while what serves them is still there."""


_LIST_TRIES = 40


_LIST_PAUSE = 0.5


_NEEDED_VERBS = frozenset({"list", "delete"})


_NOT_SERVED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


_UNAVAILABLE = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE})
"""We may not list it, or an aggregated API server does not serve it now."""


_LEASES = "leases.coordination.k8s.io"


_NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a run has put objects.

    Attributes:
        namespaces: In which namespaces: there its objects are looked for if it may not list those
            of the whole cluster.
        resources: Of which kinds, as kubectl calls them.
    """

    namespaces: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()


class _Resource(NamedTuple):
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
        if self.resource == _LEASES:
            return 4  # it lets the next run in
        return 1 if self.namespaced else 2

    def paths(self, namespaces: Iterable[str]) -> list[str]:
        """Return where the objects of some namespaces are listed."""
        base, _, plural = self.path.rpartition("/")
        places = sorted(namespaces) if self.namespaced else []
        return [f"{base}/namespaces/{name}/{plural}" for name in places]


class _RunObject(NamedTuple):
    """An object of a run."""

    kind: _Resource
    path: str
    namespace: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def remove_all(reader: Reader, run_id: str, deadline: Deadline, scope: Scope) -> None:
    """Ask for the end of all that a run has put there; pods and namespaces are not waited for.

    Raises:
        CommandError: Something could not be deleted, or looked for; names all of it.
    """
    search = _Search(reader, run_id, scope)
    objects = search.objects()
    custom = [one for one in objects if one.kind.rank == 0]
    problems = _delete(reader, run_id, custom)
    if custom:
        gone = lambda: not any(reader.get(one.path) for one in custom)  # noqa: E731
        wait_until(gone, deadline.within(_CUSTOM_SECONDS), every=0.1)
    going = {one.path for one in objects if one.kind.resource == _NAMESPACES}
    rest = [one for one in objects if one.kind.rank and one.namespace not in _names(going)]
    problems += _delete(reader, run_id, rest)
    problems += search.problems
    if problems:
        command = ("DELETE", f"{RUN_LABEL}={run_id}")
        raise CommandError(command, exit_code=1, output="\n".join(problems))


def remove_expired(reader: Reader, at: float, deadline: Deadline, *, but: str = "") -> list[str]:
    """Delete what runs left whose namespaces have expired, and return these namespaces.

    A namespace counts only if it has the marks of a run. All objects of that run go with it.

    Args:
        reader: The cluster.
        at: The time now, in seconds since the epoch.
        deadline: When to give up.
        but: A run of which nothing is deleted.

    Raises:
        KindInfraError: Something could not be deleted, or the cluster does not answer.
    """
    expired: dict[str, list[str]] = {}
    for namespace in marked_namespaces(reader):
        if has_expired(namespace, at) and run_of(namespace) != but:
            expired.setdefault(run_of(namespace), []).append(namespace["metadata"]["name"])
    for run_id, names in expired.items():
        remove_all(reader, run_id, deadline, Scope(frozenset(names)))
    return [name for names in expired.values() for name in names]


def marked_namespaces(reader: Reader) -> list[KubeObject]:
    """Return the namespaces with the marks of a run; none if they may not be listed."""
    try:
        return reader.list_("/api/v1/namespaces", labelSelector=f"{RUN_LABEL},{OWNER_LABEL}")
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return []


class _Search:
    """Looks for the objects of one run.

    Attributes:
        problems: A sentence for each kind of which the run has objects that cannot be listed.
        restricted: Whether some objects can only be listed in single namespaces.
    """

    def __init__(self, reader: Reader, run_id: str, scope: Scope) -> None:
        self._reader = reader
        self._run = run_id
        self._scope = scope
        self.problems: list[str] = []
        self.restricted = False

    def objects(self) -> list[_RunObject]:
        """Return each object with the run's label, of whatever kind, in the order of deletion."""
        objects = [one for kind in self._kinds() for one in self._of(kind)]
        services = {(one.namespace, one.name) for one in objects if one.kind.resource == "services"}
        own = [
            one
            for one in objects
            # Kubernetes makes these of k8s services, whose labels they get; users with the role
            # `admin` of a namespace may not delete them.
            if one.kind.resource != "endpoints" or (one.namespace, one.name) not in services
        ]
        return sorted(own, key=lambda one: one.kind.rank)

    def _of(self, kind: _Resource) -> Iterator[_RunObject]:
        for obj in self._listed(kind):
            meta = obj["metadata"]
            if not meta.get("ownerReferences"):
                namespace = meta.get("namespace", "")
                base, _, plural = kind.path.rpartition("/")
                where = f"/namespaces/{namespace}" if namespace else ""
                yield _RunObject(kind, f"{base}{where}/{plural}/{meta['name']}", namespace)

    def _listed(self, kind: _Resource) -> list[dict[str, Any]]:
        try:
            return self._list(kind.path)
        except ApiError as error:
            if error.status in _NOT_SERVED:
                return []
            if error.status not in _UNAVAILABLE:
                raise
            if kind.resource == _NAMESPACES and error.status == HTTPStatus.FORBIDDEN:
                return self._own_namespaces(kind)
            paths = (
                kind.paths(self._scope.namespaces) if error.status == HTTPStatus.FORBIDDEN else []
            )
            if not paths:
                self._complain(kind.resource, error)
        self.restricted = True
        return [obj for path in paths for obj in self._listed_in(kind, path)]

    def _own_namespaces(self, kind: _Resource) -> list[dict[str, Any]]:
        """Return the run's namespaces, asked for one by one; the right to list is cluster-wide."""
        self.restricted, found = True, []
        for name in sorted(self._scope.namespaces):
            try:
                found += [one] if (one := self._reader.get(f"{kind.path}/{name}")) else []
            except ApiError as error:
                if error.status not in _UNAVAILABLE:
                    raise
                self._complain(kind.resource, error)
        return [one for one in found if run_of(one) == self._run]

    def _listed_in(self, kind: _Resource, path: str) -> list[dict[str, Any]]:
        try:
            return self._list(path)
        except ApiError as error:
            if error.status not in _UNAVAILABLE | _NOT_SERVED:
                raise
            if error.status in _UNAVAILABLE:
                self._complain(kind.resource, error)
            return []

    def _list(self, path: str) -> list[dict[str, Any]]:
        selector = f"{RUN_LABEL}={self._run}"
        return retry(
            lambda: self._reader.list_(path, labelSelector=selector),
            tries=_LIST_TRIES,
            on=ApiError,
            between=_await_storage,
        )

    def _complain(self, resource: str, error: ApiError) -> None:
        """Report a kind that cannot be listed if the run has applied objects of it."""
        if resource in self._scope.resources:
            self.problems.append(
                f"objects of kind {resource} may be left, since they cannot be listed: {error}\n"
                "To fix: run with a user that may list and delete them: kubectl delete"
                f" {resource} --all-namespaces --selector {RUN_LABEL}={self._run}"
            )

    def _kinds(self) -> Iterator[_Resource]:
        """Yield the kinds that the cluster has, of which objects can be listed and deleted.

        Each once, though several versions of a group may have it; the preferred one first.
        """
        yield from self._kinds_at("/api/v1", "")
        for group in self._reader.request("GET", "/apis").get("groups") or ():
            first = group["preferredVersion"]["groupVersion"]
            others = [one["groupVersion"] for one in group.get("versions") or ()]
            seen: set[str] = set()
            for version in dict.fromkeys((first, *others)):
                for kind in self._kinds_at(f"/apis/{version}", group["name"]):
                    if kind.resource not in seen:
                        seen.add(kind.resource)
                        yield kind

    def _kinds_at(self, base: str, group: str) -> Iterator[_Resource]:
        answer: Any = {}
        try:
            answer = self._reader.request("GET", base)
        except ApiError as error:
            if error.status not in _NOT_SERVED:
                for resource in sorted(self._scope.resources):
                    if resource.partition(".")[2] == group:
                        self._complain(resource, error)
        for entry in answer.get("resources") or ():
            name = entry["name"]
            if "/" not in name and set(entry.get("verbs") or ()) >= _NEEDED_VERBS:
                resource = f"{name}.{group}" if group else name
                yield _Resource(f"{base}/{name}", resource, group, entry["namespaced"])


def _await_storage(error: ApiError) -> None:
    """Pause if the API server said 429: it does so while it makes the storage of a new CRD."""
    if error.status != HTTPStatus.TOO_MANY_REQUESTS:
        raise error
    sleep(_LIST_PAUSE)


def _delete(reader: Reader, run_id: str, objects: Iterable[_RunObject]) -> list[str]:
    problems = []
    for one in objects:
        try:
            reader.delete_if(one.path, lambda obj: run_of(obj) == run_id)
        except KindInfraError as error:
            problems.append(str(error))
    return problems


def _names(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[2] for path in paths}


class OwnedObjects:
    """The objects of one run in an existing cluster.

    Args:
        run_id: The run's id.
        kubeconfig: Where a person finds the credentials.
        scope: Says where the run has put objects by now.
    """

    def __init__(self, run_id: str, kubeconfig: Path, scope: Callable[[], Scope] = Scope) -> None:
        self._run = run_id
        self._kubeconfig = kubeconfig
        self._scope = scope

    def remove(self, kubeconfig: Path, deadline: Deadline) -> None:
        """Delete all of it; see `remove_all`."""
        with closing(Reader(kubeconfig)) as reader:
            remove_all(reader, self._run, deadline, self._scope())

    def remove_command(self) -> tuple[str, ...]:
        """Return the command by which a person deletes all of it."""
        scope, objects, restricted = self._scope(), [], False
        with suppress(KindInfraError), closing(Reader(self._kubeconfig)) as reader:
            search = _Search(reader, self._run, scope)
            objects = search.objects()
            restricted = search.restricted
        namespaces = {one.namespace for one in objects} - {""} if restricted else set()
        resources = [one.kind.resource for one in objects]
        return remove_command(self._kubeconfig, self._run, resources, namespaces=namespaces)


def remove_command(
    kubeconfig: Path,
    run_id: str,
    resources: Iterable[str],
    *,
    namespaces: Collection[str] = (),
    context: str | None = None,
) -> tuple[str, ...]:
    """Return what deletes the objects of a run that are of these resources.

    Args:
        kubeconfig: Has the credentials.
        run_id: The run's id.
        resources: As kubectl calls them.
        namespaces: Where they are, if they may not be listed in all; kubectl takes only one.
        context: Of the kubeconfig; None means the current one.
    """
    named = ",".join(dict.fromkeys(resources)) or "all,namespaces"
    place = ("--namespace", *namespaces) if len(namespaces) == 1 else ("--all-namespaces",)
    chosen = ("--context", context) if context else ()
    words = (*_kubectl(kubeconfig), *chosen, "delete", named, *place)
    return (*words, "--wait=false", "--selector", f"{RUN_LABEL}={run_id}")


def _kubectl(kubeconfig: Path) -> tuple[str, ...]:
    """Return how kubectl is called with a kubeconfig, which may be several files."""
    if os.pathsep in str(kubeconfig) and not is_there(kubeconfig):
        return ("env", f"KUBECONFIG={kubeconfig}", "kubectl")
    return ("kubectl", "--kubeconfig", str(kubeconfig))
