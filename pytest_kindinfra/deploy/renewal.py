"""A service in a reused cluster: what changed since it was deployed, and what is done again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_kindinfra.deploy.apply import inputs_hash
from pytest_kindinfra.deploy.records import forget_release
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.objects import is_hook
from pytest_kindinfra.kube.rewrite import content_hash
from pytest_kindinfra.kube.routes import await_routes, pods_of
from pytest_kindinfra.names import (
    declared_name,
    labelled_service,
    worker_of,
)
from pytest_kindinfra.state.clusterrecords import Deployed, DeployedRelease
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.reused import (
    deployed_services,
    drop_deployed,
    hashed,
    identity,
    key,
    merged,
    new_generation,
    read_deployed,
    same_needs,
    write_deployed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.kube.apply import Outlook
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.kube.refusals import Missing
    from pytest_kindinfra.kube.rewrite import ImagesInUse
    from pytest_kindinfra.model import (
        Cluster,
        Declaration,
        Endpoint,
        KubeObject,
        PortMapping,
        Release,
        Service,
    )
    from pytest_kindinfra.state.records import DeployedService
    from pytest_kindinfra.system.timeline import Deadline


_RUN_ONCE = frozenset({"Job", "Pod"})


_WITH_PODS = _RUN_ONCE | {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}


class Renewal:
    """One service on a cluster that may have it already.

    Attributes:
        generation: Changes whenever something of the service does; known after `note`.
    """

    def __init__(
        self,
        service: Service,
        *,
        reused_dir: Path | None,
        kube: Kube,
        namespace: str,
        needs: Mapping[str, str],
        source: str,
        deadline: Deadline,
    ) -> None:
        self._service = service
        self._directory = RunDirectory(reused_dir) if reused_dir else None
        self._kube = kube
        self._namespace = namespace
        self._deadline = deadline
        self._before = read_deployed(self._directory, service.name) if self._directory else None
        self._source = source
        self._deployed = Deployed(needs=dict(needs), source=source)
        self._renewed = self._before is None or not (
            self._before.ready and same_needs(self._before, needs)
        )
        self.generation = ""
        self._replaced: dict[str, str] = {}

    def step(
        self, call: Callable[[], tuple[KubeObject, ...]], *, folder: Path
    ) -> tuple[KubeObject, ...]:
        """Return what the Python step returns, or returned if nothing that it reads changed."""
        if self._directory is None:
            return call()
        step = inputs_hash(self._service, folder)
        before = self._before
        if before and step and step == before.step and not self._renewed:
            self._deployed = replace(self._deployed, step=step, returned=before.returned)
            return before.returned
        self._renewed = True
        self._begin(before.objects if before else ())
        returned = call()
        self._deployed = replace(self._deployed, step=step, returned=returned if step else ())
        return returned

    @property
    def anew(self) -> bool:
        """Whether what runs once is to run again; known after `make_way`."""
        return self._renewed

    def make_way(
        self,
        objects: Iterable[KubeObject],
        beside: Iterable[KubeObject],
        release: Release | None,
        images: ImagesInUse,
    ) -> None:
        """Delete what is no more, and what must be created again.

        Args:
            objects: As written or returned by the step.
            beside: Our k8s services for endpoints; with a chart they are its own.
            release: The service's chart; what it no longer has helm deletes.
            images: What the service runs.
        """
        if self._directory is None:
            return
        own = [*objects, *([] if release else beside)]
        made = [obj for obj in release.objects if not is_hook(obj)] if release else []
        content = hashed(
            content_hash(own), images.written, images.declared, release and release.content
        )
        wanted = [identity(obj, namespace=self._namespace) for obj in own]
        chart = [identity(obj, namespace=release.namespace) for obj in made] if release else []
        before = self._before or Deployed()
        changed = content != before.content
        self._renewed = self._renewed or changed
        self._deployed = replace(self._deployed, content=content)
        self._begin([*before.objects, *wanted])
        keep = {key(obj) for obj in wanted}
        there = {key(obj): obj for obj in before.objects}
        if self._before and changed:
            self._replaced = pods_of(self._kube, self._service.name, namespaces=self._places)
        self._delete([obj for name, obj in there.items() if name not in keep], awaited=False)
        self._part_from(before, release, keep)
        known = [*(obj for obj in wanted if key(obj) in there), *chart]
        if self._before:
            self._delete([obj for obj in known if self._is_done_anew(obj)], awaited=True)
        self._deployed = replace(self._deployed, objects=tuple(wanted))

    def _part_from(self, before: Deployed, release: Release | None, keep: Collection[str]) -> None:
        """Delete what there is of a chart whose release has another name now, or is none."""
        named = DeployedRelease(name=release.name, namespace=release.namespace) if release else None
        self._deployed = replace(self._deployed, release=named)
        if before.release and before.release != named:
            charted = [obj for obj in before.charted if key(obj) not in keep]
            self._delete(charted, awaited=True)
            forget_release(self._kube, before.release.name, before.release.namespace)

    def note(self, applied: Iterable[KubeObject]) -> None:
        """Take what was applied: an object that is not the same one as before is a change too."""
        if self._directory is None:
            return
        own = {key(obj) for obj in self._deployed.objects}
        found = [(self._identity(obj), str(obj["metadata"].get("uid"))) for obj in applied]
        # A chart may give other names each time, which is no change by itself.
        uids = {key(obj): uid for obj, uid in found if key(obj) in own}
        before = self._before or Deployed()
        same = not self._renewed and uids == before.uids
        self.generation = before.generation if same else new_generation()
        charted = tuple(obj for obj, _ in found if key(obj) not in own)
        self._deployed = replace(
            self._deployed, uids=uids, generation=self.generation, charted=charted
        )
        write_deployed(self._directory, self._service.name, self._deployed)

    def _identity(self, obj: KubeObject) -> KubeObject:
        return identity(obj, namespace=self._namespace)

    def await_routes(self) -> None:
        """Return once requests reach the new pods; call it when these are ready."""
        if self._replaced:
            await_routes(
                self._kube,
                self._service.name,
                self._replaced,
                self._deadline,
                namespaces=self._places,
            )

    @property
    def _places(self) -> set[str] | None:
        """The namespaces of its pods in an existing cluster, which has pods of others too."""
        if not isinstance(self._kube, SharedKube):
            return None
        before = self._before.objects if self._before else ()
        objects = (*before, *self._deployed.objects)
        return {self._namespace, *(obj["metadata"]["namespace"] for obj in objects)} - {""}

    def keep(self, record: DeployedService) -> None:
        """Keep what is needed to restart the service later, from outside of a run."""
        if self._directory:
            self._directory.write(record, self._service.name)

    def ready(self, endpoints: Iterable[Endpoint]) -> None:
        """Keep that the service is ready, for the next run."""
        if self._directory:
            deployed = replace(self._deployed, ready=True, endpoints=tuple(endpoints))
            write_deployed(self._directory, self._service.name, deployed)

    def _begin(self, objects: Iterable[KubeObject]) -> None:
        """Keep what there may be from now on, with nothing of it ready."""
        if self._directory:
            before = self._before or Deployed()
            deployed = Deployed(
                objects=tuple(merged(objects)),
                charted=before.charted,
                release=before.release,
                source=self._source,
            )
            write_deployed(self._directory, self._service.name, deployed)

    def _is_done_anew(self, obj: KubeObject) -> bool:
        """Whether an existing object must go, since applying would not bring it up again."""
        kind, before = obj["kind"], self._before
        if before is None or not before.ready:
            return kind in _WITH_PODS  # what is broken may stay so, whatever was mended around it
        return kind in _RUN_ONCE and self._renewed

    def _delete(self, objects: Collection[KubeObject], *, awaited: bool) -> None:
        going = delete_objects(self._kube, objects, service=self._service.name)
        for path, uid in going if awaited else ():
            from pytest_kindinfra.kube.apply import await_end

            await_end(self._kube.get, path, uid, self._deadline)


def delete_objects(
    kube: Kube, objects: Collection[KubeObject], *, service: str
) -> list[tuple[str, str]]:
    """Delete those of the objects that have the service's label; return their paths and uids.

    An object that another service applied meanwhile has another label, and stays, as does one of
    others in an existing cluster. The end of the rest is not waited for: a namespace may never go.
    """
    paths = [path for obj in objects if (path := _path(kube, obj))]

    def is_of_service(found: KubeObject) -> bool:
        labelled = labelled_service(found["metadata"].get("labels")) == service
        return labelled and kube.is_owned(found)

    going = [(path, kube.delete_if(path, is_of_service)) for path in paths]
    return [(path, uid) for path, uid in going if uid]


def _path(kube: Kube, obj: KubeObject) -> str | None:
    from pytest_kindinfra.kube.discovery import UnknownKindError

    try:
        return kube.path_of(obj, namespace="")
    except UnknownKindError:  # its CRD is gone, and so is the object
        return None


def forget_undeclared(kube: Kube, directory: RunDirectory, declaration: Declaration) -> list[str]:
    """Delete what there is of services that a declaration had and has no more; return their names.

    Services of hooks stay, since a run with other arguments may not load the hook, or be given
    other services by it. So do those of another folder's declaration, and copies of services per
    worker whose worker this run does not have: a later one may.
    """
    declared = {one.name for one in declaration.services}
    copied = {one.name for one in declaration.services if one.per == "worker"}
    gone = [
        (name, deployed)
        for name, deployed in deployed_services(directory)
        if declared_name(name) not in (copied if worker_of(name) else declared)
        and deployed.source == str(declaration.folder)
    ]
    for name, deployed in gone:
        delete_objects(kube, [*deployed.objects, *deployed.charted], service=name)
        if deployed.release:
            forget_release(kube, deployed.release.name, deployed.release.namespace)
        drop_deployed(directory, name)
    return [name for name, _ in gone]


_EXISTING_GRACE = 30.0
"""Seconds for what is missing in an existing cluster: an operator there may be about to make it."""


@dataclass(slots=True)
class _LastSentence:
    """What the API server said last of an object that it does not take yet; empty if it took it."""

    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One service on its way up, and all that its line needs to know.

    Attributes:
        makers: Names what may still bring something that an object of the service lacks.
        said: Shown while objects cannot be applied.
        unready: Whether a need of which less than `ready` is asked is not ready yet.
    """

    service: Service
    cluster: Cluster
    kube: Kube
    images: ImagesInUse
    context: Context
    deadline: Deadline
    renewal: Renewal
    unready: Callable[[], bool] = lambda: False
    makers: Callable[[Missing], Sequence[str]] = lambda _missing: ()
    said: _LastSentence = field(default_factory=_LastSentence)

    @property
    def outlook(self) -> Outlook:
        """What may still change a refusal of the API server, and who hears of it."""
        from pytest_kindinfra.kube.apply import Outlook

        redactor, existing = self.context.tools.redactor, self.context.request.existing
        return Outlook(
            makers=self.makers,
            tell=lambda text: setattr(self.said, "text", redactor.text(text)),
            grace=_EXISTING_GRACE if existing else 0.0,
        )

    @property
    def namespace(self) -> str:
        """Where objects of the service go that name no namespace."""
        context = self.context
        return context.plan.namespaces.get(self.service.name, context.request.namespace)

    @property
    def ports(self) -> dict[str, PortMapping]:
        """Endpoint to its port mapping in this cluster."""
        ports = self.cluster.ports or self.context.plan.ports
        return {one.endpoint: one for one in ports if one.service == self.service.name}
