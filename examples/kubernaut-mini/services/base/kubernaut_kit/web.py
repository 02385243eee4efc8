"""A JSON server in a hundred lines: routes go in, answers come out.

The services do so little per request that a framework would weigh more than they do;
holmesgpt-api, which is the heavy one on purpose, has FastAPI instead.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a fault of the server
    """Raised by an endpoint to answer with an error status and the reasons."""

    def __init__(self, status: HTTPStatus, *problems: str) -> None:
        """Keep the status and every problem, so that the client sees all of them at once."""
        super().__init__("; ".join(problems))
        self.status = status
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an endpoint may know about a request."""

    values: Mapping[str, str] = field(default_factory=dict)
    """The named parts of the path, percent-encoding left as it came."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint says: text goes out as it is, everything else as JSON."""

    body: object
    status: HTTPStatus = HTTPStatus.OK

    def encoded(self) -> tuple[bytes, str]:
        """Return the bytes and their content type."""
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, for instance ``Route("GET", "/workflows/{workflow_id}", find)``."""

    method: str
    path: str
    endpoint: Callable[[Request], Answer]

    def match(self, path: str) -> Mapping[str, str] | None:
        """Return the named parts of *path*, or None if this route does not mean it."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


class JsonServer(ThreadingHTTPServer):
    """Serves routes on all addresses of the pod, each request in a daemon thread."""

    daemon_threads = True
    request_queue_size = 128  # socketserver's 5 is refused connections under a parallel test run

    def __init__(self, port: int, routes: Iterable[Route]) -> None:
        """Bind *port* at once, so that a taken port ends the process before it says it is ready."""
        self.routes = tuple(routes)
        super().__init__(("", port), _Conversation)

    def answer(self, method: str, path: str, query: Mapping[str, str], body: object) -> Answer:
        """Return what the route for *path* says, be it a refusal or an unforeseen error."""
        try:
            route, values = self._route(method, path)
            return route.endpoint(Request(values=values, query=query, body=body))
        except Refusal as refusal:
            return Answer({"problems": list(refusal.problems)}, refusal.status)
        except Exception:
            logger.exception("%s %s", method, path)
            return Answer(
                {"problems": ["internal error, see the log"]}, HTTPStatus.INTERNAL_SERVER_ERROR
            )

    def _route(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        matches = [
            (route, values) for route in self.routes if (values := route.match(path)) is not None
        ]
        for route, values in matches:
            if route.method == method:
                return route, values
        if matches:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} does not take {method}")
        raise Refusal(HTTPStatus.NOT_FOUND, f"nothing at {path}")


class _Conversation(BaseHTTPRequestHandler):
    """The thin layer between sockets and `JsonServer.answer`."""

    protocol_version = "HTTP/1.1"
    wbufsize = (
        -1
    )  # one segment per answer: headers and body apart meet Nagle and delayed ACKs, 40 ms each
    timeout = 60
    quiet: ClassVar = frozenset({"/health", "/healthz", "/readyz", "/metrics"})

    def do_GET(self) -> None:
        """Answer a GET."""
        self._converse()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._converse()

    def _converse(self) -> None:
        target = urlsplit(self.path)
        try:
            body = self._body()
        except ValueError as error:
            answer = Answer({"problems": [f"the body is no JSON: {error}"]}, HTTPStatus.BAD_REQUEST)
        else:
            query = dict(parse_qsl(target.query))
            answer = cast("JsonServer", self.server).answer(self.command, target.path, query, body)
        self._send(answer)

    def _body(self) -> object:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def _send(self, answer: Answer) -> None:
        content, content_type = answer.encoded()
        self.send_response(answer.status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log requests, but not the probes that come every second."""
        level = logging.DEBUG if urlsplit(self.path).path in self.quiet else logging.INFO
        logger.log(level, format, *args)
