"""An API server of a cluster that has one node and runs nothing, over plain HTTP.

    with FakeKubernetes(ready_after=0.1) as fake:
        fake.write_kubeconfig(path)

It speaks what this project asks for: discovery (CRDs included), server-side apply, get,
list, delete, the watch of pods, logs and events. Applied workloads get pods, and those get
ready after `ready_after` seconds, unless `breaks` says what becomes of them instead.
"""

from __future__ import annotations

import base64
import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import yaml

from tests.fake_kubernetes_http import Address, FakeServer, Fault, Object, status_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----\nbm90aGluZw==\n").decode()
TOKEN = "token-of-the-kubeconfig"
"""Credentials that open nothing, for those who look where they come to."""

KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "Namespace": ("namespaces", False),
        "Node": ("nodes", False),
        "Pod": ("pods", True),
        "Service": ("services", True),
        "ConfigMap": ("configmaps", True),
        "Secret": ("secrets", True),
        "ServiceAccount": ("serviceaccounts", True),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
        "Event": ("events", True),
        "ResourceQuota": ("resourcequotas", True),
    },
    "apps/v1": {
        "Deployment": ("deployments", True),
        "ReplicaSet": ("replicasets", True),
        "StatefulSet": ("statefulsets", True),
        "DaemonSet": ("daemonsets", True),
    },
    "batch/v1": {"Job": ("jobs", True), "CronJob": ("cronjobs", True)},
    "apiextensions.k8s.io/v1": {
        "CustomResourceDefinition": ("customresourcedefinitions", False),
    },
    "coordination.k8s.io/v1": {"Lease": ("leases", True)},
    "discovery.k8s.io/v1": {"EndpointSlice": ("endpointslices", True)},
    "networking.k8s.io/v1": {"Ingress": ("ingresses", True)},
    "rbac.authorization.k8s.io/v1": {
        "ClusterRole": ("clusterroles", False),
        "ClusterRoleBinding": ("clusterrolebindings", False),
        "Role": ("roles", True),
        "RoleBinding": ("rolebindings", True),
    },
}


