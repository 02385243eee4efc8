"""The API of one cluster: read, apply, wait; of a shared one only this run's objects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube import boot
from pytest_kindinfra.kube.apply import ALONE, APPLY, Applier, Outlook, completed, is_ending
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.objects import first_differences
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.troubles import Leniency
from pytest_kindinfra.kube.wait import SETTLE, ReadyWait
from pytest_kindinfra.kube.yaml import copied
from pytest_kindinfra.model import PATIENCE, RUN_LABEL
from pytest_kindinfra.system.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.kube.expiry import NamespaceMarks
    from pytest_kindinfra.kube.portforward import Forwards
    from pytest_kindinfra.kube.readiness import Rules
    from pytest_kindinfra.model import KubeObject, Level
    from pytest_kindinfra.system.timeline import Deadline


class Kube(Reader):
    """A cluster's API by its kubeconfig; safe from several threads.

    Nothing is read or imported before the first request. `close` it: it may have threads.

    Args:
        kubeconfig: Of the cluster.
        patience: Seconds for which a request is repeated while the API server does not answer.
    """

    def __init__(self, kubeconfig: Path, *, patience: float = 0.0) -> None:
        super().__init__(kubeconfig, patience=patience)
        self._applier = Applier(self.transport, self._discovery, may_replace=self.is_owned)

    def wait_for_api(self, deadline: Deadline) -> None:
        """Return when the API server is ready; ClusterError if it never was."""
        boot.wait_for_api(self.transport, deadline)

    def wait_for_nodes(self, deadline: Deadline) -> None:
        """Return when every node is Ready; ClusterError says what is missing."""
        boot.wait_for_nodes(self.transport, deadline)

    def wait_for_dns(self, deadline: Deadline) -> None:
        """Return when names can be resolved; ClusterError if they never could."""
        boot.wait_for_dns(self.transport, deadline)

    def ensure_namespace(self, name: str, deadline: Deadline, labels: Mapping[str, str]) -> None:
        """Make the namespace unless it is there; return when pods can be made in it."""
        boot.ensure_namespace(self.transport, name, deadline, labels)

    def delete_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Ask for the namespace's end if it has these labels, without waiting for it."""
        boot.delete_namespace(self.transport, name, labels or {})

    def apply(
        self, obj: KubeObject, *, namespace: str, deadline: Deadline, outlook: Outlook = ALONE
    ) -> KubeObject:
        """Apply the object, whatever is there; see `Applier.apply`."""
        return self._applier.apply(obj, namespace=namespace, deadline=deadline, outlook=outlook)

    def wait_established(self, crd: KubeObject, deadline: Deadline) -> None:
        """Return when objects of the CRD's kind can be applied."""
        self.wait_ready([crd], namespace="", deadline=deadline, restarts=0)

    def wait_ready(  # noqa: PLR0913 - two of them only report
        self,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        deadline: Deadline,
        restarts: int,
        level: Level = "ready",
        settle: float = SETTLE,
        rules: Rules = (),
        excused: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
        notice: Callable[[str], object] = lambda _: None,
        stage: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Return when all objects are ready, or as far as `level` says.

        Args:
            objects: As they were applied; those of kinds that gate nothing are skipped.
            namespace: Where those are that name none.
            deadline: When waiting ends.
            restarts: Restarts of a container that are no failure.
            level: `started` wants running containers only, `applied` nothing.
            settle: Seconds for which a container without a readiness probe must stay up to
                count as ready; 0 is right if its endpoints are asked anyway.
            rules: What objects of other kinds must say to be ready.
            excused: Whether something else explains that containers crash.
            patience: Seconds for a trouble that may pass by itself.
            notice: Called after each look with a line about what is in the way, or with nothing.
            stage: Called after each look with what the pods are at, `Pending`, or with nothing.

        Raises:
            ServiceFailedError: One will not become ready, or not all were in time.
        """
        leniency = Leniency(
            restarts=restarts, excused=excused, patience=patience, notice=notice, stage=stage
        )
        ReadyWait(
            self, objects, namespace=namespace, leniency=leniency, level=level, settle=settle,
            rules=rules,
        ).run(deadline)  # fmt: skip

    def judge(
        self,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        restarts: int,
        excused: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE,
    ) -> ReadyWait:
        """Return a wait whose `check()` raises once one of the objects is broken for good.

        For callers that wait for something else meanwhile, such as an endpoint.
        """
        leniency = Leniency(restarts=restarts, excused=excused, patience=patience)
        return ReadyWait(self, objects, namespace=namespace, leniency=leniency)


_NOT_COMPARED = ("apiVersion", "kind", "metadata", "status")


_SHOWN = 3


_ENDS_EVERY = 0.1


class SharedKube(Kube):
    """The API of a cluster that has objects of others too: only those of this run are changed.

    Args:
        kubeconfig: Of the cluster.
        run_id: The run's id.
        forwards: See below.
        note: Called before each object is put there, with its namespace and kind.
        marks: Written on each namespace that this run makes.
        patience: As in `Kube`.

    Attributes:
        forwards: Lead to its pods; they live longer than this, and who made them closes them.
    """

    def __init__(
        self,
        kubeconfig: Path,
        run_id: str,
        forwards: Forwards,
        *,
        note: Callable[[str, str], object] = lambda _namespace, _resource: None,
        marks: NamespaceMarks | None = None,
        patience: float = 0.0,
    ) -> None:
        super().__init__(kubeconfig, patience=patience)
        self.forwards = forwards
        self._note = note
        self._marks = marks
        self._run = run_id
        self._made: dict[str, bool] = {}
        self._known = threading.Lock()

    def ensure_namespace(self, name: str, deadline: Deadline, labels: Mapping[str, str]) -> None:
        """Make the namespace unless it is there; only one that is made here gets the label."""
        if not self._has_namespace(name):
            self._note(name, "namespaces")
        own = {RUN_LABEL: self._run, **(self._marks.labels if self._marks else {})}
        annotations = self._marks.annotations if self._marks else {}
        boot.ensure_namespace(self.transport, name, deadline, {**labels, **own}, annotations)

    def _has_namespace(self, name: str) -> bool:
        """Whether it exists; False if that is unknown."""
        try:
            return self.get(f"/api/v1/namespaces/{name}") is not None
        except KindInfraError:
            return False

    def apply(
        self, obj: KubeObject, *, namespace: str, deadline: Deadline, outlook: Outlook = ALONE
    ) -> KubeObject:
        """Apply the object, unless one of others is in its place.

        A namespace of others is used unchanged, and so is an object that exists just as it is
        declared; neither is touched.

        Raises:
            KindInfraError: The existing object differs.
        """
        existing = self._existing(obj, namespace, deadline)
        if existing is None or self.is_owned(existing):
            self.announce(obj, namespace)
            own = marked(obj, self._run)
            return super().apply(own, namespace=namespace, deadline=deadline, outlook=outlook)
        if obj["kind"] != "Namespace" and (differing := self._differing(obj, existing, namespace)):
            raise KindInfraError(_conflict_message(obj, existing, differing))
        return existing

    def announce(self, obj: KubeObject, namespace: str) -> None:
        """Note where an object is about to be put, so that it is found again."""
        try:
            resource = self._discovery.resource(obj)
        except UnknownKindError:  # a CRD may bring it: then no right to list it is needed yet
            return
        meta = obj["metadata"]
        where = (meta.get("namespace") or namespace) if resource.namespaced else ""
        self._note(meta["name"] if obj["kind"] == "Namespace" else where, resource.full_name)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of an object of this run."""
        return {RUN_LABEL: self._run}

    def _existing(self, obj: KubeObject, namespace: str, deadline: Deadline) -> KubeObject | None:
        """Return the object in the cluster; one that is being deleted is awaited."""
        found: KubeObject | None = None

        def settled() -> bool:
            nonlocal found
            found = self._find(obj, namespace)
            return found is None or not is_ending(found)

        wait_until(settled, deadline, every=_ENDS_EVERY)
        return found

    def _find(self, obj: KubeObject, namespace: str) -> KubeObject | None:
        try:
            return self.get(self.path_of(obj, namespace=namespace))
        except UnknownKindError:
            return None  # where there is no such kind yet, there is no object of it

    def is_owned(self, obj: KubeObject) -> bool:
        """Whether an object in the cluster was made by this run."""
        meta = obj["metadata"]
        return self._has_label(obj) or self.has_made(meta.get("namespace") or "")

    def has_made(self, name: str) -> bool:
        """Whether this run made the namespace, so that nothing of others was in it before."""
        if not name:
            return False
        with self._known:
            if name not in self._made:
                namespace = self.get(f"/api/v1/namespaces/{name}")
                self._made[name] = bool(namespace and self._has_label(namespace))
            return self._made[name]

    def _has_label(self, obj: KubeObject) -> bool:
        return run_of(obj) == self._run

    def _differing(self, obj: KubeObject, existing: KubeObject, namespace: str) -> str:
        """Return where the object there would be changed by applying, nothing if nowhere."""
        resource = self._discovery.resource(obj)
        complete = completed(obj, resource, namespace)
        meta = complete["metadata"]
        path = resource.path(meta["name"], meta.get("namespace", ""))
        try:
            would_be = self.request(
                "PATCH",
                path,
                body=complete,
                query={**APPLY, "dryRun": "All"},
                content_type="application/apply-patch+yaml",
            )
        except ApiError as error:
            return f"the API server refuses the change: {error.message}"
        differing = first_differences(_compared(existing), _compared(would_be), limit=_SHOWN)
        verb = "differs" if len(differing) == 1 else "differ"
        return f"{', '.join(differing)} {verb}" if differing else ""


def run_of(obj: KubeObject) -> str:
    """Return the id of the run that an object says it belongs to, empty if to none."""
    return str((obj["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def marked(obj: KubeObject, run_id: str) -> KubeObject:
    """Return a copy of the object with the run's label, on its volume claims too.

    Claims that a StatefulSet makes of its templates outlive it.
    """
    made: KubeObject = copied(obj)
    _label(made, run_id)
    for claim in (made.get("spec") or {}).get("volumeClaimTemplates") or ():
        if made["kind"] == "StatefulSet":
            _label(claim, run_id)
    return made


def _label(obj: dict[str, Any], run_id: str) -> None:
    meta = obj.get("metadata") or {}
    obj["metadata"] = {**meta, "labels": {**(meta.get("labels") or {}), RUN_LABEL: run_id}}


def _compared(obj: KubeObject) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in _NOT_COMPARED}


def _conflict_message(obj: KubeObject, existing: KubeObject, differing: str) -> str:
    meta = existing["metadata"]
    where = f' in namespace "{meta["namespace"]}"' if meta.get("namespace") else ""
    other = run_of(existing)
    whose = f"it belongs to run {other}" if other else "it does not belong to this run"
    return (
        f'{obj["kind"]} "{meta["name"]}"{where} exists in the cluster and is not as declared: '
        f"{differing}\n{whose}, so it is not changed\n"
        "To fix: declare it as it is in the cluster, remove it from the manifests, or use another "
        "namespace for it ([cluster] namespace)"
    )
