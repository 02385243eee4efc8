"""Requests to an API server; the only user of the `kubernetes` package."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.system.timeline import Deadline, retry, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject

    Query = Mapping[str, Any] | Sequence[tuple[str, str]]


_CONNECT_TIMEOUT = 5.0


_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "PATCH"})
"""PATCH is here because the only one that we send is server-side apply."""


PAUSES = (0.05, 0.2, 0.5)
"""Seconds before each further attempt when the connection failed."""


AWAY = 30.0
"""Seconds for which tests wait for an API server that does not answer, such as a restarted one."""


_AWAY_PAUSE = 0.5


_STARTING = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
"""What an API server answers that was started again and has not read the roles yet; and 5xx."""


class ApiError(KindInfraError):
    """The API server answered with a status of 400 or more.

    Attributes:
        status: The HTTP status.
        reason: Kubernetes' word for it, such as `NotFound`.
        message: The server's sentence.
        details: What the server says about the object concerned: `kind`, `name`, `causes`.
    """

    def __init__(
        self,
        *,
        status: int,
        reason: str,
        message: str,
        what: str,
        fix: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, Any] = details or {}
        way_out = f"\nTo fix: {fix}" if fix else ""
        super().__init__(f"{what}: {message} ({status} {reason}){way_out}")

    def about(self, what: str, *, fix: str = "") -> ApiError:
        """Return the same answer with other words for what was tried, and what to do about it."""
        return ApiError(
            status=self.status,
            reason=self.reason,
            message=self.message,
            what=what,
            fix=fix,
            details=self.details,
        )


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What is asked of the server.

    Attributes:
        method: The HTTP verb.
        path: From the first slash.
        body: To be sent as JSON; None sends no body.
        query: Appended to the path.
        content_type: Of the body.
        timeout: The longest silence while the answer is awaited or read, in seconds.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    timeout: float = 30.0


class Transport:
    """Connections to one API server; safe from several threads.

    Args:
        kubeconfig: Of the cluster.
        patience: Seconds for which a request is repeated while the server does not answer. 0 is
            for work that is repeated elsewhere, or must end soon.
    """

    def __init__(self, kubeconfig: Path, *, patience: float = 0.0) -> None:
        self.kubeconfig = kubeconfig
        self._patience = patience
        self._lock = threading.Lock()
        self._client: Any = None

    def client(self) -> Any:
        """Return the `kubernetes.client.ApiClient`, made at the first call."""
        with self._lock:
            if self._client is None:
                self._client = _make_client(self.kubeconfig)
            return self._client

    def close(self) -> None:
        """Close the idle connections; a later request opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.rest_client.pool_manager.clear()
            client.close()

    def send(self, request: ApiRequest, *, attempts: int = len(PAUSES) + 1) -> bytes:
        """Send the request and return the body of its answer.

        Raises:
            ApiError: The answer has a status of 400 or more.
            ClusterError: There was no answer, after `attempts` where the verb is idempotent.
        """
        tries = attempts if request.method in _IDEMPOTENT else 1
        if tries > 1 and self._patience:
            return self._send_patiently(request)
        pauses = iter(PAUSES)
        return retry(
            lambda: self._answer(request),
            tries=tries,
            on=ClusterError,
            between=lambda _: sleep(next(pauses)),
        )

    def _send_patiently(self, request: ApiRequest) -> bytes:
        """Repeat the request while the server is away, and while it starts after that."""
        deadline, away = Deadline.after(self._patience), False
        pauses = chain(PAUSES, repeat(_AWAY_PAUSE))
        while True:
            last = deadline.passed
            try:
                return self._answer(request)
            except ApiError as error:
                if last or not away or not is_starting(error):
                    raise
            except ClusterError as error:
                if last:
                    msg = f"{error} (tried for {self._patience:g} s)"
                    raise ClusterError(msg) from error
                away = True
            deadline.pause(next(pauses))

    def _answer(self, request: ApiRequest) -> bytes:
        with self.exchange(request) as response:
            return bytes(response.data)

    def websocket(self, path: str, query: Query, *, protocol: str) -> Any:
        """Open a websocket at a path and return it; the caller closes it.

        Args:
            path: From the first slash.
            query: Appended to the path; pairs may repeat a key.
            protocol: Kubernetes' name for what is spoken; several, the best first.

        Raises:
            ClusterError: The server does not answer, or refuses.
        """
        from kubernetes.stream import ws_client

        calls: Any = ws_client
        client = self.client()
        headers = {name.lower(): value for name, value in _headers(client, "").items()}
        headers["sec-websocket-protocol"] = protocol
        url = calls.get_websocket_url(f"{client.configuration.host}{path}{_query_string(query)}")
        try:
            return calls.create_websocket(client.configuration, url, headers)
        except Exception as error:
            # Those of websocket-client have no common root with a name that all releases have.
            msg = f"no websocket to {path}: {error}"
            raise ClusterError(msg) from error

    @contextmanager
    def exchange(self, request: ApiRequest) -> Iterator[Any]:
        """Send the request once and give its answer, not read yet: for `lines`.

        Raises:
            ApiError: The answer has a status of 400 or more.
            ClusterError: There was no answer, or it broke off while it was read.
        """
        import urllib3

        what = f"{request.method} {request.path}"
        try:
            response = self._open(request)
            try:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise error_from(response.status, bytes(response.data), what)
                yield response
            finally:
                _release(response)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            msg = f"no answer from the API server to {what}: {error}"
            raise ClusterError(msg) from error

    def _open(self, request: ApiRequest) -> Any:
        import urllib3

        client = self.client()
        return client.rest_client.pool_manager.request(
            request.method,
            f"{client.configuration.host}{request.path}{_query_string(request.query)}",
            body=None if request.body is None else encode(request.body),
            headers=_headers(client, request.content_type),
            timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=request.timeout),
            retries=False,
            preload_content=False,
        )


