"""Images of older content in the kind nodes of a cluster that outlives runs: removed by name.

kind has the kubelet collect no garbage, so each edit would leave an image there for as long as the
cluster stands. What a pod of the cluster still uses stays.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.podspecs import image_references
from pytest_kindinfra.references import normalise, split

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import Cluster


def drop_old_images(context: Context, cluster: Cluster, kube: Kube) -> None:
    """Remove what this run replaced; that it was not possible is nothing to tell of."""
    loaded = {one.subject for one in context.tools.timeline.phases if one.kind == "load" and one.ok}
    records = context.run.read_all("image-")
    current = {name: records[name]["reference"] for name in loaded if name in records}
    if cluster.home is None or not current:
        return
    with suppress(KindInfraError):
        pods = kube.list_("/api/v1/pods")
        used = {normalise(ref) for pod in pods for ref in image_references(pod)}
        for node in cluster.nodes:
            _drop(context, node, current, used)


def _drop(context: Context, node: str, current: Mapping[str, str], used: Collection[str]) -> None:
    provider, deadline = context.tools.provider, context.deadline()
    keep = {*used, *map(normalise, current.values())}
    ours = {f"localhost/{name}" for name in current}
    there = provider.images_in(node, deadline)
    old = sorted(ref for ref in there if split(ref)[0] in ours and ref not in keep)
    if old:
        provider.forget_images(node, old, deadline)
