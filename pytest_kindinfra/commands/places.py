"""The cluster of a folder that commands work with: one that runs reuse, or an existing one."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.clusters.existing import own_config
from pytest_kindinfra.clusters.kubeconfigs import all_files, option_words
from pytest_kindinfra.clusters.placement import directory_of
from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.context import ExistingCluster
from pytest_kindinfra.errors import KindInfraError, StateError
from pytest_kindinfra.kube.cluster import Kube, SharedKube
from pytest_kindinfra.kube.portforward import Forwards
from pytest_kindinfra.names import declared_name, worker_of
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.state.clusterrecords import ClusterNamed, Deployed, DeployedTo
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.state.reused import services_in, why_unknown, why_unseen
from pytest_kindinfra.state.runnames import cluster_name
from pytest_kindinfra.system.files import size_of, write_private
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.protocols.cluster import ObservedCluster
    from pytest_kindinfra.state.codec import Note


N = TypeVar("N", bound="Note")


_ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What stays between runs in an existing cluster.

    Attributes:
        cluster: The cluster.
        directory: Its reused directory.
        record: Whose the objects are and where; None if nothing is there.
    """

    cluster: ExistingCluster
    directory: RunDirectory
    record: DeployedTo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The cluster of a folder.

    Attributes:
        name: kind's name for it; that of its context for an existing one.
        tools: Who does the work.
        there: What its containers show; None if there is no such cluster, and for an existing one.
        kept: Of an existing cluster; None for one that runs create.
        words: The options of `kindinfra` that name it.
    """

    name: str
    tools: Tools
    there: ObservedCluster | None
    kept: Kept | None = None
    words: tuple[str, ...] = ()

    @property
    def directory(self) -> RunDirectory | None:
        """Its reused directory, None if it has none, or none that can be seen."""
        if self.kept:
            return self.kept.directory if self.kept.record else None
        folder = self.there.folder if self.there else None
        return RunDirectory(folder) if folder and not why_unseen(RunDirectory(folder)) else None

    @property
    def up(self) -> str:
        """The command that brings services up there."""
        return shlex.join(["kindinfra", "up", *self.words])

    def namespaces(self, service: str | None = None) -> list[str] | None:
        """Return where the pods of a service, or of all, are; None for the whole cluster.

        In an existing cluster, the rest of the cluster is not ours to look at.
        """
        if self.kept is None or self.kept.record is None:
            return None
        directory = self.kept.directory
        names = [service] if service else services_in(directory)
        records = [one for name in names if (one := directory.read(DeployedService, name))]
        found = {self.kept.record.namespace, *(ns for one in records for ns in one.namespaces)}
        return sorted(found)


def look(options: Mapping[str, Any]) -> Place:
    """Return the cluster of the current folder, or of that above it which has the declaration.

    Args:
        options: Those that name the cluster, if the environment and the declaration do not: key as
            in `[options]` to value.

    Raises:
        DeclarationError: The declaration or an option is wrong.
        KindInfraError: The engine does not answer, or the kubeconfig is no good.
    """
    folder = declaration_folder(Path.cwd())
    settings = settings_of(read_declaration(folder), {"reuse": True, **options})
    tools, words = make_tools(settings.engine), tuple(option_words(settings))
    if settings.kubeconfig is not None:
        kept = _kept(folder, settings, settings.kubeconfig)
        return Place(name=kept.cluster.name, tools=tools, there=None, kept=kept, words=words)
    name = cluster_name(folder, named=settings.cluster_name, reuse=True, run_id="")
    there = tools.creator.observe(name, Deadline.after(_ASK_SECONDS))
    return Place(name=name, tools=tools, there=there, words=words)


def _kept(folder: Path, settings: Settings, kubeconfig: Path) -> Kept:
    """Return what there is of a folder in the existing cluster of the options."""
    file = all_files(kubeconfig, folder)
    cluster = ExistingCluster(kubeconfig=file, name="", context=settings.context)
    try:
        config = own_config(cluster)
    except KindInfraError as error:
        msg = f"{settings.sources['kubeconfig']} {file}: {error}"
        raise KindInfraError(msg) from error
    directory = directory_of(config, folder / settings.artifacts)
    named = directory.read(ClusterNamed)
    name = named.name if named else str(config["current-context"])
    record = directory.read(DeployedTo)
    cluster = ExistingCluster(
        kubeconfig=file,
        name=name,
        context=settings.context,
        run_id=record.run_id if record else "",
    )
    return Kept(cluster=cluster, directory=directory, record=record)


def kubeconfig_of(place: Place) -> Path:
    """Return the credentials of a cluster; they are kept out of what is shown.

    Raises:
        KindInfraError: There is no cluster, it does not run, or its kubeconfig is missing.
    """
    directory = _directory_of_kept(place, place.kept) if place.kept else _directory_of_made(place)
    place.tools.redactor.learn(credentials_in(directory.kubeconfig.read_text()))
    return directory.kubeconfig


def _directory_of_kept(place: Place, kept: Kept) -> RunDirectory:
    """Return the reused directory, with the kubeconfig as the user's file says it now."""
    if kept.record is None:
        msg = f'no services of this folder are in cluster "{place.name}"\nTo fix: {place.up}'
        raise KindInfraError(msg)
    write_private(kept.directory.kubeconfig, json.dumps(own_config(kept.cluster)))  # JSON is YAML
    return kept.directory


