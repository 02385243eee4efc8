"""Reading a cluster: objects, logs, events, and the request behind everything else.

The pods of a namespace are kept up to date by one thread for all who wait for some.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import (
    ApiError,
    ApiRequest,
    Transport,
    delete_if,
    fetch,
    hang_up,
    lines,
)
from pytest_kindinfra.kube.discovery import Discovery
from pytest_kindinfra.kube.events import event_text, latest_warning
from pytest_kindinfra.kube.pods import SERVICE_NAME, containers_of, lack_of_pods

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kindinfra.kube.causes import Cause
    from pytest_kindinfra.model import KubeObject


_LOG_LINES = 20


_LIMIT_BYTES = 256 * 1024


_EVENTS = 500


_NO_LOG = "unable to retrieve container logs for"
"""How the kubelet begins a log that it has lost, with status 200."""


class Reader:
    """A cluster's API by its kubeconfig; safe from several threads.

    Nothing is read or imported before the first request. `close` it: it may have threads.

    Args:
        kubeconfig: Of the cluster.
        patience: Seconds for which a request is repeated while the API server does not answer.
    """

    def __init__(self, kubeconfig: Path, *, patience: float = 0.0) -> None:
        self.kubeconfig = kubeconfig
        self.transport = Transport(kubeconfig, patience=patience)
        self._discovery = Discovery(lambda path: self.request("GET", path))
        self._lock = threading.Lock()
        self._watches: dict[str, PodWatch] = {}

    def close(self) -> None:
        """End the watches and close the connections; no thread is left."""
        with self._lock:
            watches, self._watches = list(self._watches.values()), {}
        for watch in watches:
            watch.close()
        self.transport.close()

    def client(self) -> Any:
        """Return the `kubernetes.client.ApiClient`, made once."""
        return self.transport.client()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Any:
        """Send a request and return its answer as parsed JSON; nothing for an empty one.

        Raises:
            ApiError: The answer has a status of 400 or more.
            ClusterError: There was no answer.
        """
        request = ApiRequest(method, path, body, query, content_type, timeout)
        answer = self.transport.send(request)
        return json.loads(answer) if answer else None

    def version(self) -> str | None:
        """Return the API server's version, `v1.34.4`; None if it does not say."""
        answer = self.request("GET", "/version")
        return answer.get("gitVersion") if isinstance(answer, dict) else None

    def path_of(self, obj: KubeObject, *, namespace: str) -> str:
        """Return the object's REST path.

        Raises:
            UnknownKindError: The cluster has no such kind.
        """
        meta = obj["metadata"]
        where = meta.get("namespace") or namespace
        return self._discovery.resource(obj).path(meta["name"], where)

    def is_namespaced(self, obj: KubeObject) -> bool:
        """Whether objects of that kind live in a namespace."""
        return self._discovery.resource(obj).namespaced

    def get(self, path: str) -> KubeObject | None:
        """Return the object at a path, or None if there is none."""
        return fetch(self.transport, path)

    def list_(self, path: str, **query: str) -> list[KubeObject]:
        """Return the objects at a path, such as all pods of a namespace."""
        answer = self.request("GET", path, query=query)
        kind = answer.get("kind", "").removesuffix("List")
        # Items of a list lack what the list says of them all.
        head = {"apiVersion": answer.get("apiVersion", ""), "kind": kind}
        return [head | item for item in answer.get("items") or ()]

    def delete_if(self, path: str, condition: Callable[[KubeObject], bool]) -> str:
        """Ask for the end of an object if it is condition, and return its uid; see `delete_if`."""
        return delete_if(self.transport, path, condition)

    def is_owned(self, obj: KubeObject) -> bool:  # noqa: ARG002 - for clusters that are shared
        """Whether this run made an object: all are in a cluster that it made."""
        return True

    def lack_of_pods(self, k8s_service: KubeObject, *, namespace: str) -> str:
        """Say that no pod is behind a k8s service; nothing if a ready pod is."""
        meta = k8s_service["metadata"]
        where = meta.get("namespace") or namespace
        path = f"/apis/discovery.k8s.io/v1/namespaces/{where}/endpointslices"
        found = self.list_(path, labelSelector=f"{SERVICE_NAME}={meta['name']}")
        return lack_of_pods(k8s_service, found)

    def watch(self, namespace: str) -> PodWatch:
        """Return the watch of a namespace's pods, started at the first call."""
        with self._lock:
            if namespace not in self._watches:
                self._watches[namespace] = PodWatch(self.transport, namespace)
            return self._watches[namespace]

    def pod_logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        lines: int = 50,
        limit_bytes: int = _LIMIT_BYTES,
        since: str = "",
    ) -> str:
        """Return the last lines of a container's log, not more than `limit_bytes` of them.

        Args:
            namespace: The pod's.
            pod: Its name.
            container: The container's name; empty if the pod has only one.
            previous: Read the log of the container's run before this one.
            lines: How many lines.
            limit_bytes: How many bytes, counted from the end.
            since: A time to the second: only lines from then on, each with its own time before it.
        """
        # The server's own limitBytes keeps the beginning, but the end is what tells; it is
        # still set, well above, so that lines without an end do not fill the memory.
        most = max(limit_bytes, _LIMIT_BYTES) * 4
        query: dict[str, Any] = {"tailLines": lines, "limitBytes": most}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        if since:
            query |= {"sinceTime": since, "timestamps": "true"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        body = self.transport.send(ApiRequest("GET", path, query=query, timeout=10))
        return body[-limit_bytes:].decode(errors="replace")

    def events(self, namespace: str) -> list[KubeObject]:
        """Return the namespace's events, as listed."""
        path = f"/api/v1/namespaces/{namespace}/events"
        answer = self.request("GET", path, query={"limit": _EVENTS}, timeout=10) or {}
        return list(answer.get("items") or ())

    def last_event(self, pod: KubeObject, container: str = "", *, before: bool = False) -> str:
        """Return the last warning about a pod as a sentence; empty if there is none.

        See `latest_warning` for which ones count.
        """
        try:
            events = self.events(pod["metadata"]["namespace"])
        except (ApiError, ClusterError):
            return ""
        warning = latest_warning(pod, events, container, before=before)
        return event_text(warning) if warning else ""

    def traces(self, pod: KubeObject) -> list[str]:
        """Return lines about a pod that is not ready: the ends of its containers' logs."""
        meta = pod["metadata"]
        lines: list[str] = []
        for container in containers_of(pod):
            name = container["name"]
            if end := self._end_of_log(meta["namespace"], meta["name"], name):
                lines += [f'  last log lines of container "{name}":']
                lines += [f"    {line}" for line in end]
        return lines

    def with_evidence(self, cause: Cause) -> Cause:
        """Return the cause with its pod's last event and log lines, as far as there are any."""
        pods = self.watch(cause.namespace).pods()[1] if cause.pod else ()
        pod = next((pod for pod in pods if pod["metadata"]["name"] == cause.pod), None)
        before = cause.logs == "previous"
        event = self.last_event(pod, cause.container, before=before) if pod else ""
        return replace(cause, event=event, log=self._log_of(cause))

    def _log_of(self, cause: Cause) -> tuple[str, ...]:
        # Of a container that is down, either of the two logs may be the one that is kept.
        first = cause.logs == "previous"
        for previous in (first, not first) if cause.logs else ():
            if lines := self._end_of_log(
                cause.namespace, cause.pod, cause.container, previous=previous
            ):
                return lines
        return ()

    def _end_of_log(
        self, namespace: str, pod: str, container: str, *, previous: bool = False
    ) -> tuple[str, ...]:
        try:
            text = self.pod_logs(namespace, pod, container, previous=previous, lines=_LOG_LINES)
        except (ApiError, ClusterError):
            return ()
        if text.startswith(_NO_LOG):
            return ()
        return tuple(line for line in text.splitlines() if line.strip())


WATCH_SECONDS = 60
"""The server ends a watch after this long, so that a dead one is not trusted forever."""


RETRY_PAUSE = 0.2


class PodWatch:
    """A list of pods that follows the cluster until `close`."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._changed = threading.Condition()
        self._pods: dict[str, KubeObject] = {}
        self._version = 0
        self._closed = threading.Event()
        self._response: Any = None
        self._thread = threading.Thread(
            target=self._run, name=f"kindinfra-pods-{namespace}", daemon=True
        )
        self._thread.start()

    def pods(self) -> tuple[int, tuple[KubeObject, ...]]:
        """Return the number of changes so far, and the pods after them."""
        with self._changed:
            return self._version, tuple(self._pods.values())

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait until there were more than `seen` changes, and say whether there were."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._version > seen or self._closed.is_set(), seconds
            )

    def close(self) -> None:
        """End the thread, also while it reads."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            hang_up(self._response)
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow(self._list())
            except (ApiError, ClusterError, ValueError, LookupError):  # or half an answer
                self._closed.wait(RETRY_PAUSE)

    def _list(self) -> str:
        answer = json.loads(
            self._transport.send(ApiRequest("GET", self._path, timeout=5), attempts=1)
        )
        # Items of a list lack what the list says of them all.
        pods = [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in answer["items"]]
        self._update({pod["metadata"]["uid"]: pod for pod in pods})
        return str(answer["metadata"]["resourceVersion"])

    def _update(self, pods: dict[str, KubeObject]) -> None:
        with self._changed:
            self._pods = pods
            self._version += 1
            self._changed.notify_all()

    def _follow(self, version: str) -> None:
        """Watch from `version` on, again and again, until the server has forgotten it."""
        while version and not self._closed.is_set():
            try:
                version = self._watch(version)
            except ClusterError:
                self._closed.wait(RETRY_PAUSE)

    def _watch(self, version: str) -> str:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
        }
        request = ApiRequest("GET", self._path, query=query, timeout=WATCH_SECONDS + 10)
        with self._transport.exchange(request) as response:
            if not self._attach(response):
                return ""
            try:
                for line in lines(response):
                    version = self._take(json.loads(line))
                    if not version:
                        break
            finally:
                self._attach(None)
        return version

    def _attach(self, response: Any) -> bool:
        # Under the lock: close() either sees this response or was seen by us.
        with self._changed:
            self._response = response
            return not self._closed.is_set()

    def _take(self, change: dict[str, Any]) -> str:
        kind, pod = change["type"], change["object"]
        if kind == "ERROR":  # 410 Gone: the list must be fetched again
            return ""
        uid = pod["metadata"].get("uid")
        if kind == "DELETED":
            self._update({key: value for key, value in self._pods.items() if key != uid})
        elif kind != "BOOKMARK":
            self._update({**self._pods, uid: pod})
        return str(pod["metadata"]["resourceVersion"])