@dataclass
class FakeKubernetes:
    """The server and what it stores; its fields may be changed while it runs.

    Attributes:
        ready_after: Seconds from apply to ready.
        breaks: By a workload's name: the container status its pods come to instead.
        faults: Answers that are wrong on purpose, used up in order.
        logs: By a pod's owner: what its log says; another one for every one not named.
        ports: A pod's name (empty for every other pod) and port to the port of this host that
            plays it.
        requests: Method and path of each request so far.
        deletions: Path and preconditions of each request to delete so far.
        before_deletion: Called once, with the path, before something is deleted.
        forbidden: Whether a request of that method and path is answered by 403.
        allows: Whether a user may do what the attributes of an access review say.
        node_port: The nodePort that k8s services get which want one; 0 gives none.
        balancer: The address that controllers write into Ingresses and k8s services of type
            LoadBalancer; empty if there are no such controllers.
        execs: Plays the commands in pods: gets a pod's name, a command and its standard input, and
            returns the exit code and both streams.
    """

    ready_after: float = 0.02
    breaks: dict[str, Object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    deletions: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    before_deletion: Callable[[str], object] | None = None
    forbidden: Callable[[str, str], bool] = lambda _method, _path: False
    allows: Callable[[dict[str, str]], bool] = lambda _: True
    node_port: int = 0
    balancer: str = ""
    execs: Callable[[str, list[str], bytes], tuple[int, str, str]] = lambda *_: (0, "", "")
    bodies: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = {version: dict(kinds) for version, kinds in KINDS.items()}
        self.changed = threading.Condition(threading.RLock())
        self.changes: list[tuple[int, str, Object]] = []
        self.forgotten = 0
        self.ended = False
        self._numbers = itertools.count(1)
        self._timers: list[threading.Timer] = []
        self._server = FakeServer(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._make_cluster()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        for timer in self._timers:
            timer.cancel()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, as `kind create` would."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"client-key-data": KEY, "token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # What tests change.

    def fail(self, method: str, path: str, status: int, message: str = "", times: int = 1) -> None:
        """Answer the next requests whose path holds `path` with that status; 0 hangs up."""
        self.faults.append(Fault(method, path, status, message, times=times))

    def hang_up(self) -> None:
        """Break every open connection, watches too."""
        self._server.hang_up()

    def forget(self) -> None:
        """Make older resource versions too old, so that a watch must list anew."""
        with self.changed:
            self.forgotten = next(self._numbers)

    def put(self, obj: Object) -> Object:
        """Store an object as it is, and tell the watches if it is a pod."""
        meta = obj["metadata"]
        plural, namespaced = self.kinds[obj["apiVersion"]][obj["kind"]]
        namespace = meta.setdefault("namespace", "default") if namespaced else ""
        path = Address(obj["apiVersion"], namespace, plural, meta["name"], "").path
        with self.changed:
            number = next(self._numbers)
            meta.setdefault("uid", f"uid-{number}")
            meta["resourceVersion"] = str(number)
            known = path in self.objects
            self.objects[path] = obj
            if obj["kind"] == "Pod":
                kind = "MODIFIED" if known else "ADDED"
                self.changes.append((number, kind, json.loads(json.dumps(obj))))
            self.changed.notify_all()
        return obj

    def next_version(self) -> int:
        """Return a resource version that nothing has had before."""
        return next(self._numbers)

    def changes_after(self, version: int, namespace: str) -> list[tuple[int, str, Object]]:
        """Wait for changes of a namespace's pods, and return them; none at the end."""

        def news() -> list[tuple[int, str, Object]]:
            if version < self.forgotten:
                return [(0, "ERROR", status_object(410, "too old resource version", "Expired"))]
            return [
                (number, kind, pod)
                for number, kind, pod in self.changes
                if number > version and pod["metadata"]["namespace"] == namespace
            ]

        with self.changed:
            self.changed.wait_for(lambda: self.ended or bool(news()), 5)
            return [] if self.ended else news()

    def delete(self, path: str) -> Object | None:
        """Remove an object and what it owns; None if it is not there."""
        with self.changed:
            gone = self.objects.pop(path, None)
            if gone is None:
                return None
            if gone["kind"] == "Pod":
                number = next(self._numbers)
                gone["metadata"]["resourceVersion"] = str(number)
                self.changes.append((number, "DELETED", gone))
            for other, obj in list(self.objects.items()):
                if _owner(obj) == gone["metadata"]["uid"]:
                    self.delete(other)
            self.changed.notify_all()
            return gone

    def event(self, about: Object, reason: str, message: str, kind: str = "Warning") -> Object:
        """Record an event about a stored object."""
        meta = about["metadata"]
        number = next(self._numbers)
        return self.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"event-{number}", "namespace": meta["namespace"]},
                "involvedObject": {"uid": meta["uid"], "name": meta["name"]},
                "reason": reason,
                "message": message,
                "type": kind,
                "lastTimestamp": f"2030-01-01T00:00:{number % 60:02}Z",
            }
        )

    def pods_of(self, name: str) -> list[Object]:
        """Return the pods of the workload called `name`."""
        with self.changed:
            found = [obj for obj in self.objects.values() if obj["kind"] == "Pod"]
            return [pod for pod in found if pod["metadata"]["labels"].get("fake/of") == name]

    def endpoint_slices(self, namespace: str) -> list[Object]:
        """Return what the cluster makes of each k8s service with a selector: who is behind it."""
        there = [
            obj for obj in self.objects.values() if obj["metadata"].get("namespace") == namespace
        ]
        pods = [obj for obj in there if obj["kind"] == "Pod"]
        return [_slice(obj, pods) for obj in there if obj["kind"] == "Service"]

    # What the cluster does by itself.

    def _make_cluster(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fake-control-plane"},
                  "status": {"conditions": [ready]}})  # fmt: skip
        for name in ("default", "kube-system", "kube-public"):
            self.apply(Address("v1", "", "namespaces", name, ""), _namespace(name))
        self.put({"apiVersion": "v1", "kind": "Service",
                  "metadata": {"name": "kube-dns", "namespace": "kube-system",
                               "labels": {"k8s-app": "kube-dns"}},
                  "spec": {"ports": [{"port": 53}]}})  # fmt: skip
        self.put(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "kube-dns-1",
                    "namespace": "kube-system",
                    "labels": {"k8s-app": "kube-dns"},
                },
                "endpoints": [{"addresses": ["10.96.0.10"], "conditions": {"ready": True}}],
            }
        )

    def apply(self, address: Address, body: Object) -> Object:
        """Store what was applied, and let happen what would happen."""
        with self.changed:
            old = self.objects.get(address.path, {})
            meta = {**old.get("metadata", {}), **body["metadata"]}
            same = old.get("spec") == body.get("spec")
            meta["generation"] = meta.get("generation", 0) + (0 if old and same else 1)
            obj = self.put({**old, **body, "metadata": meta})
            if not old or not same:
                self._start(obj)
            return obj

    def _start(self, obj: Object) -> None:
        kind, name = obj["kind"], obj["metadata"]["name"]
        if kind == "Namespace":
            obj["status"] = {"phase": "Active"}
            self.put({"apiVersion": "v1", "kind": "ServiceAccount",
                      "metadata": {"name": "default", "namespace": name}})  # fmt: skip
        elif kind == "CustomResourceDefinition":
            self._serve(obj)
        elif kind == "Pod":
            obj["metadata"].setdefault("labels", {})["fake/of"] = name
            self._later(lambda: self._run_pod(obj, name))
        elif kind in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
            self._start_workload(obj)
        elif kind in {"Service", "Ingress"}:
            self._expose(obj)

    def _expose(self, obj: Object) -> None:
        """Give it what controllers give it from outside of the cluster."""
        spec = obj.get("spec") or {}
        kind = spec.get("type", obj["kind"])
        if kind in {"NodePort", "LoadBalancer"} and self.node_port:
            spec["ports"][0].setdefault("nodePort", self.node_port)
        if kind in {"Ingress", "LoadBalancer"} and self.balancer:
            obj["status"] = {"loadBalancer": {"ingress": [{"ip": self.balancer}]}}

    def _serve(self, crd: Object) -> None:
        spec = crd["spec"]
        names = spec["names"]
        for version in spec["versions"]:
            known = self.kinds.setdefault(f"{spec['group']}/{version['name']}", {})
            known[names["kind"]] = (names["plural"], spec["scope"] == "Namespaced")
        crd["status"] = {"conditions": [{"type": "Established", "status": "True"}]}

    def _start_workload(self, obj: Object) -> None:
        meta, owner = obj["metadata"], obj
        obj["status"] = {"observedGeneration": meta["generation"]}
        for pod in self.pods_of(meta["name"]):
            self.delete(Address("v1", meta["namespace"], "pods", pod["metadata"]["name"], "").path)
        if obj["kind"] == "Deployment":
            owner = self.put(_replica_set(obj))
        count = obj["spec"].get("replicas", 1)
        pods = [self.put(_pod(obj, owner, number)) for number in range(count)]
        self._later(lambda: self._finish(obj, pods))

    def _finish(self, obj: Object, pods: list[Object]) -> None:
        name = obj["metadata"]["name"]
        if not self._is_there(obj):
            return
        for pod in pods:
            self._run_pod(pod, name)
        if name not in self.breaks:
            obj["status"] = _done(obj, len(pods))
            self.put(obj)

    def _is_there(self, obj: Object) -> bool:
        """Whether a workload was neither deleted nor changed since it was started."""
        wanted = [obj["metadata"].get(key) for key in ("uid", "generation")]
        found = [one["metadata"] for one in self.objects.values()]
        return any([meta.get(key) for key in ("uid", "generation")] == wanted for meta in found)

    def _run_pod(self, pod: Object, name: str) -> None:
        running = {"state": {"running": {}}, "ready": True, "restartCount": 0}
        broken = self.breaks.get(name)
        status = {"name": pod["spec"]["containers"][0]["name"], **(broken or running)}
        ready = {"type": "Ready", "status": "False" if broken else "True"}
        pod["status"] = {
            "phase": "Running" if status.get("state", {}).get("running") is not None else "Pending",
            "hostIP": "127.0.0.1",
            "conditions": [ready],
            "containerStatuses": [status],
        }
        self.put(pod)

    def _later(self, happen: Any) -> None:
        def locked() -> None:
            with self.changed:
                if not self.ended:
                    happen()

        timer = threading.Timer(self.ready_after, locked)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _owner(obj: Object) -> str | None:
    owners = obj["metadata"].get("ownerReferences") or [{}]
    uid: str | None = owners[0].get("uid")
    return uid


