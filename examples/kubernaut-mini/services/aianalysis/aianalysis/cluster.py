"""The only module that talks to the Kubernetes API."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, cast

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from aianalysis.model import GROUP, KIND, PLURAL, VERSION, Analysis, Key, key_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

_PAUSE = 1.0
_WATCH_SECONDS = 300
_TIMEOUTS = (3, 10)
"""Seconds to connect, and to wait for an answer."""


class KubernetesCluster:
    """AIAnalysis objects of all namespaces, by the pod's service account."""

    def __init__(self) -> None:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
        self._api = client.CustomObjectsApi()
        self.synced = False
        """Whether the objects were listed once: before that the controller is not ready."""

    def get(self, key: Key) -> Analysis | None:
        """Return the object as it is now, or None if it is gone."""
        try:
            item = self._api.get_namespaced_custom_object(
                GROUP, VERSION, key.namespace, PLURAL, key.name, _request_timeout=_TIMEOUTS
            )
        except client.ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return Analysis.parse(_tree(item))

    def create(self, namespace: str, spec: Mapping[str, Any]) -> Key:
        """Make an object with a name of the API server's choice."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"generateName": "analysis-"},
            "spec": spec,
        }
        created = self._api.create_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, body, _request_timeout=_TIMEOUTS
        )
        return key_of(_tree(created))

    def set_status(self, key: Key, status: Mapping[str, Any]) -> None:
        """Merge *status* into the object's; one that is gone is no error."""
        try:
            self._api.patch_namespaced_custom_object_status(
                GROUP,
                VERSION,
                key.namespace,
                PLURAL,
                key.name,
                {"status": status},
                _request_timeout=_TIMEOUTS,
            )
        except client.ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def follow(self, on_change: Callable[[Key], None], log: logging.Logger) -> NoReturn:
        """Report every object that exists, is made or changes, forever."""
        while True:
            try:
                for key in self._changes():
                    on_change(key)
            except (client.ApiException, HTTPError, OSError) as error:
                log.warning("the watch ended: %s", error)
                time.sleep(_PAUSE)

    def _changes(self) -> Iterator[Key]:
        """List, then watch from there until the API server ends the watch."""
        listed = _tree(
            self._api.list_cluster_custom_object(GROUP, VERSION, PLURAL, _request_timeout=_TIMEOUTS)
        )
        yield from map(key_of, listed["items"])
        self.synced = True
        watcher = watch.Watch()  # type: ignore[no-untyped-call]
        for event in watcher.stream(  # type: ignore[no-untyped-call]
            self._api.list_cluster_custom_object,
            GROUP,
            VERSION,
            PLURAL,
            resource_version=listed["metadata"]["resourceVersion"],
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=(_TIMEOUTS[0], _WATCH_SECONDS + 10),
        ):
            yield key_of(event["object"])


def _tree(answer: object) -> Mapping[str, Any]:
    """Return *answer* as what it is: the client's types say nothing about custom objects."""
    return cast("Mapping[str, Any]", answer)
