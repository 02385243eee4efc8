"""`kindinfra snapshot make`, `push` and `pull`: a snapshot for runs on this and other machines.

A snapshot is made of a cluster that holds images and nothing else: no service is deployed into it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.clusters.restore import SnapshotBoot, parts_of, why_none
from pytest_kindinfra.clusters.snapshot import REPOSITORY, misfit, snapshot_key
from pytest_kindinfra.commands.images import new_run, new_tools, own_context, prepare_services
from pytest_kindinfra.commands.stack import end_cluster
from pytest_kindinfra.errors import CancelledError, EngineError, KindInfraError
from pytest_kindinfra.images.build import Builds
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.options import ignored_by
from pytest_kindinfra.references import has_digest, is_reference
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.run.recipe import (
    ClusterTasks,
    ImageTasks,
    add_builds,
    add_cluster,
    add_external,
    add_loads,
    await_tasks,
    close_cluster,
    layers_seen,
)
from pytest_kindinfra.run.tasks import Task, Tasks
from pytest_kindinfra.state.records import PlanMade
from pytest_kindinfra.state.results import BlockedError, text_of
from pytest_kindinfra.state.runnames import new_run_id
from pytest_kindinfra.system.timeline import Deadline, now
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_kindinfra.context import Context, Tools
    from pytest_kindinfra.model import Phase
    from pytest_kindinfra.protocols.snapshots import SnapshotNotes, Snapshots, StoredSnapshot
    from pytest_kindinfra.run.prepare import Prepared


_MB = 1_000_000


_UNUSED = ("keep", "reuse", "cluster_name", "kubeconfig", "context")
"""Options about a cluster that lasts, or was there before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A snapshot that was made, pushed or pulled.

    Attributes:
        done: Which of these.
        reference: The name by which runs find it in the engine.
        remote: The name in a registry, if one took part.
        size: Bytes beyond those of its node image.
        seconds: How long it took.
        images: References of the images in it; empty if that is not known.
    """

    done: Literal["made", "pushed", "pulled"]
    reference: str
    remote: str | None
    size: int
    seconds: float
    images: tuple[str, ...]

    @property
    def line(self) -> str:
        """What is shown of it."""
        way = {"made": "", "pushed": f" to {self.remote}", "pulled": f" from {self.remote}"}
        images = f", with {', '.join(self.images)}" if self.images else ""
        size = f"{self.size / _MB:.0f} MB"
        return (
            f"{self.done} {self.reference}{way[self.done]}  {size} in {self.seconds:.1f} s{images}"
        )

    @property
    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "reference": self.reference,
            "remote": self.remote,
            "bytes": self.size,
            "seconds": round(self.seconds, 1),
            "images": list(self.images),
        }


def make_snapshot(
    services: Sequence[str], *, save: Path | None, progress: Callable[[Phase, bool], None]
) -> Shared:
    """Boot a cluster, load the images of services into it, leave a snapshot, and delete it.

    Images are built or pulled if the engine does not have them. A snapshot that fits the same
    clusters is replaced.

    Args:
        services: Their names; none means all that are declared.
        save: A file that gets an archive of it, for `docker load`.
        progress: Called with each phase at its start (False) and end (True), from threads.

    Raises:
        DeclarationError: With all problems.
        KindInfraError: It could not be made; nothing is left but the logs.
    """
    began, run_id = now(), new_run_id()
    ignored = ignored_by("command") | frozenset(_UNUSED)
    door = Door(purpose="run", run_id=run_id, ignored=ignored)
    prepared = prepare_services(
        declaration_folder(Path.cwd()), services or None, options={}, door=door
    )
    tools = new_tools(prepared, progress=progress)
    snapshots = _wanted(prepared, tools)
    if why := why_none(prepared.request, prepared.plan.services):
        msg = f"clusters of this declaration never boot from a snapshot: {why}"
        raise KindInfraError(msg)
    if save is not None:
        _make_folder(save)
    with new_run(prepared) as run:
        context = own_context(_emptied(prepared), tools=tools, run=run)
        run.settle(PlanMade.of(prepared.plan, engine=tools.engine.name))
        try:
            name, images = _make(context, snapshots)
        except (KindInfraError, OSError) as error:
            text = tools.redactor.text(str(error))
            msg = f"{text}\nlogs and details: {run.path}"
            raise KindInfraError(msg) from error
        finally:
            end_cluster(context)
    deadline = Deadline.after(_seconds(prepared), option="--kindinfra-timeout")
    if save is not None:
        tools.engine.save(name, save, deadline)
    size = found.size if (found := snapshots.find(name, deadline)) else 0
    return Shared(
        done="made",
        reference=name,
        remote=None,
        size=size,
        seconds=now() - began,
        images=images,
    )


def push_snapshot(remote: str, *, say: Callable[[str], None]) -> Shared:
    """Push the snapshot that fits the clusters of this declaration to a registry.

    Args:
        remote: Its name there.
        say: Gets lines for the user, before anything is sent.

    Raises:
        KindInfraError: There is none, it holds credentials, or the registry does not take it.
    """
    began = now()
    if not is_reference(remote) or has_digest(remote):
        raise KindInfraError(_no_name(remote))
    moving = _Moving.here()
    stored = moving.stored()
    if stored.notes is None:
        msg = f'snapshot "{stored.reference}" does not say how it was made, and is not pushed'
        raise KindInfraError(msg)
    if stored.notes.credentials:
        raise KindInfraError(_secret(stored.reference, stored.notes.credentials))
    for line in _warning(remote, stored.notes):
        say(line)
    moving.push(remote)
    return moving.shared("pushed", stored, remote, began)


def pull_snapshot(remote: str) -> Shared:
    """Pull a snapshot from a registry, for the runs of this declaration on this machine.

    Args:
        remote: Its name there.

    Raises:
        KindInfraError: It could not be pulled, or does not fit the clusters of this declaration.
    """
    began = now()
    if not is_reference(remote):
        raise KindInfraError(_no_name(remote))
    moving = _Moving.here()
    return moving.shared("pulled", moving.pull(remote), remote, began)


def _no_name(remote: str) -> str:
    return f'"{remote}" is not a valid image name; use a name such as registry.example/ci:shop'


@dataclass(frozen=True, slots=True)
class _Moving:
    """The snapshot that fits a declaration, and who moves it."""

    prepared: Prepared
    tools: Tools
    snapshots: Snapshots
    parts: dict[str, str]

    @classmethod
    def here(cls) -> _Moving:
        """Return that of the declaration of the current folder."""
        ignored = ignored_by("command") | {"kubeconfig", "context"}
        door = Door(purpose="plan", run_id="RUN_ID", ignored=ignored)
        prepared = prepare_services(declaration_folder(Path.cwd()), [], options={}, door=door)
        tools = make_tools(prepared.settings.engine)
        snapshots = _wanted(prepared, tools)
        deadline = Deadline.after(_seconds(prepared))
        tools.engine.check(deadline)
        version = tools.provider.check(deadline)
        parts = parts_of(prepared.request, snapshots, version, deadline)
        return cls(prepared, tools, snapshots, parts)

    @property
    def name(self) -> str:
        """The name by which runs find it."""
        return f"{REPOSITORY}:{snapshot_key(self.parts)}"

    def deadline(self) -> Deadline:
        """Return the deadline of a piece of work that begins now."""
        return Deadline.after(_seconds(self.prepared), option="--kindinfra-timeout")

    def stored(self) -> StoredSnapshot:
        """Return the snapshot that is to be pushed."""
        if found := self.snapshots.find(self.name, self.deadline()):
            return replace(found, reference=self.name)
        msg = (
            f'there is no snapshot "{self.name}", which would fit the clusters of this '
            "declaration\nTo fix: kindinfra snapshot make"
        )
        raise KindInfraError(msg)

    def push(self, remote: str) -> None:
        """Push it under another name, which the engine forgets then."""
        self.tools.engine.tag(self.name, remote, self.deadline())
        try:
            self.tools.engine.push(remote, self.deadline())
        finally:
            self._forget(remote)

    def pull(self, remote: str) -> StoredSnapshot:
        """Pull an image, and name it as runs look for it if it is a snapshot that fits."""
        before = self.snapshots.image_id(remote, self.deadline())
        self.tools.engine.pull(remote, self.deadline())
        why, found = "it is no image", self.snapshots.find(remote, self.deadline())
        if found:
            deadline = self.deadline()
            why = misfit(
                found,
                parts=self.parts,
                now=now(),
                image_id=lambda name: self.snapshots.image_id(name, deadline),
            )
        if found is None or why:
            if before is None:
                self._forget(remote)
            msg = (
                f'snapshot "{remote}" does not fit and is not used: {why}\n'
                "To fix: kindinfra snapshot make, and kindinfra snapshot push"
            )
            raise KindInfraError(msg)
        self.tools.engine.tag(remote, self.name, self.deadline())
        self._forget(remote)
        return replace(found, reference=self.name)

    def _forget(self, remote: str) -> None:
        """Remove a name, so that the snapshot is gone when its own name is removed."""
        if remote != self.name:
            with suppress(KindInfraError):
                self.tools.engine.remove(remote, self.deadline())

    def shared(
        self,
        done: Literal["pushed", "pulled"],
        stored: StoredSnapshot,
        remote: str,
        began: float,
    ) -> Shared:
        """Return what was done."""
        return Shared(
            done=done,
            reference=stored.reference,
            remote=remote,
            size=stored.size,
            seconds=now() - began,
            images=stored.notes.images if stored.notes else (),
        )


def _wanted(prepared: Prepared, tools: Tools) -> Snapshots:
    """Return who keeps the snapshots that runs of a declaration use."""
    if prepared.request.snapshot == "off":
        where = prepared.settings.sources.get("snapshot", "[cluster]")
        msg = f'{where}: snapshot = "off", so no run would use it\nTo fix: snapshot = "auto"'
        raise KindInfraError(msg)
    if tools.snapshots is None:
        msg = f"snapshots need Docker, but the engine is {tools.engine.name}"
        raise EngineError(msg)
    return tools.snapshots


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = (
            f'"{error.filename}" cannot be written: {error.strerror}\n'
            "To fix: give another file with --save"
        )
        raise KindInfraError(msg) from error


def _seconds(prepared: Prepared) -> float:
    return prepared.settings.timeout


def _emptied(prepared: Prepared) -> Prepared:
    """Return how to make a cluster that has the images of a run, and nothing else of it.

    It has no namespace of its own. Its images come without a registry, which would announce
    itself there.
    """
    load = "auto" if prepared.request.load == "registry" else prepared.request.load
    request = replace(prepared.request, namespace="default", load=load, snapshot="off")
    return replace(prepared, request=request)


def _make(context: Context, snapshots: Snapshots) -> tuple[str, tuple[str, ...]]:
    """Bring up the cluster with its images; return the snapshot's name, and those of the images."""
    builds = Builds(context)
    bare = replace(context, plan=replace(context.plan, services=(), ports=()))
    with Tasks() as tasks:
        cluster = add_cluster(tasks, bare, {}, preflight=builds.find)
        try:
            images = _add_images(tasks, context, builds, cluster)
            loads: list[Task[Any]] = [*images.external.values(), *images.loaded.values()]
            parts: list[Task[Any]] = [cluster.ready, *images.built.values(), *loads]
            await_tasks(context, parts)
            _raise_failures(parts)
        except BaseException:
            context.cancelled.set()  # programs are ended, then threads
            raise
        finally:
            close_cluster(cluster)
        builds.remember(images.brought, layers_seen(cluster))
        boot = SnapshotBoot(bare, cluster.checked.result())
        loaded = tuple(dict.fromkeys(name for task in loads if (name := task.made)))
        return boot.make(snapshots, cluster.created.result(), loaded), loaded


