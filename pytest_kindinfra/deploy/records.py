"""What helm has recorded of a release in the cluster: whose it is, how far it got, from what.

A fresh cluster has no records. In one that is reused or shared they say whether helm may go on,
and whether there is anything for it to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.model import CONTENT_LABEL

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, Release


_CUT_SHORT = {"pending-install", "pending-upgrade", "pending-rollback"}


_LABELS_SINCE = (3, 13)


class Records:
    """The records of one release, as they were when this was made."""

    def __init__(self, kube: Kube, release: Release) -> None:
        self._kube = kube
        self._release = release
        self._records = _records_of(kube, release.name, release.namespace)

    def refuse_foreign(self) -> None:
        """Raise KindInfraError if there is a release of that name which is not ours."""
        kube, release = self._kube, self._release
        if any(not kube.is_owned(one) for one in self._records):
            msg = (
                f'release "{release.name}" exists in namespace "{release.namespace}" and does '
                "not belong to this run, so it is not changed\n"
                "To fix: give it another name (helm.release) or use another [cluster] namespace"
            )
            raise KindInfraError(msg)

    def clear_cut_short(self) -> None:
        """Remove the record of an installation that was cut short: helm refuses to go on from it.

        What it had installed before stays recorded.
        """
        for record in self._records:
            if _label(record, "status") in _CUT_SHORT:
                self._kube.delete_if(_path_of(record), self._is_cut_short)

    def _is_cut_short(self, record: KubeObject) -> bool:
        return _label(record, "status") in _CUT_SHORT and self._kube.is_owned(record)

    def is_deployed(self, content: str) -> bool:
        """Whether the newest record is of a whole installation made from just that."""
        newest = self._records[-1:]
        return any(
            _label(one, "status") == "deployed" and _label(one, CONTENT_LABEL) == content
            for one in newest
        )

    def labels(self, content: str) -> dict[str, str]:
        """Return the labels for the record of an installation; older versions of helm give none."""
        labels = self._kube.labels if isinstance(self._kube, SharedKube) else {}
        version = tuple(int(part) for part in self._release.version.split(".")[:2])
        return {**labels, CONTENT_LABEL: content} if version >= _LABELS_SINCE else {**labels}


def forget_release(kube: Kube, name: str, namespace: str) -> None:
    """Delete the records of a release whose objects are gone."""
    for record in _records_of(kube, name, namespace):
        uid = record["metadata"]["uid"]
        kube.delete_if(
            _path_of(record),
            lambda now, uid=uid: now["metadata"]["uid"] == uid and kube.is_owned(now),  # type: ignore[misc]
        )


def _records_of(kube: Kube, name: str, namespace: str) -> list[KubeObject]:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    return sorted(kube.list_(path, labelSelector=f"owner=helm,name={name}"), key=_version)


def _path_of(record: KubeObject) -> str:
    meta = record["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/secrets/{meta['name']}"


def _version(record: KubeObject) -> int:
    text = _label(record, "version")
    return int(text) if text.isdigit() else 0


def _label(record: KubeObject, name: str) -> str:
    return str((record["metadata"].get("labels") or {}).get(name, ""))