def _owned_by(obj: Object) -> list[Object]:
    meta = obj["metadata"]
    return [{"kind": obj["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}]


def _replica_set(obj: Object) -> Object:
    meta = obj["metadata"]
    generation = str(meta["generation"])
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{generation}",
            "namespace": meta["namespace"],
            "annotations": {"deployment.kubernetes.io/revision": generation},
            "ownerReferences": _owned_by(obj),
        },
        "spec": obj["spec"],
    }


def _slice(k8s_service: Object, pods: list[Object]) -> Object:
    meta = k8s_service["metadata"]
    wanted = ((k8s_service.get("spec") or {}).get("selector") or {}).items()
    behind = [pod for pod in pods if wanted and wanted <= pod["metadata"]["labels"].items()]
    return {
        "metadata": {
            "name": f"{meta['name']}-1",
            "namespace": meta["namespace"],
            "labels": {"kubernetes.io/service-name": meta["name"]},
        },
        "endpoints": [{"conditions": {"ready": _is_ready(pod)}} for pod in behind],
    }


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _pod(obj: Object, owner: Object, number: int) -> Object:
    template = obj["spec"]["template"]
    labels = {
        **(template.get("metadata") or {}).get("labels", {}),
        "fake/of": obj["metadata"]["name"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{owner['metadata']['name']}-{number}",
            "namespace": obj["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": _owned_by(owner),
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def _done(obj: Object, count: int) -> Object:
    status: Object = {"observedGeneration": obj["metadata"]["generation"]}
    if obj["kind"] == "Job":
        return {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
    keys: tuple[str, ...]
    if obj["kind"] == "DaemonSet":
        keys = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    else:
        keys = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return status | dict.fromkeys(keys, count)
