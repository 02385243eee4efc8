"""How the tests and the seed speak to the services: HTTP, raw TCP, and patience."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra import Endpoint

T = TypeVar("T")

_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


def get(url: str, **query: str) -> Answer:
    """Send a GET."""
    return _answer(Request(f"{url}?{urlencode(query)}" if query else url))  # noqa: S310


def post(url: str, body: object) -> Answer:
    """Send *body* as JSON."""
    headers = {"Content-Type": "application/json"}
    return _answer(Request(url, json.dumps(body).encode(), headers, method="POST"))  # noqa: S310


def _answer(request: Request) -> Answer:
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - an endpoint of ours
            return Answer(answer.status, answer.read().decode())
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def exchange(endpoint: Endpoint, sent: bytes, *, size: int) -> bytes:
    """Send bytes over TCP and return the first *size* that come back."""
    with socket.create_connection((endpoint.host, endpoint.port), timeout=_SECONDS) as connection:
        connection.sendall(sent)
        received = b""
        while len(received) < size and (part := connection.recv(size - len(received))):
            received += part
        return received


def eventually(look: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Look until it is enough, and return that; what was last seen if time runs out.

    The caller asserts on what it gets, so that a failure shows the difference.
    """
    deadline = time.monotonic() + _SECONDS
    while True:
        seen = look()
        if enough(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)
