"""`kindinfra logs`: the last lines of the pods' logs on the cluster that runs with reuse share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.commands.place import kubeconfig_of, look
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube import Kube
from pytest_kindinfra.ledger import services_in
from pytest_kindinfra.steps.deploy import SERVICE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.commands.place import Place
    from pytest_kindinfra.model import KubeObject


def logs(service: str | None, *, cluster: str | None, lines: int) -> Iterator[str]:
    """Yield each container's last lines, after a line that names it.

    Args:
        service: Whose pods; None means those of all services.
        cluster: kind's name for the cluster if not what the options say.
        lines: How many of each container.

    Raises:
        KindInfraError: There is no cluster, or it has no such service.
    """
    place = look(cluster)
    kube = Kube(kubeconfig_of(place))
    try:
        _refuse_unknown(place, service)
        label = f"{SERVICE_LABEL}={service}" if service else SERVICE_LABEL
        for pod in kube.list_("/api/v1/pods", labelSelector=label):
            for line in _of_pod(kube, pod, lines):
                yield place.tools.redactor.text(line)
    finally:
        kube.close()


def _refuse_unknown(place: Place, service: str | None) -> None:
    known = services_in(place.home) if place.home else []
    if service and service not in known:
        msg = f'cluster "{place.name}" has no service "{service}"; it has: {", ".join(known)}'
        raise KindInfraError(msg)


def _of_pod(kube: Kube, pod: KubeObject, lines: int) -> Iterator[str]:
    meta, spec = pod["metadata"], pod["spec"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        where = f"{meta['labels'][SERVICE_LABEL]}: {meta['namespace']}/{meta['name']}"
        yield f"==> {where} {container['name']} <=="
        try:
            text = kube.pod_logs(meta["namespace"], meta["name"], container["name"], lines=lines)
        except KindInfraError as error:
            text = f"({error})"
        yield from text.splitlines()
