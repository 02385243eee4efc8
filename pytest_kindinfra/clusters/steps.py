"""The steps of a cluster on its way up: one that the run makes or reuses, and an existing one.

The kind nodes are watched from their creation until the run ends, also while tests run. If one of
them ends, for whatever reason, the bring-up ends, and tests that have not started say why.
"""

from __future__ import annotations

import json
import math
import shlex
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_kindinfra.clusters.existing import own_config, remove_expired_in, scope_of
from pytest_kindinfra.clusters.placement import enter, why_occupied
from pytest_kindinfra.clusters.restore import SnapshotBoot
from pytest_kindinfra.clusters.reuse import obtain_cluster
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.context import CLUSTER
from pytest_kindinfra.engines.registry import hosting_map
from pytest_kindinfra.errors import (
    CancelledError,
    ClusterEndedError,
    ClusterError,
    KindInfraError,
    StateError,
)
from pytest_kindinfra.model import Cluster
from pytest_kindinfra.state.clusterrecords import (
    ClusterKept,
    ClusterNamed,
    KubernetesVersion,
    ObjectsApplied,
    ReusedCluster,
)
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_locked
from pytest_kindinfra.state.records import ClusterReady, NodeLost, ProgramVersions
from pytest_kindinfra.state.reused import acquire, is_kept
from pytest_kindinfra.system.files import is_there, write_private
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import Deadline, now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.context import Context, ExistingCluster
    from pytest_kindinfra.kube.cleanup import LeaseHolder
    from pytest_kindinfra.kube.cluster import Kube, SharedKube
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.protocols.registry import Registry

_ASK_ENGINE = 10.0


class ClusterSteps(Protocol):
    """How one kind of cluster comes up."""

    def check(self) -> str:
        """Check the tools that it needs, before each of them fails in its own words.

        Returns:
            The provider's version, empty if no provider is needed.

        Raises:
            KindInfraError: A tool is missing or does not answer.
        """
        ...

    def sweep(self) -> None:
        """Delete the clusters of runs that were killed."""
        ...

    def obtain(self, version: str, begin: Callable[[int], None]) -> Cluster:
        """Return the cluster once its API can be asked.

        Args:
            version: What `check` returned.
            begin: Called with the number of kind nodes as soon as they may take images, which is
                long before this returns; with 0 if they take images already.

        Raises:
            KindInfraError: It did not come up.
        """
        ...

    def await_pods(
        self, cluster: Cluster, registry: Registry | None, answers: Callable[[Kube], None]
    ) -> Kube:
        """Return when pods can run in the run's namespace.

        Args:
            cluster: The cluster.
            registry: Announced in the cluster, if there is one.
            answers: Called when the API server answers and the namespace is there, whatever the
                nodes do; returns when what nodes need to get Ready is deployed.

        Raises:
            ClusterError: They could not in time.
        """
        ...


def cluster_steps(context: Context) -> ClusterSteps:
    """Return the steps of the cluster that a run asks for."""
    existing = context.request.existing
    return _ExistingClusterSteps(context, existing) if existing else _KindClusterSteps(context)


