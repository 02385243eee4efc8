"""Restore a cluster from a snapshot, and leave one for later runs.

Whatever is wrong with a snapshot, the cluster boots as it would without one, and a line says why.
What the API server of a restored cluster says is old at first, so it counts as ready only when
something new was seen: the node's lease renewed, and an answer of the DNS service.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import kind_config, reached_at
from pytest_kindinfra.clusters.create import create_cluster, turn_to_create
from pytest_kindinfra.clusters.snapshot import (
    API_PORT,
    REPOSITORY,
    credentials_for,
    kubeconfig_of,
    made_of,
    misfit,
    node_container,
    own_mounts,
    snapshot_config,
    snapshot_key,
    why_never,
)
from pytest_kindinfra.engines.nodescripts import ANSWERS, HOPELESS
from pytest_kindinfra.errors import CancelledError, ClusterError, EngineError, KindInfraError
from pytest_kindinfra.protocols.snapshots import SnapshotNotes
from pytest_kindinfra.state.clusterrecords import SnapshotUsed
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.system.files import free_port, write_private
from pytest_kindinfra.system.timeline import Deadline, now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_kindinfra.context import Context, Request
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Cluster, Service
    from pytest_kindinfra.protocols.snapshots import Packed, Snapshots, StoredSnapshot
    from pytest_kindinfra.state.directory import RunDirectory


_READY_WITHIN = 120.0
"""Seconds for a restored cluster; one needs 8 to 12 where nothing else runs."""


_KEEP_WITHIN = 120.0


_PROBE_SECONDS = 5.0


_LEASE_EVERY = 0.1


_DAY = 86400.0


_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class _RestoreError(KindInfraError):
    """A cluster could not be restored, whatever else may work."""


def parts_of(
    request: Request, snapshots: Snapshots, provider: str, deadline: Deadline
) -> dict[str, str]:
    """Return what a snapshot must have been made of to fit the clusters of a request.

    Args:
        request: How its clusters are made.
        snapshots: Who keeps the snapshots.
        provider: The provider's version.
        deadline: When to give up.

    Raises:
        EngineError: The engine does not answer.
    """
    return made_of(
        snapshot_config(request),
        provider=provider,
        engine=snapshots.kind_of_engine(deadline),
        tuning=request.tuning,
        environ=os.environ,
    )


def why_none(request: Request, services: Iterable[Service]) -> str:
    """Return why a cluster is never restored from a snapshot; empty if it may be.

    Args:
        request: How it is made.
        services: Those that are deployed into it.
    """
    early = 'a service has before = "nodes"' * any(one.before == "nodes" for one in services)
    return why_never(snapshot_config(request)) or early


class SnapshotBoot:
    """The snapshots of one bring-up: the one that its cluster comes from, or leaves.

    Args:
        context: The bring-up.
        provider: The provider's version.
    """

    def __init__(self, context: Context, provider: str) -> None:
        self._context = context
        self._provider = provider
        self._parts: dict[str, str] = {}
        self._leaves = False

    def create(self, folder: RunDirectory, begin: Callable[[int], object]) -> Cluster:
        """Return a new cluster: restored if that is possible, else booted.

        Args:
            folder: Gets the kubeconfig, and is mounted in the kind nodes.
            begin: Called with the number of kind nodes that are being made, at each try.

        Raises:
            ClusterError: It could not be created.
        """
        own = self._context.tools.own
        if (snapshots := self._usable()) and (found := self._find(snapshots)):
            own.restoring = True
            try:
                return self._restore(snapshots, found, folder, begin)
            except _RestoreError as error:
                self._give_up(snapshots, found, folder, error)
        self._leaves = bool(snapshots)
        return self._make(folder, begin, "create", self._context.tools.creator.create)

    @property
    def leaves(self) -> bool:
        """Whether the cluster is to leave a snapshot, as soon as it is ready and still empty."""
        return self._leaves

    def leave(self, cluster: Cluster) -> None:
        """Make a snapshot of a cluster that is ready and into which nothing was deployed.

        Most of the work goes on in a thread; a failure is said, and stops nothing.
        """
        context = self._context
        if context.tools.snapshots is None or context.request.cache is None:
            return
        closing = ExitStack()
        try:
            with context.tools.timeline.span("snapshot", "cluster"):
                packed = self._pack(
                    context.tools.snapshots, cluster, context.request.cache, closing
                )
        except CancelledError:
            closing.close()
            raise
        except (KindInfraError, OSError) as error:
            closing.close()
            self._say(f"leaves no snapshot: {error}")
            return
        if packed is None:
            closing.close()
            return
        keeper = threading.Thread(
            target=self._keep,
            args=(context.tools.snapshots, packed, closing),
            name="kindinfra-snapshot",
            daemon=True,
        )
        keeper.start()
        context.watchers.append(keeper)  # who is waited for at the end of the run

    def make(self, snapshots: Snapshots, cluster: Cluster, images: tuple[str, ...]) -> str:
        """Make a snapshot of a cluster that is ready and empty; return its name when it exists.

        Args:
            snapshots: Who keeps it.
            cluster: The cluster; nothing was deployed into it.
            images: References of the images in its kind node.

        Raises:
            KindInfraError: It could not be made.
        """
        context = self._context
        cache = context.request.cache or context.run.path
        deadline = context.deadline()
        self._parts = parts_of(context.request, snapshots, self._provider, deadline)
        with ExitStack() as closing, context.tools.timeline.span("snapshot", "cluster"):
            if (packed := self._pack(snapshots, cluster, cache, closing)) is None:
                msg = (
                    "another run is making a snapshot\n"
                    "To fix: run kindinfra snapshot make again when that run has ended"
                )
                raise ClusterError(msg)
            self._commit(snapshots, packed, images, deadline)
        return self._reference

    def _usable(self) -> Snapshots | None:
        """Return who keeps snapshots, unless none is wanted, or none can be of such a cluster."""
        context = self._context
        snapshots = context.tools.snapshots
        wanted = context.request.snapshot == "auto" and context.request.cache is not None
        if snapshots is None or not wanted:
            return None
        if why_none(context.request, context.plan.services):
            return None  # docs/options.md says which clusters these are
        try:
            self._parts = parts_of(
                context.request, snapshots, self._provider, context.deadline(_PROBE_SECONDS)
            )
        except EngineError as error:
            self._say(f"boots without a snapshot: {error}")
            return None
        return snapshots

    def _find(self, snapshots: Snapshots) -> StoredSnapshot | None:
        deadline = self._context.deadline()
        try:
            if (found := snapshots.find(self._reference, deadline)) is None:
                return None
            why = misfit(
                found,
                parts=self._parts,
                now=now(),
                image_id=lambda name: snapshots.image_id(name, deadline),
            )
        except EngineError as error:
            why = str(error)
        if why:
            self._say(f"boots without the snapshot {self._reference}: {why}")
        return None if why else found

    @property
    def _reference(self) -> str:
        return f"{REPOSITORY}:{snapshot_key(self._parts)}"

    def _restore(
        self,
        snapshots: Snapshots,
        found: StoredSnapshot,
        folder: RunDirectory,
        begin: Callable[[int], object],
    ) -> Cluster:
        context = self._context

        def make(
            name: str, *, config: dict[str, Any], kubeconfig: Path, deadline: Deadline
        ) -> tuple[str, ...]:
            return _start(snapshots, found, name, config, kubeconfig, deadline)

        with context.tools.timeline.span("restore", "cluster"):
            cluster = self._make(folder, begin, "", make)
            within = context.deadline(_READY_WITHIN)
            try:
                self._prove(snapshots, found, cluster, within)
            except (ClusterError, EngineError) as error:
                raise _RestoreError(str(error)) from error
        age = (now() - found.notes.made) / _DAY if found.notes else 0.0
        context.run.write(SnapshotUsed(reference=found.reference, id=found.id, age_days=age))
        return cluster

    def _prove(
        self, snapshots: Snapshots, found: StoredSnapshot, cluster: Cluster, deadline: Deadline
    ) -> None:
        """Return when the restored cluster is ready; see the module's docstring."""
        from pytest_kindinfra.kube.cluster import Kube

        kube, node = Kube(cluster.kubeconfig), cluster.nodes[0]
        try:
            self._await_api(snapshots, kube, node, deadline)
            made = found.notes.made if found.notes else 0.0
            if not wait_until(lambda: _renewed(kube) > made, deadline, every=_LEASE_EVERY):
                msg = f"its kubelet did not renew its lease{deadline.exceeded()}"
                raise ClusterError(msg)
            # Its service account takes a moment, in which the DNS service starts.
            kube.ensure_namespace(self._context.request.namespace, deadline, {})
        finally:
            kube.close()
        self._await_names(snapshots, node, deadline)

    def _await_api(self, snapshots: Snapshots, kube: Kube, node: str, deadline: Deadline) -> None:
        while True:
            try:
                return kube.wait_for_api(deadline.within(_PROBE_SECONDS))
            except ClusterError:
                if deadline.passed:
                    raise
                snapshots.run_in(node, ["true"], deadline)  # it may have ended

    def _await_names(self, snapshots: Snapshots, node: str, deadline: Deadline) -> None:
        words = ["bash", ANSWERS, f"{_PROBE_SECONDS:.0f}"]
        while True:
            code, said = snapshots.run_in(node, words, deadline)
            if code == 0:
                return
            if code == HOPELESS or deadline.passed:
                limit = "" if code == HOPELESS else deadline.exceeded()
                msg = f"{said}{limit}"
                raise ClusterError(msg)

    def _give_up(
        self, snapshots: Snapshots, found: StoredSnapshot, folder: RunDirectory, error: Exception
    ) -> None:
        context, name = self._context, self._context.request.cluster
        self._say(
            f"could not be restored from the snapshot {found.reference}, and is booted: {error}\n"
            "To fix: nothing; --kindinfra-snapshot=off uses none"
        )
        kubeconfig, own = folder.kubeconfig, context.tools.own
        context.tools.creator.delete(name, kubeconfig=kubeconfig, deadline=context.deadline())
        kubeconfig.unlink(missing_ok=True)  # it is there again when the next creation is done
        own.generation += 1
        with suppress(EngineError):  # another run may use it
            snapshots.remove(found, context.deadline())

    def _make(
        self,
        folder: RunDirectory,
        begin: Callable[[int], object],
        kind: str,
        make: Callable[..., tuple[str, ...]],
    ) -> Cluster:
        context, request = self._context, self._context.request

        def begun(count: int) -> None:
            context.tools.own.begun = True
            begin(count)

        timeline = context.tools.timeline
        turn = turn_to_create(timeline=timeline, queue=context.deadline(), say=context.hooks.say)
        with turn, ExitStack() as spans:
            if kind:
                spans.enter_context(timeline.span(kind, "cluster"))
            return create_cluster(
                request.cluster,
                plan=context.plan,
                base=request.kind_config,
                node_image=request.node_image,
                tuning=request.tuning,
                run=folder,
                folder=request.folder,
                creator=context.tools.creator,
                make=make,
                begun=begun,
                deadline=context.deadline(),  # waiting for other runs is not counted
            )

    def _pack(
        self, snapshots: Snapshots, cluster: Cluster, cache: Path, closing: ExitStack
    ) -> Packed | None:
        """Copy the kind node; None if another run makes a snapshot just now."""
        cache.mkdir(parents=True, exist_ok=True)
        lock, deadline = cache / "snapshots.lock", self._context.deadline(_KEEP_WITHIN)
        if not closing.enter_context(locked_alone(lock)):
            return None
        snapshots.remove_unfinished(lock, deadline)
        own = own_mounts(self._whole_config())
        return snapshots.pack(cluster.nodes[0], own, lock=lock, deadline=deadline)

    def _whole_config(self) -> dict[str, Any]:
        request = self._context.request
        return kind_config(
            request.kind_config,
            ports={},
            node_image=None,
            tuning=request.tuning,
            folder=request.folder,
            run=self._context.run.path,
        )

    def _keep(self, snapshots: Snapshots, packed: Packed, closing: ExitStack) -> None:
        with closing:
            try:
                self._commit(snapshots, packed, (), Deadline.after(_KEEP_WITHIN))
            except (KindInfraError, OSError) as error:
                self._say(f"leaves no snapshot: {error}")

    def _commit(
        self, snapshots: Snapshots, packed: Packed, images: tuple[str, ...], deadline: Deadline
    ) -> None:
        notes = SnapshotNotes(
            key=snapshot_key(self._parts),
            made=now(),
            node_image=packed.node_image,
            node_image_id=packed.node_image_id,
            images=images,
            parts=self._parts,
            credentials=credentials_for(snapshot_config(self._context.request), os.environ),
            container=packed.template,
        )
        snapshots.keep(packed, self._reference, notes, deadline)

    def _say(self, text: str) -> None:
        self._context.hooks.say(f'cluster "{self._context.request.cluster}" {text}')


def _start(
    snapshots: Snapshots,
    found: StoredSnapshot,
    name: str,
    config: dict[str, Any],
    kubeconfig: Path,
    deadline: Deadline,
) -> tuple[str, ...]:
    """Start the kind node and write its kubeconfig; return the node's name."""
    with ExitStack() as sockets:
        node = node_container(
            name, config, choose_port=lambda address: free_port(sockets, address=address)
        )
    try:
        admin = snapshots.restore(found, node, deadline)
    except EngineError as error:
        raise _RestoreError(str(error)) from error
    host, port = node.ports[API_PORT]
    text = kubeconfig_of(admin, name=name, host=reached_at(host), port=port)
    write_private(kubeconfig, text)
    return (node.name,)


def _renewed(kube: Kube) -> float:
    """Return when the node's lease was renewed, in seconds since the epoch."""
    with suppress(KindInfraError):
        for lease in kube.request("GET", _LEASES)["items"]:
            return datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
    return 0.0
