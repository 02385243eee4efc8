"""A cluster of a name that other runs may want: reused if it fits, created again, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.fit import (
    difference,
    fingerprint_of,
    fit_ports,
    with_ports,
)
from pytest_kindinfra.clusters.restore import SnapshotBoot
from pytest_kindinfra.errors import ClusterError, KindInfraError, StateError
from pytest_kindinfra.model import Cluster
from pytest_kindinfra.state.clusterrecords import (
    ClusterKept,
    ClusterNamed,
    Fingerprint,
    ReusedCluster,
    SweepBegun,
)
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.state.reused import (
    acquire,
    forget,
    forget_name,
    is_kept,
    refusal,
    user_of,
    why_unclear,
    why_unknown,
)
from pytest_kindinfra.system.files import is_there, size_of, write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.context import Context, Reuse
    from pytest_kindinfra.protocols.cluster import ObservedCluster
    from pytest_kindinfra.system.timeline import Deadline


_ANSWERS_WITHIN = 15.0
"""A cluster that runs answers at once; one whose engine was started again may take some seconds."""


class _UnfitError(KindInfraError):
    """The existing cluster cannot be reused; says why."""


def _demand(good: object, why_not: str) -> None:
    if not good:
        raise _UnfitError(why_not)


def obtain_cluster(
    context: Context,
    version: str,
    begun: Callable[[int], object],
    boot: SnapshotBoot | None = None,
) -> Cluster:
    """Return the cluster of the run; its API server answers.

    Args:
        context: The bring-up.
        version: The provider's.
        begun: Called with the number of kind nodes that are being made, 0 if they exist.
        boot: Creates one; None means a new one's way.

    Raises:
        ClusterError: It could not be created, another run uses it, or that is unclear.
    """
    boot = boot or SnapshotBoot(context, version)
    if (reuse := context.request.reuse) is None:
        if context.request.named:
            _delete_predecessor(context)
        return boot.create(context.run, begun)
    return _Acquisition(context, reuse, version, boot, begun).cluster()


def _delete_predecessor(context: Context) -> None:
    """Delete the cluster of that name if an earlier run created it, unless its run lives.

    A sweep that deletes it just now holds its lock too, but not for long.
    """
    deadline = context.deadline()
    while (folder := _clear_folder(context)) and not _is_cleared(context, folder):
        if deadline.passed or not is_there(folder.file(SweepBegun)):
            raise ClusterError(_in_use(context.request.cluster, folder))


def _clear_folder(context: Context) -> RunDirectory | None:
    """Return the run directory of the cluster of that name, None if no run created one.

    Raises:
        ClusterError: It is unclear whether the cluster is in use.
    """
    folder = _folder_of_cluster(context)
    why = why_unclear(folder, context.request.cluster) if folder else ""
    # Else it was deleted with its notes meanwhile.
    if why and _folder_of_cluster(context) == folder:
        raise ClusterError(_unclear(context, why))
    return None if why else folder


def _unclear(context: Context, why: str) -> str:
    name = context.request.cluster
    return refusal(name, why, context.tools.creator.delete_command(name))


def _folder_of_cluster(context: Context) -> RunDirectory | None:
    there = context.tools.creator.observe(context.request.cluster, context.deadline())
    # A foreign one was refused before, or is refused on creation.
    return RunDirectory(there.folder) if there and there.folder else None


def _is_cleared(context: Context, folder: RunDirectory) -> bool:
    """Delete the cluster unless it is in use, and return whether it was deleted."""
    try:
        with locked_alone(folder.lock) as alone:
            if alone and _clear_folder(context) == folder:
                _delete_old(context, folder)
            return alone
    except OSError as error:  # another user's
        why = f"the lock of its run directory {folder.path}: {error.strerror}"
        raise ClusterError(_unclear(context, why)) from error


def _delete_old(context: Context, folder: RunDirectory) -> None:
    name = context.request.cluster
    context.hooks.say(f'cluster "{name}" of an earlier run is created again')
    context.tools.creator.delete(name, kubeconfig=folder.kubeconfig, deadline=context.deadline())
    forget_name(folder)


def _in_use(name: str, folder: RunDirectory) -> str:
    return (
        f'cluster "{name}" is in use by {user_of(folder)} ({folder.path})\n'
        "To fix: wait until it ends, or use another --kindinfra-cluster-name"
    )


class _Acquisition:
    """How one run obtains a cluster that outlives it: reused, or created."""

    def __init__(
        self,
        context: Context,
        reuse: Reuse,
        version: str,
        boot: SnapshotBoot,
        begun: Callable[[int], object],
    ) -> None:
        self._context = context
        self._directory = RunDirectory(reuse.reused_dir)
        self._boot = boot
        self._begun = begun
        self._locked: list[Path] = []
        request = context.request
        self._wanted = fingerprint_of(
            request.kind_config,
            node_image=request.node_image,
            provider=version,
            tuning=request.tuning,
            folder=request.folder,
            ports=context.plan.ports,
        )

    def cluster(self) -> Cluster:
        """Return the cluster, reused if it fits."""
        self._lock(self._directory)
        there = self._observe()
        while there and there.folder and not self._is_locked(there.folder):
            if directory := _clear_folder(self._context):
                self._lock(directory)
            there = self._observe()  # its user may have deleted it, or created it again
        if there is None:
            return self._create_anew()
        if there.folder is None:
            return self._boot.create(self._context.run, self._begun)  # which says why not
        directory = RunDirectory(there.folder)
        if why := why_unknown(directory, self._name):
            raise ClusterError(_unclear(self._context, why))
        try:
            return self._reuse(there, directory)
        except _UnfitError as why:
            self._say(f"is created again: {why}")
            self._delete(directory)
            return self._create_anew()

    def _lock(self, directory: RunDirectory) -> None:
        deadline = self._context.deadline()
        lock = acquire(
            directory,
            user=f"the run in {self._context.run.path}",
            waiting=lambda user: self._say(
                f"is in use by {user}; waiting for its end, {deadline.left:.0f} s at most"
            ),
            deadline=deadline,
        )
        self._context.cleanup.callback(lock.release)
        self._locked.append(directory.path)

    def _is_locked(self, directory: Path) -> bool:
        """Whether a directory is this run's by now, however it is spelled."""
        try:
            return any(directory.samefile(one) for one in self._locked)
        except OSError:  # a folder that cannot be seen is not locked by this run
            return False

    def _reuse(self, there: ObservedCluster, directory: RunDirectory) -> Cluster:
        """Return the existing cluster, with the ports of this plan.

        Raises:
            _UnfitError: It will not do.
        """
        made = _fingerprint(directory)
        if not is_kept(directory) or made is None:
            msg = "its creation did not finish, or it was not created for reuse"
            raise _UnfitError(msg)
        _demand(there.running, "its kind nodes do not run")
        why = difference(made, self._wanted)
        _demand(not why, why)
        fit = fit_ports(self._context.plan, made, there.host_ports)
        _demand(not fit.why_not, fit.why_not)
        with self._context.tools.timeline.span("take", "cluster"):
            _await_answer(directory.kubeconfig, self._context.deadline(_ANSWERS_WITHIN))
        directory.write(with_ports(made, fit.ports))
        self._context.tools.own.begun = True
        self._context.run.write(ClusterNamed(name=self._name))
        self._note(directory, taken=True)
        self._begun(0)
        return self._with_own_credentials(
            directory,
            Cluster(
                name=self._name,
                kubeconfig=directory.kubeconfig,
                nodes=there.nodes,
                host_ports=there.host_ports,
                hosts=there.hosts,
                owned=True,
                ports=fit.ports,
            ),
        )

    def _create_anew(self) -> Cluster:
        forget(self._directory)
        try:
            cluster = self._boot.create(self._directory, self._begin)
        except BaseException:
            self._copy_credentials(self._directory)  # for the evidence
            raise
        self._directory.write(self._wanted)
        self._directory.write(ClusterKept(cluster=self._name))
        return self._with_own_credentials(self._directory, cluster)

    def _begin(self, count: int) -> None:
        """Note that the cluster is this run's to delete, once no other run can have created it.

        A run with another reused directory does not wait for our lock, and may have been faster.
        """
        self._context.run.write(ClusterNamed(name=self._name))
        self._note(self._directory, taken=False)
        self._begun(count)

    def _with_own_credentials(self, directory: RunDirectory, cluster: Cluster) -> Cluster:
        """Return the cluster with this run's own copy of the credentials: tests may change it."""
        self._copy_credentials(directory)
        return replace(cluster, kubeconfig=self._context.run.kubeconfig, reused_dir=directory.path)

    def _copy_credentials(self, directory: RunDirectory) -> None:
        if is_there(directory.kubeconfig):
            write_private(self._context.run.kubeconfig, directory.kubeconfig.read_text())

    def _note(self, directory: RunDirectory, *, taken: bool) -> None:
        self._context.tools.own.reused_dir = directory.path
        self._context.run.write(ReusedCluster(path=directory.path, existed=taken))

    def _observe(self) -> ObservedCluster | None:
        return self._context.tools.creator.observe(self._name, self._context.deadline())

    def _delete(self, directory: RunDirectory) -> None:
        self._context.tools.creator.delete(
            self._name, kubeconfig=directory.kubeconfig, deadline=self._context.deadline()
        )
        forget(directory)

    @property
    def _name(self) -> str:
        return self._context.request.cluster

    def _say(self, text: str) -> None:
        self._context.hooks.say(f'cluster "{self._name}" {text}')


def _fingerprint(directory: RunDirectory) -> Fingerprint | None:
    """Return what a cluster was made with, None if that is unknown."""
    try:
        return directory.read(Fingerprint)
    except StateError:
        return None


def _await_answer(kubeconfig: Path, deadline: Deadline) -> None:
    from pytest_kindinfra.kube.cluster import Kube

    _demand(size_of(kubeconfig), "its kubeconfig is missing")
    kube = Kube(kubeconfig)
    try:
        kube.wait_for_api(deadline)
    except ClusterError as error:
        msg = "its API server does not answer"
        raise _UnfitError(msg) from error
    finally:
        kube.close()
