"""A JSON client for calls between services."""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen


class CallError(Exception):
    """A call got no answer, or one that is no success."""

    def __init__(self, method: str, url: str, reason: str, *, status: int | None = None) -> None:
        """Say which call failed and why; *status* is None if there was no answer at all."""
        super().__init__(f"{method} {url}: {status or 'no answer'}: {reason}")
        self.status = status


def call(method: str, url: str, body: object = None, *, timeout: float = 5.0) -> object:
    """Send *body* as JSON and return the JSON that comes back."""
    content = None if body is None else json.dumps(body).encode()
    request = Request(url, content, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - from settings
    try:
        with urlopen(request, timeout=timeout) as answer:  # noqa: S310 - the same
            return json.loads(answer.read())
    except HTTPError as error:
        with error:
            reason = error.read().decode(errors="replace") or error.reason
        raise CallError(method, url, reason, status=error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise CallError(method, url, str(error) or type(error).__name__) from error