def _directory_of_made(place: Place) -> RunDirectory:
    if place.there is None:
        msg = f'there is no cluster "{place.name}"\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    if not place.there.running:
        msg = f'the kind nodes of cluster "{place.name}" do not run\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    directory = place.directory
    if directory is None and place.there.folder:
        why = why_unseen(RunDirectory(place.there.folder))
        msg = f'the credentials of cluster "{place.name}" cannot be read: {why}'
        raise KindInfraError(msg)
    if directory is None or not size_of(directory.kubeconfig):
        msg = f'the kubeconfig of cluster "{place.name}" is missing\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    return directory


def unclear(place: Place, why: str) -> str:
    """Return the message for a cluster of which it is unknown whether it is in use."""
    head = f'it is unknown whether cluster "{place.name}" is in use: {why}'
    if place.kept:
        return f"{head}\nTo fix: {place.up}"
    delete = shlex.join(place.tools.provider.delete_command(place.name))
    return f"{head}\nTo fix: if it is not in use: {delete}"


@contextmanager
def connected(options: Mapping[str, Any]) -> Iterator[tuple[Place, Kube]]:
    """Give the cluster of the current folder and its API, which is closed at the end.

    Args:
        options: As for `look`.

    Raises:
        KindInfraError: There is no cluster, it does not run, or its kubeconfig is missing.
    """
    place = look(options)
    with opened(place, kubeconfig_of(place)) as kube:
        yield place, kube


@contextmanager
def opened(place: Place, kubeconfig: Path) -> Iterator[Kube]:
    """Give the API of a cluster, in the block; in an existing one it changes only our objects."""
    with ExitStack() as cleanup:
        if place.kept:
            forwards = Forwards(kubeconfig)
            cleanup.callback(forwards.close)
            kube: Kube = SharedKube(kubeconfig, place.kept.cluster.run_id, forwards)
        else:
            kube = Kube(kubeconfig)
        cleanup.callback(kube.close)
        yield kube


def deployed_of(place: Place, service: str) -> Deployed:
    """Return the deployed state of a service.

    Raises:
        KindInfraError: It was never brought up on that cluster, or what is known of it cannot be
            read.
    """
    return _noted(Deployed, place, service)


def record_of(place: Place, service: str) -> DeployedService:
    """Return what is needed to change a service.

    Raises:
        KindInfraError: As `deployed_of`; or its last bring-up did not come to its end.
    """
    deployed_of(place, service)
    return _noted(DeployedService, place, service)


def _noted(kind: type[N], place: Place, service: str) -> N:
    """Return a note about a service in the cluster's reused directory."""
    directory = place.directory
    if directory and (why := why_unknown(directory, place.name)):
        raise KindInfraError(unclear(place, why))
    known = services_in(directory) if directory else []
    if directory is None or service not in known:
        has = ", ".join(known) or "none"
        msg = f'cluster "{place.name}" has no service "{service}"; it has: {has}'
        if copies := [one for one in known if worker_of(one) and declared_name(one) == service]:
            msg = (
                f'cluster "{place.name}" has copies of service "{service}" for xdist workers only\n'
                f"To fix: name one of them: {', '.join(copies)}; or {place.up} {service}"
            )
        raise KindInfraError(msg)
    try:
        found, why = directory.read(kind, service), "its last bring-up did not end well"
    except StateError as error:
        found, why = None, str(error)
    if found is None:
        msg = f'service "{service}" in cluster "{place.name}": {why}\nTo fix: {place.up}'
        raise KindInfraError(msg)
    return found
