"""The pods of a namespace, kept up to date by one thread for all who wait for some."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import ApiError, ApiRequest, Transport, hang_up, lines

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject


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