def _add_images(
    tasks: Tasks, context: Context, builds: Builds, cluster: ClusterTasks
) -> ImageTasks:
    """Build, pull and load images while the cluster boots; those of registries are pulled first."""
    pulled = tasks.add("the images of registries", partial(_pull, context), after=[cluster.checked])
    external = add_external(tasks, context, replace(cluster, checked=pulled))
    built = add_builds(tasks, context, builds, after=cluster.checked)
    return ImageTasks(built, add_loads(tasks, context, built, cluster), external)


def _pull(context: Context) -> str:
    """Have the engine pull what it lacks of the images that manifests name."""
    engine = context.tools.engine
    wanted = dict.fromkeys(one for found in context.plan.external.values() for one in found)
    there = engine.image_ids(list(wanted), context.deadline())
    for reference in wanted:
        if reference not in there:
            with context.tools.timeline.span("pull", reference):
                engine.pull(reference, context.deadline())
    return ""


def _raise_failures(tasks: Iterable[Task[Any]]) -> None:
    """Raise if some failed, with each cause once."""
    errors = [(task.name, error) for task in tasks if (error := task.error)]
    if errors:
        consequences = (BlockedError, CancelledError)
        roots = [one for one in errors if not isinstance(one[1], consequences)] or errors
        texts = (f"{name} failed:\n{text_of(error)}" for name, error in roots)
        raise KindInfraError("\n".join(dict.fromkeys(texts)))


def _secret(reference: str, credentials: Sequence[str]) -> str:
    return (
        f'snapshot "{reference}" holds credentials, and is not pushed: {", ".join(credentials)}\n'
        "To fix: remove them from the environment or the kind config, then kindinfra snapshot make"
    )


def _warning(remote: str, notes: SnapshotNotes) -> Iterator[str]:
    """Yield what is in a snapshot that others should not read."""
    images = ", ".join(notes.images) or "those that were loaded when it was made"
    yield (
        f"warning: all users who can read {remote} get the keys of the cluster's certificate "
        "authority and can act as administrator of each cluster that comes from this snapshot; "
        "push it to a private registry only"
    )
    yield f"images in it: {images}"