def is_starting(error: ApiError) -> bool:
    """Whether an API server that was away may answer so until it has read the roles."""
    return error.status in _STARTING or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


@cache
def _keep_files_from_forks() -> None:
    """Have forked processes leave the client's files of certificates to their parent.

    The client removes them when any process ends that has it loaded.
    """
    from kubernetes.config import kube_config

    files = getattr(kube_config, "_temp_files", None)
    if isinstance(files, dict):  # a later version may keep them otherwise
        os.register_at_fork(after_in_child=files.clear)


def load_client() -> None:
    """Import the official client, which takes about a second, before it is needed."""
    from kubernetes import client, config  # noqa: F401


def _make_client(kubeconfig: Path) -> Any:
    from kubernetes import client, config

    _keep_files_from_forks()

    configuration = client.Configuration()
    load: Any = config.load_kube_config
    try:
        load(config_file=str(kubeconfig), client_configuration=configuration)
    except config.ConfigException as error:  # such as a missing file of a certificate
        msg = f"{kubeconfig}: {error}"
        raise ClusterError(msg) from error
    configuration.connection_pool_maxsize = 32
    if _is_here(urlsplit(configuration.host).hostname or ""):
        # HTTPS_PROXY in the environment would be asked for this machine's own port.
        configuration.proxy = None
    return client.ApiClient(configuration)


def _is_here(host: str) -> bool:
    """Whether a host is this machine: by name, or any of its own addresses of either family."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _headers(client: Any, content_type: str) -> dict[str, str]:
    # auth_settings() renews a token if necessary, and looks alike in all releases of the
    # client, while call_api() does not.
    headers = {"Accept": "application/json", "Content-Type": content_type}
    settings = client.configuration.auth_settings().values()
    return headers | {entry["key"]: entry["value"] for entry in settings if entry["in"] == "header"}


def _query_string(query: Query | None) -> str:
    return f"?{urlencode(query)}" if query else ""


def _release(response: Any) -> None:
    # A connection whose answer was not read to its end cannot be used again.
    if response.isclosed():
        response.release_conn()
    else:
        response.close()


def encode(body: Any) -> bytes:
    r"""Return `body` as JSON that is YAML as well, as server-side apply wants it.

    YAML reads no surrogate pairs (`\ud83d\ude00`) and takes U+2028 for a line's end.
    """
    text = json.dumps(body, ensure_ascii=False, default=str)
    return re.sub(r"[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def error_from(status: int, body: bytes, what: str) -> ApiError:
    """Make an error of an answer: Kubernetes' `Status`, or plain text."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
        message, reason = answer.get("message") or text, answer.get("reason") or ""
        details = answer.get("details")
    except (ValueError, AttributeError):
        message, reason, details = text, "", None
    return ApiError(
        status=status,
        reason=reason or "Error",
        message=message,
        what=what,
        details=details if isinstance(details, dict) else None,
    )


def lines(response: Any) -> Iterator[bytes]:
    """Yield each line of an answer as soon as it is there."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)


def hang_up(response: Any) -> None:
    """End a read of `response` that blocks in another thread."""
    sock = getattr(getattr(response, "connection", None), "sock", None)
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            # Not sock.shutdown(): that of a TLS socket takes the reader's state away.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def fetch(transport: Transport, path: str) -> KubeObject | None:
    """Return the object at a path, or None if there is none."""
    try:
        obj: KubeObject = json.loads(transport.send(ApiRequest("GET", path)))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return obj


def delete_if(transport: Transport, path: str, condition: Callable[[KubeObject], bool]) -> str:
    """Ask for the end of the object at a path, and of what it made, if `wanted` says so of it.

    Only the very object that `wanted` saw is deleted: if it was changed or replaced meanwhile,
    the server refuses, and `wanted` is asked about the new one.

    Returns:
        The uid of the object that is being deleted, empty if there is none or it is not wanted.

    Raises:
        ApiError: The server refused it, or the object changed each time.
    """
    pauses = (*PAUSES, *PAUSES)
    left = iter(pauses)

    def look_and_delete() -> str:
        obj = fetch(transport, path)
        if obj is None or not condition(obj):
            return ""
        _delete_as_seen(transport, path, obj)
        return str(obj["metadata"]["uid"])

    def pause(error: ApiError) -> None:
        if error.status != HTTPStatus.CONFLICT:
            raise error
        sleep(next(left))

    return retry(look_and_delete, tries=len(pauses) + 1, on=ApiError, between=pause)


def _delete_as_seen(transport: Transport, path: str, obj: KubeObject) -> None:
    meta = obj["metadata"]
    if "deletionTimestamp" in meta:  # a namespace answers a second request with a conflict
        return
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
    }
    try:
        transport.send(ApiRequest("DELETE", path, options))
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
