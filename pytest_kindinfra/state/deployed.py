"""The record of a deployed service, made of what its deployment came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.kube.objects import is_hook
from pytest_kindinfra.state.records import DeployedService

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import Image, ImagesInUse, KubeObject, Service
    from pytest_kindinfra.state.records import Probe


def deployed_of(
    service: Service,
    applied: Iterable[KubeObject],
    probes: tuple[Probe, ...],
    *,
    namespace: str,
    timeout: float,
    content: str,
    images: ImagesInUse,
    declared: Iterable[Image],
) -> DeployedService:
    """Return the record of a service.

    Args:
        service: The service, which is ready.
        applied: Its objects as they were applied.
        probes: Its endpoints, which have answered.
        namespace: Where objects are that name none.
        timeout: Seconds until it must be ready.
        content: The hash of its objects.
        images: What it runs.
        declared: All images of the plan.
    """
    return DeployedService(
        service=service.name,
        namespace=namespace,
        objects=tuple(_outline(obj) for obj in applied if not is_hook(obj)),
        probes=probes,
        restarts=service.restarts,
        patience=service.patience,
        timeout=timeout,
        ready=service.ready,
        run=service.run or "",
        needs=tuple(need.name for need in service.needs),
        references=dict(images.declared),
        names={one.name: one.names for one in declared if one.name in images.declared},
        written={
            written: runs
            for written, runs in images.written.items()
            if runs not in images.declared.values()
        },
        loaded=tuple(sorted(images.loaded)),
        images_at=service.images_at,
        content=content,
    )


def _outline(obj: KubeObject) -> KubeObject:
    meta = obj["metadata"]
    keys = {key: meta[key] for key in ("name", "namespace") if meta.get(key)}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": keys}
