"""Which pods get requests: for a while also pods that are ending."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.names import service_selector
from pytest_kindinfra.system.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline


_EVERY = 0.05


_BETWEEN_SYNCS = 1.1
"""A little more than kube-proxy's shortest time between two changes of its rules, a second, where
its configuration does not set another (kubernetes/kubernetes,
pkg/proxy/apis/config/v1alpha1/defaults.go: MinSyncPeriod)."""


_MARGIN = 0.1


_SHORTEST_WAIT = 0.35
"""Seconds in which kube-proxy hears of a change and writes its rules, also on a busy machine."""


_PROXY = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def between_syncs(reader: Reader) -> float:
    """Return the seconds after which kube-proxy has followed a change, by its configuration.

    A configuration that cannot be read or understood counts as the usual one.
    """
    period = _shortest_period(reader)
    return max(_SHORTEST_WAIT, period + _MARGIN) if period else _BETWEEN_SYNCS


def _shortest_period(reader: Reader) -> float:
    """Return `minSyncPeriod` in seconds; 0 if the configuration leaves it to kube-proxy."""
    try:
        data = (reader.get(_PROXY) or {}).get("data") or {}
        config = next(iter(load_documents(data.get("config.conf") or "")), None) or {}
        table = config.get(config.get("mode") or "iptables") or {}
        match = _DURATION.fullmatch(str(table.get("minSyncPeriod")))
    except (ApiError, ClusterError, ValueError, AttributeError):
        return 0.0
    return float(match[1]) * _UNITS[match[2]] if match else 0.0


def live_pods(
    reader: Reader, service: str, *, namespaces: Iterable[str] | None = None
) -> list[KubeObject]:
    """Return the pods of a service that are not ending.

    Args:
        reader: The cluster.
        service: The service's name.
        namespaces: Where to look; None looks in the whole cluster.
    """
    paths = pods_paths(namespaces)
    labels = service_selector(service)
    found = [pod for path in paths for pod in reader.list_(path, labelSelector=labels)]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def pods_paths(namespaces: Iterable[str] | None) -> list[str]:
    """Return where pods are listed: in some namespaces, or with None in the whole cluster."""
    if namespaces is None:
        return ["/api/v1/pods"]
    return [f"/api/v1/namespaces/{name}/pods" for name in namespaces]


def pods_of(
    reader: Reader, service: str, *, namespaces: Iterable[str] | None = None
) -> dict[str, str]:
    """Return the pods of a service that are not ending: uid to namespace."""
    metas = [pod["metadata"] for pod in live_pods(reader, service, namespaces=namespaces)]
    return {one["uid"]: one["namespace"] for one in metas}


def await_routes(
    reader: Reader,
    service: str,
    before: dict[str, str],
    deadline: Deadline,
    *,
    namespaces: Iterable[str] | None = None,
) -> None:
    """Return once no k8s service routes to pods that were replaced.

    Args:
        reader: The cluster.
        service: Whose pods, all of which are ready.
        before: What `pods_of` said before the change.
        deadline: When to go on in any case: there may be k8s services that want ending pods.
        namespaces: Where its pods are; None looks in the whole cluster.
    """
    gone = before.keys() - pods_of(reader, service, namespaces=namespaces).keys()
    if not gone:
        return
    places = {before[uid] for uid in gone}
    wait_until(
        lambda: not any(_leads_to(one, gone) for one in _slices(reader, places)),
        deadline.within(_BETWEEN_SYNCS),
        every=_EVERY,
    )
    deadline.pause(between_syncs(reader))


def _slices(reader: Reader, namespaces: Iterable[str]) -> Iterator[KubeObject]:
    for namespace in namespaces:
        yield from reader.list_(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")


def _leads_to(endpoint_slice: KubeObject, pods: Collection[str]) -> bool:
    return any(
        (one.get("targetRef") or {}).get("uid") in pods
        and (one.get("conditions") or {}).get("ready") is not False
        for one in endpoint_slice.get("endpoints") or ()
    )
