"""Leases and ConfigMaps of a namespace that several runs write, with optimistic locking."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.client import ApiError, ApiRequest, lines
from pytest_kindinfra.kube.election import HOLDER, ConflictError, Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject

_ANNOTATION = "dev.kindinfra/"
_LATE = 10.0
"""Seconds by which the server may be late with the end of a watch."""

_CHANGED = frozenset({HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND})


class _Objects:
    """Entries that are objects of one kind; those with other labels are not seen.

    Args:
        reader: Sends the requests.
        namespace: Where the objects are.
        labels: What each of them has.
    """

    _path: str

    def __init__(self, reader: Reader, namespace: str, labels: Mapping[str, str]) -> None:
        self._reader = reader
        self._folder = self._path.format(namespace=namespace)
        self._labels = dict(labels)

    def read(self, name: str) -> Entry | None:
        """See `Store.read`: without a resourceVersion, the server reads what was written last."""
        found = self._reader.get(f"{self._folder}/{name}")
        return self._entry(found) if found else None

    def read_all(self, prefix: str) -> list[Entry]:
        """See `Store.read_all`."""
        selector = ",".join(f"{key}={value}" for key, value in self._labels.items())
        found = self._reader.list_(self._folder, labelSelector=selector)
        return [self._entry(one) for one in found if one["metadata"]["name"].startswith(prefix)]

    def write(self, name: str, data: Mapping[str, str], *, version: str | None) -> Entry:
        """See `Store.write`."""
        body = self._object(name, data)
        if version is None:
            return self._send("POST", self._folder, body)
        body["metadata"]["resourceVersion"] = version
        return self._send("PUT", f"{self._folder}/{name}", body)

    def remove(self, entry: Entry) -> None:
        """See `Store.remove`."""
        body = {"preconditions": {"resourceVersion": entry.version}}
        try:
            self._reader.request("DELETE", f"{self._folder}/{entry.name}", body=body)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                raise ConflictError(str(error)) from error
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def await_change(self, name: str, *, version: str, seconds: int) -> None:
        """See `Store.await_change`: a watch from no version begins with the newest one."""
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": seconds,
        }
        request = ApiRequest("GET", self._folder, query=query, timeout=seconds + _LATE)
        with self._reader.transport.exchange(request) as response:
            for line in lines(response):
                if json.loads(line)["object"]["metadata"].get("resourceVersion") != version:
                    return

    def _send(self, method: str, path: str, body: KubeObject) -> Entry:
        try:
            return self._entry(self._reader.request(method, path, body=body))
        except ApiError as error:
            creates_elsewhere = method == "POST" and error.status == HTTPStatus.NOT_FOUND
            if error.status not in _CHANGED or creates_elsewhere:  # no such namespace
                raise
            raise ConflictError(str(error)) from error

    def _entry(self, obj: KubeObject) -> Entry:
        meta = obj["metadata"]
        return Entry(name=meta["name"], version=meta["resourceVersion"], data=self._data(obj))

    def _object(self, name: str, data: Mapping[str, str]) -> dict[str, Any]:
        raise NotImplementedError

    def _data(self, obj: KubeObject) -> Mapping[str, str]:
        raise NotImplementedError


class ConfigMaps(_Objects):
    """Entries as the data of ConfigMaps; one has room for 1 MiB."""

    _path = "/api/v1/namespaces/{namespace}/configmaps"

    def _object(self, name: str, data: Mapping[str, str]) -> dict[str, Any]:
        meta = {"name": name, "labels": self._labels}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}

    def _data(self, obj: KubeObject) -> Mapping[str, str]:
        return dict(obj.get("data") or {})


class Leases(_Objects):
    """Entries as Leases: the holder as kubectl shows it, everything else as annotations."""

    _path = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def _object(self, name: str, data: Mapping[str, str]) -> dict[str, Any]:
        rest = {f"{_ANNOTATION}{key}": text for key, text in data.items() if key != HOLDER}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": self._labels, "annotations": rest},
            "spec": {"holderIdentity": data[HOLDER]} if data.get(HOLDER) else {},
        }

    def _data(self, obj: KubeObject) -> Mapping[str, str]:
        notes = obj["metadata"].get("annotations") or {}
        rest = {
            key.removeprefix(_ANNOTATION): text
            for key, text in notes.items()
            if key.startswith(_ANNOTATION)
        }
        return {**rest, HOLDER: (obj.get("spec") or {}).get("holderIdentity") or ""}
