"""The line of a cluster that is there already, and what differs where no kind nodes are.

Entered, the namespace taken for this run alone, endpoints by ports that lead to pods. Nothing of
others is touched: see `kube/cluster.py`.
"""

from __future__ import annotations

import json
import shlex
import socket
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.existing import _PUT_THERE, only_current, scope_of
from pytest_kindinfra.errors import ClusterError, StateError
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.model import BuiltImage, Cluster, ImagesInUse
from pytest_kindinfra.run.cluster import ClusterLine
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_held
from pytest_kindinfra.state.results import cluster_record
from pytest_kindinfra.system.files import read_text, write_private

if TYPE_CHECKING:
    from pytest_kindinfra.context import Context, ExistingCluster
    from pytest_kindinfra.kube.cleanup import Holder
    from pytest_kindinfra.kube.cluster import Kube, OurKube
    from pytest_kindinfra.model import Service
    from pytest_kindinfra.system.timeline import Deadline


class ExistingLine(ClusterLine):
    """An existing cluster on its way to taking our pods."""

    def _check(self) -> str:
        """See that the tools are there which this cluster needs: none if it has no kind nodes."""
        if self._existing.nodes:
            return super()._check()
        self._also()
        return ""

    def _sweep(self) -> None:
        """Leave killed runs to those that make clusters."""

    @property
    def _existing(self) -> ExistingCluster:
        existing = self._context.request.existing
        if existing is None:  # pragma: no cover - this line is made only where there is one
            raise AssertionError
        return existing

    def _create_cluster(self) -> Cluster:
        with self._context.tools.timeline.span("enter", "cluster"):
            return self._enter()

    def _enter(self) -> Cluster:
        """Enter the cluster, from which moment on what has our label is ours to delete."""
        request, run = self._context.request, self._context.run
        file = self._existing.kubeconfig
        config = next(iter(load_documents(read_text(file))), None)
        own = only_current(config, file.parent)
        write_private(run.kubeconfig, json.dumps(own))  # JSON is YAML
        self._context.tools.own.begun = True
        run.write("cluster-name", {"name": request.cluster})
        self._begin(len(self._existing.nodes))
        return Cluster(
            name=request.cluster,
            kubeconfig=run.kubeconfig,
            nodes=self._existing.nodes,
            host_ports={},
            owned=False,
        )

    def _pods_taken(self, cluster: Cluster) -> Kube:
        from pytest_kindinfra.kube.cluster import OurKube
        from pytest_kindinfra.kube.portforward import Forwards

        context = self._context
        forwards = Forwards(cluster.kubeconfig)
        context.tools.closing.callback(forwards.close)
        noted = PutThere(context.run)
        kube = OurKube(cluster.kubeconfig, context.request.run_id, forwards, note=noted.add)
        namespace, deadline = context.request.namespace, context.deadline()
        with context.tools.timeline.span("wait", "cluster"):
            kube.wait_for_api(deadline)
            kube.ensure_namespace(namespace, deadline, {})
            if context.plan.services:
                take_namespace(kube, namespace, context, deadline)
        context.run.settle("cluster", cluster_record(cluster, namespace=namespace))
        return kube


class PutThere:
    """Notes in the run directory where a run puts objects; safe from several threads."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._namespaces: set[str] = set()
        self._resources: set[str] = set()

    def add(self, namespace: str, resource: str) -> None:
        """Note that there may be an object of a kind in a namespace; none for the cluster's."""
        with self._lock:
            known = (not namespace or namespace in self._namespaces) and resource in self._resources
            if known:
                return
            self._namespaces |= {namespace} - {""}
            self._resources.add(resource)
            record = {"namespaces": sorted(self._namespaces), "resources": sorted(self._resources)}
            self._run.write(_PUT_THERE, record)


class ImagesElsewhere:
    """Images of a cluster that this host cannot load any into: it pulls all of them itself."""

    def __init__(self, context: Context) -> None:
        self._plan = context.plan
        self._references = {one.name: one.prebuilt or "" for one in context.plan.images}
        for name, reference in self._references.items():
            image = BuiltImage(name=name, reference=reference, cached=True)
            context.run.write(f"image-{name}", asdict(image))

    def of(self, service: Service) -> ImagesInUse:
        """Say what references become; those that no declared image means stay as written."""
        uses = self._plan.image_uses.get(service.name, {})
        return ImagesInUse(
            written={written: self._references[name] for written, name in uses.items()},
            loaded=frozenset(),
            declared={name: self._references[name] for name in service.images},
        )


def take_namespace(kube: OurKube, namespace: str, context: Context, deadline: Deadline) -> None:
    """Have the namespace for this run alone; what a dead run of this host left there goes.

    Raises:
        ClusterError: Another run has it.
    """
    from pytest_kindinfra.kube.cleanup import LEASE, Holder, remove_all, take

    kube.announce(LEASE, namespace)
    holder = Holder(
        run_id=context.request.run_id, host=socket.gethostname(), folder=str(context.run.path)
    )
    other = take(kube, namespace, holder)
    if other and _is_dead(other, holder.host):
        scope = scope_of(RunDirectory(Path(other.folder)), namespace)
        remove_all(kube, other.run_id, deadline, scope)
        kube.ensure_namespace(namespace, deadline, {})  # the dead run may have made it
        other = take(kube, namespace, holder)
    if other:
        raise ClusterError(_told(other, namespace, context))


def _is_dead(holder: Holder, host: str) -> bool:
    """Whether it is sure that the run is over and kept nothing; of other hosts nobody can tell."""
    run = RunDirectory(Path(holder.folder))
    try:
        here = holder.host == host and run.lock.exists()
        return here and not is_held(run.lock) and run.read("kept") is None
    except (OSError, StateError):
        return False


def _told(other: Holder, namespace: str, context: Context) -> str:
    from pytest_kindinfra.kube.cleanup import remove_command

    existing = context.request.existing
    file = existing.kubeconfig if existing else context.run.kubeconfig
    command = remove_command(file, other.run_id, ("all", "leases.coordination.k8s.io"))
    return (
        f'run {other.run_id} on "{other.host}" has namespace "{namespace}" for itself\n'
        "To fix: wait for its end, use another [cluster] namespace, or, if it is over: "
        f"{shlex.join(command)}"
    )
