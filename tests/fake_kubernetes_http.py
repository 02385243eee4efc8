"""The HTTP side of the fake API server: paths, verbs, and the watch.

What is stored and what happens to it is in `tests.fake_kubernetes`.
"""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.fake_exec import serve_exec
from tests.fake_portforward import serve_portforward

if TYPE_CHECKING:
    from tests.fake_kubernetes import FakeKubernetes

Object = dict[str, Any]
TIMED = re.compile(r"\d{4}-\d\d-\d\dT")

_AT_THE_TOP: dict[str, Any] = {
    "/readyz": "ok",
    "/livez": "ok",
    "/version": {"gitVersion": "v1.34.4"},
    "/apis": None,
}

PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?$"
)


@dataclass
class Fault:
    """An answer that some requests get instead of the right one; status 0 hangs up."""

    method: str
    path: str
    status: int
    message: str = ""
    reason: str = "Faked"
    times: int = 1


@dataclass(frozen=True)
class Address:
    """A request's path, taken apart."""

    version: str
    namespace: str
    plural: str
    name: str
    part: str

    @property
    def collection(self) -> str:
        base = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        where = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{base}{where}/{self.plural}"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    @classmethod
    def parse(cls, path: str) -> Address | None:
        found = PATH.match(path)
        if not found:
            return None
        version = found["core"] or found["group"]
        return cls(
            version, found["namespace"] or "", found["plural"], found["name"] or "",
            found["part"] or "",
        )  # fmt: skip


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: FakeKubernetes) -> None:
        self.fake = fake
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the game."""

    def hang_up(self) -> None:
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        self.hang_up()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms
    server: FakeServer

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        fake, split = self.server.fake, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        if not split.path.endswith("/selfsubjectaccessreviews"):  # they change nothing
            fake.requests.append((method, split.path))
            fake.authorizations.append(self.headers.get("Authorization", ""))
        address, fault = Address.parse(split.path), None
        if address and address.part == "portforward":
            port = int(query["ports"])
            target = fake.ports.get((address.name, port)) or fake.ports.get(("", port))
            serve_portforward(self, port, target)
        elif address and address.part == "exec" and not (fault := self._fault(method, split.path)):
            command = parse_qs(split.query)["command"]
            plays = partial(fake.execs, address.name)
            serve_exec(self, command, plays, reads="stdin" in query)
        elif fake.forbidden(method, split.path) and address:
            self._fail(403, f"{address.plural} is forbidden: this user cannot do that", "Forbidden")
        elif fault := fault or self._fault(method, split.path):
            self._fail(fault.status, fault.message, fault.reason)
        elif split.path.endswith("/selfsubjectaccessreviews"):
            review = json.loads(body)
            allowed = fake.allows(review["spec"]["resourceAttributes"])
            self._send(201, {**review, "status": {"allowed": allowed}})
        elif query.get("watch") and "fieldSelector" in query:
            self._watch_one(f"{split.path}/{query['fieldSelector'].partition('=')[2]}", query)
        elif method == "GET" and query.get("watch"):
            self._watch(split.path, int(query["resourceVersion"]))
        else:
            with fake.changed:
                answer = self._answer(method, split.path, query, body)
            self._send(*answer)

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.server.fake.faults:
            if fault.times and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault
        return None

    def _fail(self, status: int, message: str, reason: str) -> None:
        if status:
            self._send(status, status_object(status, message, reason))
        else:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, answer: Any) -> None:
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(
        self, method: str, path: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        fake = self.server.fake
        if path in _AT_THE_TOP:
            return 200, _groups(fake.kinds) if path == "/apis" else _AT_THE_TOP[path]
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if method == "GET" and version in fake.kinds:
            return 200, _discovery(fake.kinds[version])
        address = Address.parse(path)
        if address is None or not _is_served(fake, address):
            return 404, "404 page not found"
        if method == "GET":
            return self._get(address, query)
        if method == "DELETE":
            return self._delete(address, json.loads(body or "{}"))
        refusal = self._refused(address, body) if method == "PUT" else None
        return refusal or self._write(method, address, body, dry_run="dryRun" in query)

    def _refused(self, address: Address, body: bytes) -> tuple[int, Any] | None:
        """Return why an object cannot be replaced: it is not there, or has another version."""
        stored = self.server.fake.objects.get(address.path)
        if stored is None:
            return self._found(None, address)
        wanted = json.loads(body)["metadata"]["resourceVersion"]
        if stored["metadata"]["resourceVersion"] == wanted:
            return None
        said = "the object has been modified; please apply your changes to the latest one"
        return 409, status_object(409, said, "Conflict")

    def _delete(self, address: Address, options: Object) -> tuple[int, Any]:
        fake = self.server.fake
        happen, fake.before_deletion = fake.before_deletion, None
        if happen:
            happen(address.path)
        meta = fake.objects.get(address.path, {}).get("metadata")
        wanted = options.get("preconditions") or {}
        fake.deletions.append((address.path, wanted))
        if meta and (off := [key for key in wanted if meta[key] != wanted[key]]):
            said = f"Precondition failed: {off[0]} in precondition: {wanted[off[0]]}"
            return 409, status_object(409, said, "Conflict")
        return self._found(fake.delete(address.path), address)

    def _write(
        self, method: str, address: Address, body: bytes, *, dry_run: bool
    ) -> tuple[int, Any]:
        fake = self.server.fake
        # YAML as the server reads it; what it stores is what YAML makes of our JSON.
        obj = yaml.safe_load(body.decode())
        if method == "POST":
            address = Address(address.version, address.namespace, address.plural,
                              obj["metadata"]["name"], "")  # fmt: skip
            if address.path in fake.objects:
                return 409, status_object(
                    409, f'{address.plural} "{address.name}" exists', "AlreadyExists"
                )
        if address.namespace and f"/api/v1/namespaces/{address.namespace}" not in fake.objects:
            return 404, status_object(
                404, f'namespaces "{address.namespace}" not found', "NotFound"
            )
        if "merge-patch" in self.headers.get("Content-Type", ""):
            if address.path not in fake.objects:
                return self._found(None, address)
            obj = _merged(fake.objects[address.path], obj)
        if address.namespace:
            obj["metadata"]["namespace"] = address.namespace
        fake.bodies[address.path] = body
        if dry_run:
            return 200, _merged(fake.objects.get(address.path, {}), obj)
        return 200, fake.apply(address, obj)

    def _get(self, address: Address, query: dict[str, str]) -> tuple[int, Any]:
        fake = self.server.fake
        if address.part == "log":
            return 200, self._log(address, query)
        if address.name:
            return self._found(fake.objects.get(address.path), address)
        kinds = fake.kinds[address.version]
        kind = next(name for name, (plural, _) in kinds.items() if plural == address.plural)
        items = [obj for path, obj in fake.objects.items() if is_in(address, path, obj)]
        if kind == "EndpointSlice":
            items += fake.endpoint_slices(address.namespace)
        for wanted in filter(None, query.get("labelSelector", "").split(",")):
            label, given, value = wanted.removeprefix("!").partition("=")
            told = [(obj, obj["metadata"].get("labels", {}).get(label)) for obj in items]
            there = not wanted.startswith("!")
            items = [
                obj for obj, is_ in told if (is_ == value if given else (is_ is not None) == there)
            ]
        version = str(fake.next_version())
        return 200, {
            "apiVersion": address.version,
            "kind": f"{kind}List",
            "metadata": {"resourceVersion": version},
            "items": items,
        }

    def _log(self, address: Address, query: dict[str, str]) -> str:
        fake = self.server.fake
        pod = fake.objects.get(Address("v1", address.namespace, "pods", address.name, "").path, {})
        of = pod.get("metadata", {}).get("labels", {}).get("fake/of", "")
        log = fake.logs.get(of, "")
        if "timestamps" not in query:
            return log
        # As if all of it had been said just now, but for lines that have a time of their own.
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        lines = log.splitlines()[-int(query["tailLines"]) :]
        return "\n".join(line if TIMED.match(line) else f"{now} {line}" for line in lines)

    def _found(self, obj: Object | None, address: Address) -> tuple[int, Any]:
        if obj is None:
            message = f'{address.plural} "{address.name}" not found'
            return 404, status_object(404, message, "NotFound")
        return 200, obj

    def _watch(self, path: str, version: int) -> None:
        fake, namespace = self.server.fake, path.split("/")[4]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not fake.ended:
            for number, kind, obj in fake.changes_after(version, namespace):
                version = number
                self._chunk({"type": kind, "object": obj})
                if kind == "ERROR":
                    self.wfile.write(b"0\r\n\r\n")
                    return
        self.close_connection = True

    def _watch_one(self, path: str, query: dict[str, str]) -> None:
        """Send an object as it is, and then each of its versions, for so long as was asked for."""
        fake, sent, end = self.server.fake, "", time.monotonic() + int(query["timeoutSeconds"])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with fake.changed:
            while not fake.ended and (left := end - time.monotonic()) > 0:
                obj = fake.objects.get(path)
                if obj and obj["metadata"]["resourceVersion"] != sent:
                    sent = obj["metadata"]["resourceVersion"]
                    self._chunk({"type": "MODIFIED", "object": obj})
                else:
                    fake.changed.wait(left)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, change: Object) -> None:
        data = json.dumps(change).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _discovery(kinds: dict[str, tuple[str, bool]]) -> Object:
    resources = [
        {"name": plural, "kind": kind, "namespaced": namespaced, "verbs": ["list", "delete"]}
        for kind, (plural, namespaced) in kinds.items()
    ]
    return {"kind": "APIResourceList", "resources": resources}


def _groups(kinds: dict[str, dict[str, tuple[str, bool]]]) -> Object:
    versions: dict[str, list[dict[str, str]]] = {}
    for version in kinds:
        if "/" in version:
            versions.setdefault(version.partition("/")[0], []).append({"groupVersion": version})
    groups = [
        {"name": name, "preferredVersion": found[0], "versions": found}
        for name, found in versions.items()
    ]
    return {"kind": "APIGroupList", "groups": groups}


def _merged(old: Any, new: Any) -> Any:
    """Return what server-side apply would make of it, as far as tests look."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return new


def _is_served(fake: FakeKubernetes, address: Address) -> bool:
    kinds = fake.kinds.get(address.version, {})
    return any(plural == address.plural for plural, _ in kinds.values())


def is_in(address: Address, path: str, obj: Object) -> bool:
    if address.namespace:
        return path.rpartition("/")[0] == address.collection
    where = obj["metadata"].get("namespace", "")
    return path == Address(address.version, where, address.plural, obj["metadata"]["name"], "").path


def status_object(code: int, message: str, reason: str) -> Object:
    return {"kind": "Status", "status": "Failure", "message": message, "reason": reason,
            "code": code}  # fmt: skip
