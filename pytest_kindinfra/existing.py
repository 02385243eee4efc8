"""Find out about an existing cluster before anything is built: which it is, how images get there.

It must not know pytest.
"""

from __future__ import annotations

import os
import re
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.kubeconfigs import only_current
from pytest_kindinfra.kubeyaml import load_documents
from pytest_kindinfra.request import ExistingCluster
from pytest_kindinfra.textfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.model import Plan
    from pytest_kindinfra.settings import Settings
    from pytest_kindinfra.timeline import Deadline

_NODE_OF_KIND = re.compile(r"(.+)-(?:control-plane|worker)\d*")
_FORBIDDEN = 403
_MAKING = ("cluster_name", "node_image", "kind_config")


def find_existing(file: Path, provider: Provider, deadline: Deadline) -> ExistingCluster:
    """Return the cluster of a kubeconfig, which must answer.

    Args:
        file: The user's kubeconfig.
        provider: Who knows the kind clusters of this host.
        deadline: When to give up.

    Raises:
        KindInfraError: The file is no good, or the cluster does not answer.
    """
    path = Path(os.path.abspath(file.expanduser()))  # noqa: PTH100 - a link may be changed meanwhile
    context = str(only_current(read_kubeconfig(path), path.parent)["current-context"])
    nodes = _nodes(path)
    if nodes and (name := _name_here(nodes, provider, deadline)):
        return ExistingCluster(kubeconfig=path, name=name, nodes=tuple(nodes))
    return ExistingCluster(kubeconfig=path, name=context)


def read_kubeconfig(path: Path) -> Any:
    """Return what a kubeconfig says.

    Raises:
        ClusterError: It cannot be read.
    """
    try:
        return next(iter(load_documents(read_text(path))), None)
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise ClusterError(msg) from error
    except ValueError as error:  # no UTF-8, or no YAML
        msg = f"it cannot be read: {error}"
        raise ClusterError(msg) from error


def _nodes(kubeconfig: Path) -> dict[str, str]:
    """Return the names of the cluster's nodes with their machines' ids; none if we may not ask."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what the client imports; tests may have made them errors
        from pytest_kindinfra.kube import ApiError, Kube

        with closing(Kube(kubeconfig)) as kube:
            try:
                found = kube.list_("/api/v1/nodes")
            except ApiError as error:
                if error.status != _FORBIDDEN:
                    raise
                return {}
    return {
        node["metadata"]["name"]: (node.get("status", {}).get("nodeInfo") or {}).get(
            "machineID", ""
        )
        for node in found
    }


def _name_here(nodes: dict[str, str], provider: Provider, deadline: Deadline) -> str:
    """Return what kind calls the cluster of these nodes, nothing if they are not of this host.

    They are if there are kind nodes of these names, and each says of itself what its kubelet told
    the cluster: kind clusters of the same name are on every second laptop.
    """
    match = _NODE_OF_KIND.fullmatch(next(iter(nodes)))
    try:
        provider.check(deadline)
        if not match or not provider.exists(match[1], deadline):
            return ""
        same = set(provider.nodes(match[1], deadline)) == set(nodes) and all(
            provider.machine_id(node, deadline) == machine for node, machine in nodes.items()
        )
    except KindInfraError:
        return ""  # no kind, or no engine, here
    return match[1] if same else ""


def problems_of_options(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each option that only a cluster of ours can heed.

    Those that say how to make one may stand in the file or the environment for other runs.
    """
    for key in _MAKING:
        if settings.kubeconfig and settings.sources.get(key, "").startswith("--"):
            yield (
                f"{settings.sources[key]} is for a cluster that is made, but "
                f"{settings.sources['kubeconfig']} names one that is there: leave one of them out"
            )
    if settings.kubeconfig and settings.reuse:
        yield (
            f"{settings.sources['reuse']} leaves services for the next run, but from the cluster "
            f"of {settings.sources['kubeconfig']} what is ours is deleted: leave one of them out"
        )


def problems_of_images(plan: Plan, existing: ExistingCluster) -> Iterator[str]:
    """Yield a sentence for each image that cannot get into the cluster."""
    if existing.nodes:
        return
    for image in plan.images:
        if image.prebuilt is None:
            yield (
                f'[images.{image.name}] cannot be brought into "{existing.name}", which is no '
                "kind cluster of this host\n  To fix: push it to a registry that the cluster pulls "
                f'from and say [images.{image.name}] prebuilt = "REGISTRY/{image.name}:TAG"'
            )
