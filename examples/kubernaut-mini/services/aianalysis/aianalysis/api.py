"""The controller's own HTTP interfaces: the API and the probes."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from kubernaut_kit.web import Answer, Refusal, Request, Route
from kubernetes.client import ApiException

from aianalysis.model import Key

if TYPE_CHECKING:
    from aianalysis.cluster import KubernetesCluster


class Api:
    """Objects for those who do not speak with the API server themselves."""

    def __init__(self, cluster: KubernetesCluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def routes(self) -> list[Route]:
        """Return the routes of the API's port."""
        return [
            Route("POST", "/api/v1/analyses", self.create),
            Route("GET", "/api/v1/analyses/{namespace}/{name}", self.show),
        ]

    def probes(self) -> list[Route]:
        """Return the routes of the health port."""
        return [Route("GET", "/healthz", self.alive), Route("GET", "/readyz", self.ready)]

    def create(self, request: Request) -> Answer:
        """Make an object in the controller's namespace, whose spec is the request's body."""
        if not isinstance(request.body, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body must be an AIAnalysis' spec")
        try:
            key = self._cluster.create(self._namespace, request.body)
        except ApiException as error:
            raise _refusal(error) from error
        return Answer(key._asdict(), HTTPStatus.CREATED)

    def show(self, request: Request) -> Answer:
        """Return how far an object is."""
        key = Key(request.values["namespace"], request.values["name"])
        analysis = self._cluster.get(key)
        if analysis is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"no AIAnalysis {key.namespace}/{key.name}")
        return Answer({**key._asdict(), "phase": analysis.phase})

    def alive(self, _request: Request) -> Answer:
        """Say that the process answers."""
        return Answer("ok\n")

    def ready(self, _request: Request) -> Answer:
        """Say whether objects are being watched."""
        if not self._cluster.synced:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not synced with the API server yet")
        return Answer("ok\n")


def _refusal(error: ApiException) -> Refusal:
    """Return the API server's own words, which name every field that is wrong."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, TypeError, KeyError):
        message = str(error)
    return Refusal(HTTPStatus(error.status or HTTPStatus.BAD_GATEWAY), message)
