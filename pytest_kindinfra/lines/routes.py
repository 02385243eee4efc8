"""After pods were replaced: no request of a test may reach an old one.

A rollout is over once the new pods are ready. The old ones are ending then, for which they may take
30 s, and answer meanwhile whoever is led to them: kube-proxy hears of their end by EndpointSlices,
and changes its rules once a second at the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.steps.deploy import SERVICE_LABEL
from pytest_kindinfra.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.timeline import Deadline

_EVERY = 0.05
_BETWEEN_SYNCS = 1.1
"""A little more than kube-proxy's shortest time between two changes of its rules, a second
(kubernetes/kubernetes, pkg/proxy/apis/config/v1alpha1/defaults.go: MinSyncPeriod)."""


def pods_of(kube: Kube, service: str) -> dict[str, str]:
    """Return the pods of a service that are not ending: uid to namespace."""
    pods = kube.list_("/api/v1/pods", labelSelector=f"{SERVICE_LABEL}={service}")
    metas = [pod["metadata"] for pod in pods]
    return {one["uid"]: one["namespace"] for one in metas if not one.get("deletionTimestamp")}


def await_routes(kube: Kube, service: str, before: dict[str, str], deadline: Deadline) -> None:
    """Return when nobody is led any more to pods that were there before.

    Args:
        kube: The cluster.
        service: Whose pods, all of which are ready.
        before: What `pods_of` said before the objects were applied.
        deadline: When to go on in any case: there may be k8s services that want ending pods.
    """
    gone = before.keys() - pods_of(kube, service).keys()
    if not gone:
        return
    namespaces = {before[uid] for uid in gone}
    wait_until(
        lambda: not any(_leads_to(slices, gone) for slices in _slices(kube, namespaces)),
        deadline.within(_BETWEEN_SYNCS),
        every=_EVERY,
    )
    deadline.pause(_BETWEEN_SYNCS)


def _slices(kube: Kube, namespaces: Iterable[str]) -> Iterable[KubeObject]:
    for namespace in namespaces:
        yield from kube.list_(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")


def _leads_to(endpoint_slice: KubeObject, pods: Collection[str]) -> bool:
    return any(
        (one.get("targetRef") or {}).get("uid") in pods
        and (one.get("conditions") or {}).get("ready") is not False
        for one in endpoint_slice.get("endpoints") or ()
    )
