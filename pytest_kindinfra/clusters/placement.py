"""What stays in an existing cluster between runs: whose it is, and in which namespace.

The reused directory of an existing cluster holds the id of the first run with reuse there. It is in
the labels of all objects of such runs, so that each of them knows the objects of those before it.
"""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kindinfra.clusters.existing import own_config
from pytest_kindinfra.clusters.kubeconfigs import all_files, option_words, read_context
from pytest_kindinfra.errors import ClusterError, KindInfraError, StateError
from pytest_kindinfra.model import ClusterSpec
from pytest_kindinfra.state.clusterrecords import ClusterNamed, DeployedTo
from pytest_kindinfra.state.reused import is_kept, reused_directory
from pytest_kindinfra.system.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kindinfra.context import ExistingCluster, Request
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.state.directory import RunDirectory


_DIGITS = 12


def directory_of(config: Mapping[str, Any], artifacts: Path) -> RunDirectory:
    """Return the reused directory of an existing cluster, one for each API server.

    Args:
        config: What `read_context` returned.
        artifacts: The artifacts folder.
    """
    server = str(config["clusters"][0]["cluster"].get("server"))
    host = re.sub(r"[^a-z0-9.-]+", "-", urlsplit(server).hostname or "")
    digits = sha256(server.encode()).hexdigest()[:_DIGITS]
    return reused_directory(artifacts, f"existing-{host}-{digits}")


def own_namespace(settings: Settings, folder: Path, run_id: str) -> str:
    """Return the namespace of a run for which `[cluster]` asks for one of its own.

    A reused cluster is that of one folder, whose runs deploy to one place: in an existing cluster
    to the namespace of the first of them.

    Args:
        settings: The options.
        folder: The rootdir.
        run_id: The run's.
    """
    if settings.reuse and settings.kubeconfig is None:
        return ClusterSpec().namespace
    first = _kept_run(settings, folder) if settings.reuse else None
    return f"kindinfra-{(first or run_id).lower().replace('_', '-')}"


def _kept_run(settings: Settings, folder: Path) -> str | None:
    """Return the id of what runs with reuse have put into the existing cluster of the options.

    None before the first such run, and if the kubeconfig or the record cannot be read, which is
    reported elsewhere.
    """
    if settings.kubeconfig is None:
        return None
    with suppress(KindInfraError):
        config = read_context(all_files(settings.kubeconfig, folder), settings.context)
        record = directory_of(config, folder / settings.artifacts).read(DeployedTo)
        return record.run_id if record else None
    return None


def placed(request: Request, existing: ExistingCluster, settings: Settings) -> Request:
    """Return a request for an existing cluster, in which its objects may stay.

    Args:
        request: What the options ask for.
        existing: The cluster.
        settings: The options.

    Raises:
        ClusterError: The services of earlier runs are in another namespace; or as `read_context`.
        StateError: The record of it cannot be read.
    """
    request = replace(request, existing=existing, cluster=existing.name, kind_config=None)
    if request.reuse is None:
        return request
    directory = directory_of(own_config(existing), request.folder / settings.artifacts)
    record = directory.read(DeployedTo)
    if record and is_kept(directory) and record.namespace != request.namespace:
        down = shlex.join(["kindinfra", "down", *option_words(settings)])
        msg = (
            f'the services of earlier runs are in namespace "{record.namespace}", but [cluster] '
            f'namespace is "{request.namespace}" now\nTo fix: {down}'
        )
        raise ClusterError(msg)
    first = record.run_id if record else request.run_id
    return replace(
        request,
        existing=replace(existing, run_id=first),
        reuse=replace(request.reuse, reused_dir=directory.path),
    )


def enter(directory: RunDirectory, request: Request, kubeconfig: str) -> DeployedTo:
    """Note in the reused directory, which is locked, where the run puts its objects.

    Args:
        directory: The reused directory.
        request: What `placed` returned.
        kubeconfig: The text of the cluster's kubeconfig.

    Raises:
        ClusterError: Another run has been the first one meanwhile.
    """
    before = directory.read(DeployedTo)
    if before and before.run_id != request.label_id:
        msg = (
            f'another run deployed to cluster "{request.cluster}" in the meantime\n'
            "To fix: run again, which uses what that run has deployed"
        )
        raise ClusterError(msg)
    record = DeployedTo(run_id=request.label_id, namespace=request.namespace)
    directory.write(record)
    directory.write(ClusterNamed(name=request.cluster))
    write_private(directory.kubeconfig, kubeconfig)
    return record


def why_occupied(folder: RunDirectory, namespace: str) -> str:
    """Return why a namespace is not free if what stays between runs is in it; empty else.

    Args:
        folder: The directory on this host that the namespace's Lease names.
        namespace: The namespace.
    """
    try:
        record = folder.read(DeployedTo)
    except StateError:
        record = None
    if record is None:
        return ""
    return (
        f'namespace "{namespace}" has services that stay between runs with reuse ({folder.path})\n'
        "To fix: use them with --kindinfra-reuse, delete them with kindinfra down, or use another "
        "[cluster] namespace"
    )
