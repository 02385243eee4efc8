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
    kubeconfig_of,
    misfit,
    node_container,
    own_mounts,
    snapshot_config,
    snapshot_key,
    why_never,
)
from pytest_kindinfra.engines.nodescripts import ANSWERS
from pytest_kindinfra.errors import CancelledError, ClusterError, EngineError, KindInfraError
from pytest_kindinfra.protocols import SnapshotNotes
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.state.records import SnapshotUsed
from pytest_kindinfra.system.files import free_port, write_private
from pytest_kindinfra.system.timeline import Deadline, now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Cluster
    from pytest_kindinfra.protocols import Packed, Snapshots, StoredSnapshot
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


class SnapshotBoot:
    """The snapshots of one bring-up: the one that its cluster comes from, or leaves.

    Args:
        context: The bring-up.
        provider: The provider's version.
    """

    def __init__(self, context: Context, provider: str) -> None:
        self._context = context
        self._provider = provider
        self._key = ""
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

    def _usable(self) -> Snapshots | None:
        """Return who keeps snapshots, unless none is wanted, or none can be of such a cluster."""
        context = self._context
        snapshots = context.tools.snapshots
        wanted = context.request.snapshot == "auto" and context.request.cache is not None
        if snapshots is None or not wanted:
            return None
        config = snapshot_config(context.request)
        if why_never(config) or any(one.before == "nodes" for one in context.plan.services):
            return None  # docs/options.md says which clusters these are
        try:
            engine = snapshots.kind_of_engine(context.deadline(_PROBE_SECONDS))
        except EngineError as error:
            self._say(f"boots without a snapshot: {error}")
            return None
        self._key = snapshot_key(
            config,
            provider=self._provider,
            engine=engine,
            tuning=context.request.tuning,
            environ=os.environ,
        )
        return snapshots

    def _find(self, snapshots: Snapshots) -> StoredSnapshot | None:
        deadline = self._context.deadline()
        try:
            if (found := snapshots.find(self._reference, deadline)) is None:
                return None
            why = misfit(
                found,
                key=self._key,
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
        return f"{REPOSITORY}:{self._key}"

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
            if deadline.passed:
                msg = f"{said}{deadline.exceeded()}"
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
        deadline = Deadline.after(_KEEP_WITHIN)
        with closing:
            try:
                notes = SnapshotNotes(
                    key=self._key,
                    made=now(),
                    node_image=packed.node_image,
                    node_image_id=packed.node_image_id,
                    images=(),
                    container=packed.template,
                )
                snapshots.keep(packed, self._reference, notes, deadline)
            except (KindInfraError, OSError) as error:
                self._say(f"leaves no snapshot: {error}")

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