class _KindClusterSteps:
    """A kind cluster that this run makes or reuses."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._boot = SnapshotBoot(context, "")

    def check(self) -> str:
        """Check engine and provider."""
        tools = self._context.tools
        engine = tools.engine.check(self._context.deadline())
        kind = tools.provider.check(self._context.deadline())
        noted = ProgramVersions(engine=f"{tools.engine.name} {engine}", kind=kind)
        self._context.run.write(noted)
        return kind

    def sweep(self) -> None:
        """Delete what killed runs left behind; say what could not be deleted."""
        context = self._context
        try:
            failed = sweep(context.tools.creator, context.deadline()).failed
        except CancelledError:
            return
        except (KindInfraError, OSError) as error:
            failed = {"of killed runs": str(error)}
        for name, why in failed.items():
            context.hooks.say(
                f"an old cluster could not be deleted ({name}): {why}\nTo fix: kindinfra gc"
            )

    def obtain(self, version: str, begin: Callable[[int], None]) -> Cluster:
        """Create it, or reuse the one that an earlier run left."""
        self._boot = SnapshotBoot(self._context, version)
        return obtain_cluster(self._context, version, begin, self._boot)

    def await_pods(
        self, cluster: Cluster, registry: Registry | None, answers: Callable[[Kube], None]
    ) -> Kube:
        """Wait for the namespace, nodes and names."""
        from pytest_kindinfra.kube.cluster import Kube

        context, kube = self._context, Kube(cluster.kubeconfig)
        deadline = context.deadline()
        with context.tools.timeline.span("wait", "cluster"):
            kube.wait_for_api(deadline)
        if self._boot.leaves:
            with context.tools.timeline.span("wait", "cluster"):
                kube.wait_for_nodes(deadline)
                kube.wait_for_dns(deadline)
            self._boot.leave(cluster)
        with context.tools.timeline.span("wait", "cluster"):
            deadline = context.deadline()
            kube.ensure_namespace(context.request.namespace, deadline, {})
            context.run.write(KubernetesVersion(version=kube.version()))
            answers(kube)
            deadline = context.deadline()
            kube.wait_for_nodes(deadline)
            kube.wait_for_dns(deadline)
            if registry:
                kube.apply(hosting_map(registry), namespace="kube-public", deadline=deadline)
        return kube


class _ExistingClusterSteps:
    """An existing cluster: used as it is, with a lease on the namespace for this run.

    Endpoints are ports of this process that lead to pods: see `kube/portforward.py`.
    """

    def __init__(self, context: Context, existing: ExistingCluster) -> None:
        self._context = context
        self._existing = existing

    def check(self) -> str:
        """Check engine and provider if it has kind nodes here; else no tool is needed."""
        return _KindClusterSteps(self._context).check() if self._existing.nodes else ""

    def sweep(self) -> None:
        """Delete what runs left there and has expired; say what could not be deleted."""
        context = self._context
        try:
            remove_expired_in(self._existing, now(), context.deadline())
        except CancelledError:
            return
        except (KindInfraError, OSError) as error:
            context.hooks.say(f"namespaces that have expired could not be deleted: {error}")

    def obtain(self, version: str, begin: Callable[[int], None]) -> Cluster:  # noqa: ARG002 - the protocol's
        """Use it; from now on every object with the run's label is deleted at the end."""
        context = self._context
        with context.tools.timeline.span("enter", "cluster"):
            own = json.dumps(own_config(self._existing))  # JSON is YAML
            write_private(context.run.kubeconfig, own)
            reused_dir = self._enter_reused(own)
            context.tools.own.begun = True
            context.run.write(ClusterNamed(name=context.request.cluster))
            begin(len(self._existing.nodes))
        return Cluster(
            name=context.request.cluster,
            kubeconfig=context.run.kubeconfig,
            nodes=self._existing.nodes,
            host_ports={},
            owned=False,
            reused_dir=reused_dir,
        )

    def _enter_reused(self, kubeconfig: str) -> Path | None:
        """Lock what is known of earlier runs with reuse, and note that this run goes on from it."""
        context, request = self._context, self._context.request
        if request.reuse is None:
            return None
        directory, deadline = RunDirectory(request.reuse.reused_dir), context.deadline()
        lock = acquire(
            directory,
            user=f"the run in {context.run.path}",
            waiting=lambda user: context.hooks.say(
                f'what stays in cluster "{request.cluster}" is in use by {user}; waiting for its '
                f"end, {deadline.left:.0f} s at most"
            ),
            deadline=deadline,
            way_out="",
        )
        context.cleanup.callback(lock.release)
        existed = is_kept(directory)
        context.run.write(enter(directory, request, kubeconfig))
        context.run.write(ReusedCluster(path=directory.path, existed=existed))
        context.tools.own.reused_dir = directory.path
        return directory.path

    def await_pods(
        self,
        cluster: Cluster,
        registry: Registry | None,  # noqa: ARG002 - the protocol's
        answers: Callable[[Kube], None],  # noqa: ARG002 - nodes are Ready already
    ) -> Kube:
        """Wait for the API and hold the namespace; nodes and DNS are not this run's business."""
        from pytest_kindinfra.kube.cluster import SharedKube
        from pytest_kindinfra.kube.expiry import NamespaceMarks, user_here
        from pytest_kindinfra.kube.portforward import Forwards

        context = self._context
        forwards = Forwards(cluster.kubeconfig)
        context.tools.closing.callback(forwards.close)
        reused = RunDirectory(cluster.reused_dir) if cluster.reused_dir else None
        noted = _Places(context.run, reused)
        kube = SharedKube(
            cluster.kubeconfig,
            context.request.label_id,
            forwards,
            note=noted.add,
            marks=NamespaceMarks(user_here(), now() + context.request.ttl),
        )
        namespace, deadline = context.request.namespace, context.deadline()
        with context.tools.timeline.span("wait", "cluster"):
            kube.wait_for_api(deadline)
            kube.ensure_namespace(namespace, deadline, {})
            if context.plan.services and not context.request.group:
                _acquire_namespace(kube, namespace, context, deadline)
            if context.request.quota and kube.has_made(namespace):
                kube.apply(_quota(context.request.quota), namespace=namespace, deadline=deadline)
        if reused:
            reused.write(ClusterKept(cluster=cluster.name))
        return kube


def _quota(hard: Sequence[tuple[str, str]]) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "kindinfra"},
        "spec": {"hard": dict(hard)},
    }


def obtain_watched(
    steps: ClusterSteps, context: Context, version: str, begin: Callable[[int], None]
) -> Cluster:
    """Obtain a cluster, keep its keys secret, and watch its kind nodes until the run ends."""
    try:
        context.run.begin(ClusterReady)
        cluster = steps.obtain(version, begin)
        watch_nodes(cluster, context)
    finally:  # a cluster that did not come up may have keys too
        if is_there(context.run.kubeconfig):
            context.tools.redactor.learn(credentials_in(context.run.kubeconfig.read_text()))
    return cluster


