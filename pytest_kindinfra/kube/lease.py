"""Who deploys into a namespace of a shared cluster: one run at a time, by a Lease in it.

Two runs of one project would apply objects of the same names. Whether the holder lives is for the
caller to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.ours import RUN_LABEL

if TYPE_CHECKING:
    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject

NAME = "kindinfra"
LEASE: KubeObject = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": NAME},
}
"""The object's outline."""
_CONFLICT = 409
_HOST = "dev.kindinfra/host"
_FOLDER = "dev.kindinfra/run-directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A run that holds a namespace.

    Attributes:
        run_id: Its id, which is in the labels of its objects.
        host: The machine on which it runs.
        folder: Its run directory there.
    """

    run_id: str
    host: str
    folder: str


def take(reader: Reader, namespace: str, holder: Holder) -> Holder | None:
    """Take the namespace, or return who has it."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    try:
        reader.request("POST", path, body=_lease(holder))
    except ApiError as error:
        if error.status != _CONFLICT:
            raise
        found = reader.get(f"{path}/{NAME}")
        return _holder(found) if found else take(reader, namespace, holder)
    return None


def _lease(holder: Holder) -> dict[str, Any]:
    return {
        **LEASE,
        "metadata": {
            "name": NAME,
            "labels": {RUN_LABEL: holder.run_id},
            "annotations": {_HOST: holder.host, _FOLDER: holder.folder},
        },
        "spec": {"holderIdentity": holder.run_id},
    }


def _holder(lease: dict[str, Any]) -> Holder:
    meta = lease["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return Holder(
        run_id=labels.get(RUN_LABEL, ""),
        host=annotations.get(_HOST, ""),
        folder=annotations.get(_FOLDER, ""),
    )
