"""Logs of pods as they grow, of those that come later too."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.client import ApiRequest, hang_up
from pytest_kindinfra.kube.client import lines as lines_of
from pytest_kindinfra.kube.routes import pods_paths
from pytest_kindinfra.names import labelled_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject


_EVERY = 1.0


_SILENCE = 86400.0
"""Seconds without a line after which a log counts as ended."""


class Following:
    """The logs of all containers of some pods, each line with the container that wrote it."""

    def __init__(
        self,
        kube: Kube,
        selector: str,
        *,
        say: Callable[[str], object],
        is_read: Callable[[], bool] = lambda: True,
        lines: int,
        namespaces: Iterable[str] | None = None,
    ) -> None:
        """Prepare it; nothing is asked before `run`.

        Args:
            kube: The cluster.
            selector: Selects the pods by their labels.
            say: Shows a line; called from several threads, one at a time. An OSError that it
                raises, such as of a closed pipe, ends `run`.
            is_read: Called now and then: whether the lines are still read. A closed pipe would
                not be noticed otherwise while there are no new lines.
            lines: How many earlier lines of each container are shown.
            namespaces: Where the pods are; None looks in the whole cluster.
        """
        self._paths = pods_paths(namespaces)
        self._kube = kube
        self._selector = selector
        self._say = say
        self._is_read = is_read
        self._lines = lines
        self._seen: set[tuple[str, str, int]] = set()
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def run(self) -> None:
        """Show lines as long as they are read, or until an exception such as KeyboardInterrupt.

        Raises:
            ClusterError: The API server stopped answering.
        """
        threads: list[threading.Thread] = []
        try:
            while not self._ended.is_set() and self._is_read():
                threads += [self._start(one) for one in self._new_containers()]
                self._ended.wait(_EVERY)
        finally:
            self.end()
            for thread in threads:
                thread.join()

    def end(self) -> None:
        """Have `run` return soon; may be called from any thread."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._ended.set()
        for response in self._open:
            hang_up(response)

    def _new_containers(self) -> Iterator[tuple[str, str, str]]:
        """Yield title, path and container of each container that began to run since the last look.

        A container that was restarted is a new one, whose log begins again.
        """
        for pod in self._pods():
            meta, status = pod["metadata"], pod.get("status") or {}
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
            for one in _statuses(status):
                seen = (str(meta.get("uid")), one["name"], int(one.get("restartCount", 0)))
                if seen not in self._seen and not (one.get("state") or {}).get("waiting"):
                    self._seen.add(seen)
                    yield _title(pod, one["name"]), path, one["name"]

    def _pods(self) -> Iterator[KubeObject]:
        for path in self._paths:
            yield from self._kube.list_(path, labelSelector=self._selector)

    def _start(self, container: tuple[str, str, str]) -> threading.Thread:
        thread = threading.Thread(target=self._show, args=container, daemon=True)
        thread.start()
        return thread

    def _show(self, title: str, path: str, container: str) -> None:
        query = {"container": container, "follow": "true", "tailLines": self._lines}
        with suppress(KindInfraError):  # the pod is gone, or the run of this command ends
            with self._kube.transport.exchange(
                ApiRequest("GET", path, query=query, timeout=_SILENCE)
            ) as response:
                if self._enter(response):
                    for line in lines_of(response):
                        self._tell(f"{title} | {line.decode(errors='replace')}")
            return
        if not self._ended.is_set():
            self._tell(f"{title} | (its log cannot be read any more)")

    def _enter(self, response: Any) -> bool:
        with self._lock:
            if not self._ended.is_set():
                self._open.add(response)
            return not self._ended.is_set()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            try:
                self._say(line)
            except OSError:
                self._end()


def _statuses(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(kind) or ()


def _title(pod: KubeObject, container: str) -> str:
    meta = pod["metadata"]
    service = labelled_service(meta.get("labels"))
    return f"{service} {meta['name']} {container}"