def watch_nodes(cluster: Cluster, context: Context) -> None:
    """Have a thread watch each kind node until the run is cancelled.

    They are daemons, since what they wait for may never happen; `context.watchers` gets them.
    """
    for node in cluster.nodes:
        watcher = threading.Thread(
            target=_watch, args=(node, cluster, context), name=f"kindinfra-{node}", daemon=True
        )
        watcher.start()
        context.watchers.append(watcher)


def _watch(node: str, cluster: Cluster, context: Context) -> None:
    try:
        status = context.tools.kind_nodes.await_end(node, Deadline(math.inf, context.cancelled))
        error = _end_error(node, status, cluster, context)
    except CancelledError:
        return
    except KindInfraError as unknown:
        error = ClusterEndedError(f'kind node "{node}" cannot be watched any more: {unknown}')
    if context.cancelled.is_set():
        return  # the run ends, and so does the cluster
    with suppress(StateError):  # another kind node was lost first
        context.run.settle(context.failure_of(error, subject=CLUSTER, kind=NodeLost))
    context.failure.end(CLUSTER, error)


def _end_error(node: str, status: str, cluster: Cluster, context: Context) -> ClusterError:
    """Return the error that names what is gone: the engine, or else the kind node."""
    try:
        context.tools.engine.check(Deadline.after(_ASK_ENGINE, context.cancelled))
    except CancelledError:
        raise
    except KindInfraError as error:
        return ClusterEndedError(
            f'the engine stopped, and with it cluster "{cluster.name}":\n{error}'
        )
    return ClusterEndedError(
        f'kind node "{node}" of cluster "{cluster.name}" ended during the run ({status})\n'
        "To fix: find out what stopped or removed its container, or whether memory ran out "
        "(dmesg); then run again"
    )


class _Places:
    """Records where a run puts objects; safe from several threads.

    Args:
        run: The run directory.
        reused: The reused directory, which has what earlier runs have recorded.
    """

    def __init__(self, run: RunDirectory, reused: RunDirectory | None = None) -> None:
        self._folders = [run, reused] if reused else [run]
        self._lock = threading.Lock()
        before = reused.read(ObjectsApplied) if reused else None
        self._namespaces = set(before.namespaces if before else ())
        self._resources = set(before.resources if before else ())

    def add(self, namespace: str, resource: str) -> None:
        """Note that there may be an object of a kind in a namespace; none for the cluster's."""
        with self._lock:
            known = (not namespace or namespace in self._namespaces) and resource in self._resources
            if known:
                return
            # In a group, the run that waits for results and its bring-up both record.
            before = self._folders[0].read(ObjectsApplied)
            self._namespaces |= {namespace, *(before.namespaces if before else ())} - {""}
            self._resources |= {resource, *(before.resources if before else ())}
            record = ObjectsApplied(
                namespaces=tuple(sorted(self._namespaces)),
                resources=tuple(sorted(self._resources)),
            )
            for folder in self._folders:
                folder.write(record)


def _acquire_namespace(
    kube: SharedKube, namespace: str, context: Context, deadline: Deadline
) -> None:
    """Acquire the namespace for this run; delete what a dead run of this host left there.

    Raises:
        ClusterError: Another run has it.
    """
    from pytest_kindinfra.kube.cleanup import LEASE, LeaseHolder, acquire_lease, remove_all

    kube.announce(LEASE, namespace)
    reuse = context.request.reuse
    holder = LeaseHolder(
        run_id=context.request.label_id,
        host=socket.gethostname(),
        folder=str(reuse.reused_dir if reuse else context.run.path),
    )
    other = acquire_lease(kube, namespace, holder)
    if other and other.run_id == holder.run_id:
        return  # it stays between runs with reuse
    if other and _is_dead(other, holder.host):
        scope = scope_of(RunDirectory(Path(other.folder)), namespace)
        remove_all(kube, other.run_id, deadline, scope)
        kube.ensure_namespace(namespace, deadline, {})  # the dead run may have made it
        other = acquire_lease(kube, namespace, holder)
    if other:
        raise ClusterError(_in_use(other, namespace, context))


def _is_dead(holder: LeaseHolder, host: str) -> bool:
    """Whether it is sure that the run is over and kept nothing; unknown for other hosts."""
    run = RunDirectory(Path(holder.folder))
    try:
        here = holder.host == host and run.lock.exists()
        return here and not is_locked(run.lock) and run.read(ClusterKept) is None
    except (OSError, StateError):
        return False


def _in_use(other: LeaseHolder, namespace: str, context: Context) -> str:
    from pytest_kindinfra.kube.cleanup import remove_command

    here = other.host == socket.gethostname()
    if here and (why := why_occupied(RunDirectory(Path(other.folder)), namespace)):
        return why
    existing = context.request.existing
    command = remove_command(
        existing.kubeconfig if existing else context.run.kubeconfig,
        other.run_id,
        ("all", "leases.coordination.k8s.io"),
        context=existing.context if existing else None,
    )
    return (
        f'run {other.run_id} on "{other.host}" uses namespace "{namespace}" exclusively\n'
        "To fix: wait until it ends, use another [cluster] namespace, or, if it is over: "
        f"{shlex.join(command)}"
    )
