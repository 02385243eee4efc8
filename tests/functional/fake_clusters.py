"""The clusters that the fake `kind` makes: each an API server, and ports that lead to its pods.

They live in the test's process. A mapped port accepts at once, as the engine's proxy does, and
hangs up unless a pod behind the NodePort is ready.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import socketserver
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from tests.fake_kubernetes import FakeKubernetes
from tests.fake_kubernetes_http import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.fake_kubernetes_http import Object

PONG = b"+PONG\r\n"
UNREADY: Object = {"state": {"running": {}}, "ready": False, "restartCount": 0}

_NUMBERS = count(1)


class GatedKubernetes(FakeKubernetes):
    """A fake API server whose workloads may have to wait for a gate before they are ready.

    Attributes:
        happened: What was applied and what got ready: `apply Deployment/api`, and when.
    """

    def __init__(
        self,
        gate_of: Callable[[str], Path | None],
        breaks: dict[str, Object],
        logs: dict[str, str],
        ready_after: float,
    ) -> None:
        self.happened: list[tuple[str, float]] = []
        self._gate_of = gate_of
        super().__init__(ready_after=ready_after, breaks=breaks, logs=logs)

    def apply(self, address: Address, body: Object) -> Object:
        """Note it, and apply."""
        self._note(f"apply {body['kind']}/{body['metadata']['name']}")
        return super().apply(address, body)

    def _finish(self, obj: Object, pods: list[Object]) -> None:
        gate = self._gate_of(obj["metadata"]["name"])
        if gate and not gate.exists():
            for pod in pods:
                self._start_pod(pod)
            self._later(lambda: self._finish(obj, pods))
            return
        super()._finish(obj, pods)
        self._note(f"ready {obj['metadata']['name']}")

    def _start_pod(self, pod: Object) -> None:
        """Have its container run, but not be ready."""
        if pod["status"]["phase"] == "Pending":
            name = pod["spec"]["containers"][0]["name"]
            pod["status"] = {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": name, **UNREADY}],
            }
            self.put(pod)

    def _note(self, what: str) -> None:
        self.happened.append((what, time.time()))

    def is_answered(self, node_port: int) -> str | None:
        """Return the k8s service behind a NodePort if one of its pods is ready."""
        with self.changed:
            pods = [obj for obj in self.objects.values() if obj["kind"] == "Pod"]
            for obj in self.objects.values():
                if obj["kind"] != "Service" or node_port not in _node_ports(obj):
                    continue
                wanted = (obj["spec"].get("selector") or {}).items()
                if any(wanted <= _labels(pod).items() and _is_ready(pod) for pod in pods):
                    return str(obj["metadata"]["name"])
        return None


class Ports:
    """Listeners of one cluster, in one thread; each connection is served in one of its own."""

    def __init__(self, kube: GatedKubernetes) -> None:
        self._kube = kube
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def open(self, address: str, port: int, node_port: int) -> None:
        listener = socket.create_server((address, port), backlog=128)
        self._open.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, node_port)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        for listener in self._open:
            listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.05):
                with contextlib.suppress(OSError):
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    threading.Thread(
                        target=self._talk, args=(connection, key.data), daemon=True
                    ).start()

    def _talk(self, connection: socket.socket, node_port: int) -> None:
        with connection, contextlib.suppress(OSError):
            service = self._kube.is_answered(node_port)
            if service is None:
                return
            connection.settimeout(5)
            if connection.recv(65536).startswith(b"GET"):
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(service)}\r\n\r\n"
                connection.sendall(head.encode() + service.encode())
            else:
                connection.sendall(PONG)


class FakeClusters:
    """All clusters of one test, behind the socket that the fake `kind` talks to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.breaks: dict[str, Object] = {}
        self.gates: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.ready_after = 0.02
        self.execs: Callable[[str, list[str], bytes], tuple[int, str, str]] = lambda *_: (0, "", "")
        self.pods: dict[tuple[str, int], int] = {}
        self.made: list[GatedKubernetes] = []
        self._running: dict[str, tuple[GatedKubernetes, Ports]] = {}
        self._server = _ControlServer(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        (self.folder / "port").write_text(str(self._server.server_address[1]))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.delete(name)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def create(self, name: str, config: dict[str, Any]) -> dict[str, str]:
        """Start an API server, and listen where the config maps ports."""
        kube = GatedKubernetes(self._gate_of, self.breaks, self.logs, self.ready_after)
        kube.execs = self.execs
        kube.ports = self.pods
        kube.__enter__()
        ports, address = Ports(kube), _node_address()
        self._running[name] = (kube, ports)
        self.made.append(kube)
        for host, port, node_port in _mappings(config):
            ports.open(host, port, node_port)
            ports.open(address, node_port, node_port)
        ports.start()
        kubeconfig = kube.write_kubeconfig(self.folder / f"kubeconfig-{len(self.made)}")
        return {"address": address, "kubeconfig": kubeconfig.read_text()}

    def delete(self, name: str) -> dict[str, str]:
        """End what `create` started; there being none is fine."""
        if name in self._running:
            kube, ports = self._running.pop(name)
            ports.close()
            kube.__exit__()
        return {}

    def apply(self, obj: Object, namespace: str) -> dict[str, str]:
        """Have an object in the newest cluster, as the fake `helm` wants it."""
        kube = self.made[-1]
        plural, _ = kube.kinds[obj["apiVersion"]][obj["kind"]]
        where = obj["metadata"].setdefault("namespace", namespace)
        address = Address(obj["apiVersion"], where, plural, obj["metadata"]["name"], "")
        kube.apply(address, obj)
        return {"path": address.path}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            if question["do"] == "create":
                return self.create(question["name"], question["config"])
            if question["do"] == "apply":
                return self.apply(question["object"], question["namespace"])
            if question["do"] == "status":
                return dict(self.made[-1].objects[question["path"]].get("status") or {})
            return self.delete(question["name"])
        except OSError as error:  # such as a port that is taken
            return {"error": f"ERROR: failed to create cluster: {error}"}

    def _gate_of(self, name: str) -> Path | None:
        gate = self.gates.get(name)
        return self.folder / "gates" / gate if gate else None


class _ControlServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, clusters: FakeClusters) -> None:
        self.clusters = clusters
        super().__init__(("127.0.0.1", 0), _Control)


class _Control(socketserver.StreamRequestHandler):
    server: _ControlServer

    def handle(self) -> None:
        reply = self.server.clusters.answer(json.loads(self.rfile.readline()))
        with contextlib.suppress(OSError):  # a `kind` that was killed
            self.wfile.write(json.dumps(reply).encode() + b"\n")


def _mappings(config: dict[str, Any]) -> Iterable[tuple[str, int, int]]:
    for node in config.get("nodes") or ():
        for mapping in node.get("extraPortMappings") or ():
            yield mapping["listenAddress"], mapping["hostPort"], mapping["containerPort"]


def _node_address() -> str:
    """Return an address of this host that no other cluster of any test here has."""
    process = os.getpid()
    return f"127.{16 + process // 250 % 200}.{process % 250}.{next(_NUMBERS) % 250 + 1}"


def _labels(pod: Object) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def _node_ports(k8s_service: Object) -> list[int]:
    return [port.get("nodePort") for port in k8s_service["spec"].get("ports") or ()]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
