"""Restart and scale what a service runs, and wait until it is whole again."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, NotReadyError, listed
from pytest_kindinfra.intests.pods import is_ready, pods_of_service
from pytest_kindinfra.kube.apply import await_end
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.objects import cleaned
from pytest_kindinfra.kube.pods import observed, owner_uid, pods_wanted
from pytest_kindinfra.kube.readiness import rules_of
from pytest_kindinfra.kube.routes import await_routes
from pytest_kindinfra.kube.wait import SETTLE
from pytest_kindinfra.system.answers import prove_endpoint, takes_connections
from pytest_kindinfra.system.timeline import now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.records import DeployedService, Probe, ProbedPods
    from pytest_kindinfra.system.timeline import Deadline


RESTARTED = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Pod"})
"""The kinds whose pods `Workloads.restart` replaces."""


_ROLLED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


_SCALED = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})


_LASTING = _ROLLED | _SCALED | {"Pod", "Service"}


_RUN_ONCE = frozenset({"Pod", "Job"})


_RESTARTED_AT = "dev.kindinfra/restarted-at"


_EVERY = 0.05


_SILENT_WITHIN = 5.0
"""Seconds for the last pod to stop to answer, where kube-proxy is busy. Another service's pods may
be behind the same k8s service, and go on."""


_CHECK_EVERY = 1.0


class Workloads:
    """What one service runs on a cluster.

    Args:
        kube: The cluster.
        record: The service.
    """

    def __init__(self, kube: Kube, record: DeployedService) -> None:
        self._kube = kube
        self._record = record

    def restart(self, deadline: Deadline) -> None:
        """Have all pods replaced as `kubectl rollout restart` does, and wait until all is whole.

        Bare pods are deleted and created again. Jobs are left as they are.

        Raises:
            KindInfraError: The service runs nothing that can be restarted, or did not get ready.
        """
        before = self._pods()
        bare = self._live({"Pod"})
        self._refuse_foreign(bare)
        if not self._roll() and not bare:
            raise KindInfraError(self._nothing("to restart", RESTARTED))
        for obj in bare:
            self._make_anew(obj, deadline)
        self._await_whole(before, deadline)

    def renew(self, deadline: Deadline) -> None:
        """Have all pods replaced and all Jobs run again, and wait until all is whole.

        Raises:
            KindInfraError: The service did not get ready.
        """
        before, once = self._pods(), self._live(_RUN_ONCE)
        self._refuse_foreign(once)
        self._roll()
        for obj in once:
            self._make_anew(obj, deadline)
        self._await_whole(before, deadline)

    def replicas(self, workload: str | None) -> tuple[str, int]:
        """Return the path of what is to be scaled, and how many pods it asks for now.

        Args:
            workload: `KIND/NAME`; None means the only one that there is.

        Raises:
            KindInfraError: There is none, or several and none is named.
        """
        found = [obj for obj in self._live(_SCALED) if workload in {None, _title(obj)}]
        if len(found) != 1:
            raise KindInfraError(self._none_or_several(workload, len(found)))
        self._refuse_foreign(found)
        return self._path(found[0]), pods_wanted(found[0])

    def scale(self, path: str, replicas: int, deadline: Deadline) -> None:
        """Have so many pods, and wait until all is whole; with none only until they are gone.

        Raises:
            KindInfraError: They did not get ready in time.
        """
        before = self._pods()
        self._patch_at(path, {"spec": {"replicas": replicas}})
        if replicas:
            self._await_whole(before, deadline)
            return
        if not wait_until(lambda: not self._left(path), deadline, every=_EVERY):
            msg = f'service "{self._record.service}" still has pods{deadline.exceeded()}'
            raise NotReadyError(msg)
        # With a grace period of 0 a pod is gone from the API before its containers have ended.
        await_routes(
            self._kube, self._record.service, before, deadline, namespaces=self._record.namespaces
        )
        nodes = [probe.node for probe in self._record.probes if probe.node]
        wait_until(
            lambda: not any(map(takes_connections, nodes)),
            deadline.within(_SILENT_WITHIN),
            every=_EVERY,
        )

    def delete_pods(self, deadline: Deadline) -> None:
        """Delete all pods of the service's workloads, and wait until others are ready.

        Raises:
            KindInfraError: No controller replaces the service's pods, or they did not get ready.
        """
        before = self._pods()
        going = [pod for pod in pods_of_service(self._kube, self._record) if _is_made_anew(pod)]
        if not going:
            raise KindInfraError(self._nothing("whose pods are replaced", _ROLLED | {"ReplicaSet"}))
        self._refuse_foreign(self._live(_ROLLED | {"ReplicaSet"}))
        for pod in going:
            uid = pod["metadata"]["uid"]
            self._kube.delete_if(
                self._path(pod),
                lambda found, uid=uid: found["metadata"]["uid"] == uid,  # type: ignore[misc]
            )
        self._await_others({pod["metadata"]["uid"] for pod in going}, deadline)
        self._await_whole(before, deadline)

    def once(self) -> list[str]:
        """Return the paths of its bare pods and Jobs, which `renew` deletes and creates again.

        Raises:
            KindInfraError: One was in the cluster before the run, or so was a workload.
        """
        once = self._live(_RUN_ONCE)
        self._refuse_foreign([*once, *(obj for obj in self._live(_ROLLED) if pods_wanted(obj))])
        return [self._path(obj) for obj in once]

    def await_whole(self, deadline: Deadline, lasting: Iterable[str] = ()) -> None:
        """Return when all objects are ready and all endpoints have answered.

        Args:
            deadline: When to give up.
            lasting: Paths of objects that must be there, also Jobs.

        Raises:
            KindInfraError: They are not in time, or something of the service is gone.
        """
        for path in lasting:
            if self._kube.get(path) is None:
                msg = f'service "{self._record.service}": {path} does not exist any more'
                raise NotReadyError(msg)
        self._await_whole({}, deadline)

    def _roll(self) -> int:
        """Have the pods of workloads replaced; return how many workloads there are."""
        rolled = [obj for obj in self._live(_ROLLED) if pods_wanted(obj)]
        self._refuse_foreign(rolled)
        for obj in rolled:
            mark = {"metadata": {"annotations": {_RESTARTED_AT: f"{now():.6f}"}}}
            self._patch(obj, {"spec": {"template": mark}})
        return len(rolled)

    def _await_whole(self, before: dict[str, str], deadline: Deadline) -> None:
        record, kube = self._record, self._kube
        live = self._live(None)
        kube.wait_ready(
            live, namespace=record.namespace, deadline=deadline, restarts=record.restarts,
            rules=rules_of(record.ready), patience=record.patience,
            settle=0.0 if record.probes else SETTLE,
        )  # fmt: skip
        if before:
            await_routes(kube, record.service, before, deadline, namespaces=record.namespaces)
        health = kube.judge(
            live, namespace=record.namespace, restarts=record.restarts, patience=record.patience
        )
        for probe in record.probes:
            self._ask(probe, health.check, deadline)

    def _ask(self, probe: Probe, meanwhile: Callable[[], object], deadline: Deadline) -> None:
        if probe.behind and probe.spec.scheme == "tcp" and not probe.spec.expect:
            self._await_far_end(probe, probe.behind, meanwhile, deadline)
        prove_endpoint(
            self._record.service,
            probe.spec,
            host=probe.host,
            host_port=probe.host_port,
            node=probe.node,
            virtual_host=probe.virtual_host,
            meanwhile=meanwhile,
            deadline=deadline,
        )

    def _await_far_end(
        self,
        probe: Probe,
        behind: ProbedPods,
        meanwhile: Callable[[], object],
        deadline: Deadline,
    ) -> None:
        """Wait until a pod takes connections: the forwarded port does so before."""
        from pytest_kindinfra.kube.backends import Backend
        from pytest_kindinfra.kube.portforward import Forward, Forwards

        with closing(Forwards(self._kube.kubeconfig)) as forwards:
            backend = Backend(namespace=behind.namespace, labels=behind.labels, port=behind.port)
            forward = Forward(forwards, backend, probe.host_port)
            forward.await_far_end(
                f'endpoint "{probe.spec.name}" of "{self._record.service}"',
                meanwhile=meanwhile,
                deadline=deadline,
            )

    def _await_others(self, gone: set[str], deadline: Deadline) -> None:
        """Return when as many other pods are ready as the workloads ask for.

        A workload's own status may be from before its pods were deleted.
        """
        made = _ROLLED | {"ReplicaSet"}

        def replaced() -> bool:
            pods = [pod for pod in pods_of_service(self._kube, self._record) if _is_made_anew(pod)]
            ready = [pod for pod in pods if is_ready(pod) and pod["metadata"]["uid"] not in gone]
            return len(ready) >= sum(map(pods_wanted, self._live(made)))

        health = self._kube.judge(
            self._live(made), namespace=self._record.namespace, restarts=self._record.restarts,
            patience=self._record.patience,
        )  # fmt: skip
        while not wait_until(replaced, deadline.within(_CHECK_EVERY), every=_EVERY):
            health.check()
            if deadline.passed:
                return  # waiting for readiness says what is in the way

    def _left(self, path: str) -> bool:
        """Whether there are still pods, also such as are ending and answer until then."""
        live = self._kube.get(path)
        if live is not None and (not observed(live) or (live.get("status") or {}).get("replicas")):
            return True
        if live is None:
            return False
        where, uid = live["metadata"]["namespace"], live["metadata"]["uid"]
        pods = self._kube.list_(f"/api/v1/namespaces/{where}/pods")
        sets = self._kube.list_(f"/apis/apps/v1/namespaces/{where}/replicasets")
        owners = {uid, *(one["metadata"]["uid"] for one in sets if owner_uid(one) == uid)}
        return any(owner_uid(pod) in owners for pod in pods)

    def _pods(self) -> dict[str, str]:
        found = [pod["metadata"] for pod in pods_of_service(self._kube, self._record)]
        return {one["uid"]: one["namespace"] for one in found}

    def _live(self, kinds: Iterable[str] | None) -> list[KubeObject]:
        """Return the service's objects as they are in the cluster.

        Raises:
            NotReadyError: One that makes or finds pods is gone.
        """
        wanted = None if kinds is None else set(kinds)
        live = []
        for obj in self._record.objects:
            if wanted is not None and obj["kind"] not in wanted:
                continue
            found = self._kube.get(self._path(obj))
            if found is None and obj["kind"] not in _LASTING:
                continue  # a Job may have a time to live after its end
            if found is None:
                msg = f'service "{self._record.service}": {_title(obj)} does not exist any more'
                raise NotReadyError(msg)
            live.append(found)
        return live

    def _refuse_foreign(self, live: Iterable[KubeObject]) -> None:
        """Raise KindInfraError if one of the objects was in the cluster before the run."""
        foreign = [_title(obj) for obj in live if not self._kube.is_owned(obj)]
        if foreign:
            verb = "was" if len(foreign) == 1 else "were"
            pronoun = "it is" if len(foreign) == 1 else "they are"
            msg = (
                f'service "{self._record.service}": {", ".join(foreign)} {verb} in the cluster '
                f"before this run, so {pronoun} not changed\n"
                "To fix: deploy it under another name, or in another namespace "
                "([cluster] namespace)"
            )
            raise KindInfraError(msg)

    def _path(self, obj: KubeObject) -> str:
        return self._kube.path_of(obj, namespace=self._record.namespace)

    def _patch(self, obj: KubeObject, change: dict[str, Any]) -> None:
        self._patch_at(self._path(obj), change)

    def _patch_at(self, path: str, change: dict[str, Any]) -> None:
        try:
            self._kube.request(
                "PATCH", path, body=change, query={"fieldManager": "kindinfra-test"},
                content_type="application/merge-patch+json",
            )  # fmt: skip
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                msg = f'service "{self._record.service}": {path} does not exist any more'
                raise NotReadyError(msg) from error
            raise

    def _make_anew(self, obj: KubeObject, deadline: Deadline) -> None:
        path, uid = self._path(obj), obj["metadata"]["uid"]
        self._kube.delete_if(path, lambda found: bool(found["metadata"]["uid"] == uid))
        await_end(self._kube.get, path, uid, deadline)
        self._kube.apply(cleaned(obj), namespace=self._record.namespace, deadline=deadline)

    def _nothing(self, what: str, kinds: Iterable[str]) -> str:
        has = listed(_title(obj) for obj in self._record.objects if obj["kind"] != "Namespace")
        return (
            f'service "{self._record.service}" has nothing {what}: no '
            f"{', '.join(sorted(kinds))}; it has: {has}"
        )

    def _none_or_several(self, workload: str | None, count: int) -> str:
        titles = [_title(obj) for obj in self._record.objects if obj["kind"] in _SCALED]
        if count:
            return (
                f'service "{self._record.service}" has several workloads: {listed(titles)}\n'
                f'To fix: name one: workload="{titles[0]}"'
            )
        if workload:
            return (
                f'service "{self._record.service}" has no workload "{workload}" that can be '
                f"scaled; it has: {listed(titles)}"
            )
        return self._nothing("to scale", _SCALED)


def _title(obj: KubeObject) -> str:
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def _is_made_anew(pod: KubeObject) -> bool:
    owners: Sequence[Any] = pod["metadata"].get("ownerReferences") or ()
    return any(one.get("controller") and one.get("kind") not in _RUN_ONCE for one in owners)
