"""Stand-ins for what is outside: programs, an engine, a provider of clusters, time.

Written by hand to the protocols of the project, so that tests assert on what came out and not
on who called whom.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import RUN_MOUNT
from pytest_kindinfra.context import Tools
from pytest_kindinfra.engines.common import asked
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.podman import Podman
from pytest_kindinfra.errors import ClusterError, CommandError, EngineError
from pytest_kindinfra.model import ObservedCluster, Registry
from pytest_kindinfra.protocols import ImageContent, Packed, StoredSnapshot
from pytest_kindinfra.references import name_in_node, normalise
from pytest_kindinfra.state.locks import is_locked
from pytest_kindinfra.system.runner import Completed, Runner
from pytest_kindinfra.system.timeline import Deadline, Timeline, monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    import pytest

    from pytest_kindinfra.protocols import (
        BuildRequest,
        Engine,
        Finding,
        ImageSize,
        NodeContainer,
        OwnImage,
        SnapshotNotes,
    )
    from pytest_kindinfra.system.pipes import Copy

Argv = tuple[str, ...]


def eventually(condition: Callable[[], object], *, within: float = 60) -> bool:
    """Whether `condition` becomes true; a test waits for what it needs, and no longer."""
    return bool(wait_until(lambda: bool(condition()), Deadline.after(within), every=0.005))


class DeadlineWhen(Deadline):
    """A deadline that passes when something has happened, however slow the machine is."""

    def __init__(self, condition: Callable[[], object]) -> None:
        super().__init__(monotonic() + 60)
        object.__setattr__(self, "condition", condition)

    condition: Callable[[], object]

    @property
    def left(self) -> float:
        """Seconds until it passes: none as soon as the condition holds."""
        return 0.0 if self.condition() else 60.0


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the system refuse to look into a folder, as into another user's; root may look."""
    stat = os.stat

    def refuse(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if isinstance(path, str | os.PathLike) and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *args, **more)

    monkeypatch.setattr(os, "stat", refuse)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of `FakeRunner.run`."""

    argv: Argv
    deadline: Deadline
    what: str
    env: Mapping[str, str]
    cwd: Path | None
    log: Path | None


@dataclass(frozen=True, kw_only=True)
class Piped:
    """One call of `FakeRunner.pipe`."""

    source: Argv
    sinks: tuple[Argv, ...]
    what: str
    copy: Copy | None


@dataclass
class FakeRunner(Runner):
    """Runs nothing: the handler says what a program prints, or gives its whole result.

    Attributes:
        handler: From argv to what is printed.
        on_pipe: Called with each pipe; may raise, and may say how many bytes each sink got.
        calls: What was run so far.
        pipes: What was piped so far.
    """

    handler: Callable[[Argv], str | Completed] = lambda _argv: ""
    on_pipe: Callable[[Piped], tuple[int, ...] | None] = lambda _pipe: None
    calls: list[Call] = field(default_factory=list)
    pipes: list[Piped] = field(default_factory=list)

    @property
    def argvs(self) -> list[Argv]:
        """The commands that were run, in order."""
        return [call.argv for call in self.calls]

    def run(
        self,
        argv: Sequence[str],
        *,
        deadline: Deadline,
        what: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        check: bool = True,
    ) -> Completed:
        words = tuple(argv)
        self.calls.append(
            Call(argv=words, deadline=deadline, what=what, env=env or {}, cwd=cwd, log=log)
        )
        answer = self.handler(words)
        result = answer if isinstance(answer, Completed) else Completed(answer, "")
        if check and result.exit_code:
            output = result.stdout + result.stderr
            raise CommandError(words, exit_code=result.exit_code, output=output, what=what)
        return result

    def pipe(
        self,
        source: Sequence[str],
        sinks: Sequence[Sequence[str]],
        *,
        deadline: Deadline,
        what: str,
        copy: Copy | None = None,
    ) -> tuple[int, ...]:
        deadline.check()
        ends = tuple(tuple(sink) for sink in sinks)
        piped = Piped(source=tuple(source), sinks=ends, what=what, copy=copy)
        self.pipes.append(piped)
        return self.on_pipe(piped) or (0,) * len(ends)


@dataclass
class FakeEngine:
    """An engine whose builds take no time.

    Attributes:
        images: Reference to id.
        on_build: Called with each build before its image is there; may block or raise.
        builds: What was built so far.
        on_load: Called with each archive: returns the name of what is in it, or raises.
        loads: Archives that were loaded so far.
        deadlines: Those of the builds.
        own: What `own_images` returns.
        in_use: References that cannot be removed.
        removed: References that were removed so far.
        sizes: Reference to size.
        on_push: Called with each name that is pushed: returns what is printed, or raises.
        pushed: Names that were pushed so far.
        on_pull: Called with each reference that is pulled; may raise.
        pulled: References that were pulled so far.
        on_ask: Called with each name that a registry is asked for: returns its digest, or raises.
        asked: Names that registries were asked for so far.
        builders: Builders of buildx, to whether they share the engine's images.
        version: What `check` says; an exception is raised instead.
        name: What the user calls it.
        foreign: Build options that it does not know.
        holds: What the image of a build holds: all that it was built from, unless a test says less.
        contents: Id to what the image holds, where that is not the id.
    """

    images: dict[str, str] = field(default_factory=dict)
    on_build: Callable[[BuildRequest], object] = lambda _request: None
    builds: list[BuildRequest] = field(default_factory=list)
    version: str | Exception = "29.0"
    on_load: Callable[[Path], str] = lambda archive: archive.read_text()
    loads: list[Path] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)
    own: list[OwnImage] = field(default_factory=list)
    in_use: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    name: str = "docker"
    foreign: tuple[str, ...] = ()
    sizes: dict[str, ImageSize] = field(default_factory=dict)
    on_push: Callable[[str], str] = lambda _name: "5f70bf18a086: Pushed\n"
    pushed: list[str] = field(default_factory=list)
    on_pull: Callable[[str], object] = lambda _reference: None
    pulled: list[str] = field(default_factory=list)
    on_ask: Callable[[str], str | None] = lambda _name: None
    asked: list[str] = field(default_factory=list)

    builders: dict[str, bool] = field(default_factory=dict)

    holds: Callable[[BuildRequest], str] = lambda request: request.reference.rpartition("-")[0]
    contents: dict[str, str] = field(default_factory=dict)

    @property
    def built(self) -> list[str]:
        """The names by what they were built from that builds were to get."""
        return [one.reference.rpartition("-")[0] for one in self.builds]

    def check(self, deadline: Deadline) -> str:
        deadline.check()
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def disk_root(self, environ: Mapping[str, str]) -> Path | None:
        return self.real.disk_root(environ)

    def host_problem(self, environ: Mapping[str, str]) -> str | None:
        return self.real.host_problem(environ)

    def examine(self, deadline: Deadline) -> Iterator[Finding]:
        yield asked("engine", lambda: f"{self.name} {self.check(deadline)}")

    @property
    def real(self) -> Engine:
        """The engine of that name, for what it knows without its program."""
        return Podman(FakeRunner()) if self.name == "podman" else Docker(FakeRunner())

    @property
    def runs_registries(self) -> bool:
        return self.real.runs_registries

    @property
    def stops_slowly(self) -> bool:
        return self.real.stops_slowly

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        return tuple(option for option in options if option in self.foreign)

    def shares_images(self, builder: str, deadline: Deadline) -> bool:
        deadline.check()
        if self.name == "podman" or builder not in self.builders:
            return self.real.shares_images(builder, deadline)
        return self.builders[builder]

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        deadline.check()
        return {ref: self.images[ref] for ref in references if ref in self.images}

    def image_contents(
        self, references: Sequence[str], deadline: Deadline
    ) -> dict[str, ImageContent]:
        found = self.image_ids(references, deadline)
        return {
            reference: ImageContent(
                digest=sha256(self.contents.get(image, image).encode()).hexdigest(),
                names=tuple(name for name, one in self.images.items() if one == image),
            )
            for reference, image in found.items()
        }

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        deadline.check()
        return {ref: self.sizes[ref] for ref in references if ref in self.sizes}

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        self.deadlines.append(deadline)
        self.on_build(request)
        self.builds.append(request)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"built {request.reference}\n")
        image = f"sha256:{request.reference}"
        self.images[request.reference] = image
        self.contents[image] = self.holds(request)

    def load(self, archive: Path, deadline: Deadline) -> str:
        deadline.check()
        name = self.on_load(archive)
        self.loads.append(archive)
        self.images[name] = f"sha256:{name}"
        return name

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        deadline.check()
        self.images[name] = self.images[reference]

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        deadline.check()
        archive.write_text(reference)

    def pull(self, reference: str, deadline: Deadline) -> None:
        deadline.check()
        self.on_pull(reference)
        self.pulled.append(reference)
        self.images[reference] = f"sha256:{reference}"

    def push(self, name: str, deadline: Deadline) -> str:
        deadline.check()
        assert name in self.images
        printed = self.on_push(name)
        self.pushed.append(name)
        return printed

    def digest_of(self, name: str, deadline: Deadline) -> str | None:
        deadline.check()
        self.asked.append(name)
        return self.on_ask(name)

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        deadline.check()
        return self.own

    def remove(self, reference: str, deadline: Deadline) -> None:
        deadline.check()
        if reference in self.in_use:
            raise CommandError(["rm", reference], exit_code=1, output="in use")
        self.removed.append(reference)
        self.images.pop(reference, None)

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        return ("save", *references)


def takes_images(provider: FakeProvider) -> Callable[[Piped], None]:
    """Return what `FakeRunner.on_pipe` does where kind nodes list what is sent to them."""

    def take(piped: Piped) -> None:
        for _, node in piped.sinks:
            provider.images.setdefault(node, set()).update(map(normalise, piped.source[1:]))

    return take


@dataclass
class FakeProvider:
    """A provider whose clusters are names, and a kubeconfig that leads wherever a test says.

    Attributes:
        clusters: Name to the names of its kind nodes.
        images: Kind node to the full references that it has.
        blobs: Kind node to the digests in its content store.
        on_create: Called with the name and the kubeconfig's path; may raise.
        configs: Name to the kind config that it was made with.
        silent: Kind nodes that take no images yet.
        on_pull: Called with kind node and name at each pull; may raise.
        runs: Name to the run directory mounted in it.
        stopped: Names of clusters whose kind nodes do not run.
        ended: Kind node to what is known of its end.
        machine_ids: Kind node to the id that it says it has.
        version: What `check` says; an exception is raised instead.
    """

    clusters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: dict[str, set[str]] = field(default_factory=dict)
    blobs: dict[str, set[str]] = field(default_factory=dict)
    on_create: Callable[[str, Path], object] = lambda _name, _kubeconfig: None
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    on_pull: Callable[[str, str], object] = lambda _node, _name: None
    runs: dict[str, Path] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    machine_ids: dict[str, str] = field(default_factory=dict)
    version: str | Exception = "0.31.0"

    def check(self, deadline: Deadline) -> str:
        deadline.check()
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def exists(self, name: str, deadline: Deadline) -> bool:
        deadline.check()
        return name in self.clusters

    def observe(self, name: str, deadline: Deadline) -> ObservedCluster | None:
        deadline.check()
        if name not in self.clusters:
            return None
        mappings = [
            mapping
            for node in self.configs.get(name, {}).get("nodes") or ()
            for mapping in node.get("extraPortMappings") or ()
        ]
        mounts = [
            Path(mount["hostPath"])
            for node in self.configs.get(name, {}).get("nodes") or ()
            for mount in node.get("extraMounts") or ()
            if mount["containerPath"] == RUN_MOUNT
        ]
        return ObservedCluster(
            nodes=self.clusters[name],
            running=name not in self.stopped,
            folder=mounts[0] if mounts else self.runs.get(name),
            host_ports={one["containerPort"]: one["hostPort"] for one in mappings},
        )

    def create(
        self, name: str, *, config: dict[str, Any], kubeconfig: Path, deadline: Deadline
    ) -> tuple[str, ...]:
        deadline.check()
        self.configs[name] = config
        self.clusters[name] = (f"{name}-control-plane",)
        self.on_create(name, kubeconfig)
        return self.clusters[name]

    def nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        deadline.check()
        return self.clusters[name]

    def image_ready_nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        return tuple(node for node in self.nodes(name, deadline) if node not in self.silent)

    def machine_id(self, node: str, deadline: Deadline) -> str:
        deadline.check()
        return self.machine_ids[node]

    def await_end(self, node: str, deadline: Deadline) -> str:
        wait_until(lambda: node in self.ended, deadline, every=0.005)
        return self.ended[node]

    def run_directories(self, deadline: Deadline) -> dict[str, Path]:
        deadline.check()
        return dict(self.runs)

    def images_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        deadline.check()
        return frozenset(self.images.get(node, ()))

    def blobs_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        deadline.check()
        return frozenset(self.blobs.get(node, ()))

    def forget_images(self, node: str, references: Sequence[str], deadline: Deadline) -> None:
        deadline.check()
        self.images.get(node, set()).difference_update(map(name_in_node, references))

    def name_image(self, node: str, name: str, reference: str, deadline: Deadline) -> None:
        deadline.check()
        assert normalise(name) in self.images[node]
        self.images[node].add(name_in_node(reference))

    def pull(self, node: str, name: str, deadline: Deadline) -> str:
        deadline.check()
        self.on_pull(node, name)
        self.images.setdefault(node, set()).add(name)
        return ""

    def import_command(self, node: str) -> tuple[str, ...]:
        return ("import", node)

    def node_address(self, node: str, deadline: Deadline, *, ipv6: bool = False) -> str:
        deadline.check()
        return ("::1" if ipv6 else "127.0.0.1") if node else ""

    def export_logs(self, name: str, folder: Path, deadline: Deadline) -> None:
        deadline.check()
        folder.mkdir(parents=True)
        (folder / "name").write_text(name)

    def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
        deadline.check()
        kubeconfig.unlink(missing_ok=True)
        self.clusters.pop(name, None)

    def delete_command(self, name: str) -> Sequence[str]:
        return ("delete", name)


@dataclass
class FakeRegistries:
    """One registry of the user's and one of ours, whose content is the engine's pushes.

    Attributes:
        engine: Who pushes.
        mine: The address of the user's own.
        opened: Kind nodes that may pull, in order.
        there: Ours runs.
        replaced: Names under which somebody else has pushed an image, to its id.
    """

    engine: FakeEngine = field(default_factory=FakeEngine)
    mine: str = "localhost:5001"
    opened: list[str] = field(default_factory=list)
    there: bool = False
    replaced: dict[str, str] = field(default_factory=dict)

    def find(self, address: str, deadline: Deadline) -> Registry:
        deadline.check()
        if address != self.mine:
            msg = f"nothing at {address}"
            raise ClusterError(msg)
        return Registry(container="mine", address=address, port=5000)

    def run(self, deadline: Deadline) -> Registry:
        deadline.check()
        self.there = True
        return Registry(container="ours", address="localhost:20001", port=5000)

    def open_to(self, node: str, registry: Registry, folder: Path, deadline: Deadline) -> None:
        deadline.check()
        assert folder.is_dir()
        assert registry.port
        self.opened.append(node)

    def digest_of(self, name: str, image_id: str, deadline: Deadline) -> str | None:
        deadline.check()
        if name not in self.engine.pushed or self.replaced.get(name, image_id) != image_id:
            return None
        return f"sha256:{name[-12:]}"

    def remove(self, deadline: Deadline) -> bool:
        deadline.check()
        was, self.there = self.there, False
        return was


@dataclass
class FakeSnapshots:
    """Snapshots of kind nodes that are names, in an engine without containers.

    Attributes:
        provider: Gets the clusters that are restored.
        stored: Name to snapshot.
        ids: Reference of an image to its id.
        admin: The admin's kubeconfig of a restored kind node.
        on_restore: Called with the container that is wanted; may raise.
        on_pack: Called with the kind node; may raise.
        answers: What `run_in` says, one after the other; then always 0.
        silent: The engine does not answer.
    """

    provider: FakeProvider
    stored: dict[str, StoredSnapshot] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    admin: bytes = b""
    on_restore: Callable[[NodeContainer], object] = lambda _node: None
    on_pack: Callable[[str], object] = lambda _node: None
    answers: list[tuple[int, str]] = field(default_factory=list)
    silent: bool = False
    packed: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def kind_of_engine(self, deadline: Deadline) -> str:
        deadline.check()
        if self.silent:
            msg = "the Docker engine: no answer"
            raise EngineError(msg)
        return "x86_64 cgroup2 overlay2"

    def all(self, deadline: Deadline) -> list[StoredSnapshot]:
        deadline.check()
        return list(self.stored.values())

    def find(self, reference: str, deadline: Deadline) -> StoredSnapshot | None:
        deadline.check()
        return self.stored.get(reference)

    def image_id(self, reference: str, deadline: Deadline) -> str | None:
        deadline.check()
        return self.ids.get(reference)

    def pack(self, node: str, own: Container[str], *, lock: Path, deadline: Deadline) -> Packed:
        deadline.check()
        assert is_locked(lock)
        assert RUN_MOUNT in own
        self.on_pack(node)
        self.packed.append(node)
        image = "kindest/node:v1"
        return Packed(container=node, node_image=image, node_image_id="sha256:1", template={})

    def keep(
        self, packed: Packed, reference: str, notes: SnapshotNotes, deadline: Deadline
    ) -> None:
        deadline.check()
        self.stored[reference] = StoredSnapshot(
            reference=reference, id=f"sha256:{packed.container}", size=1_000_000, notes=notes
        )

    def discard(self, packed: Packed) -> None:
        self.discarded.append(packed.container)

    def remove_unfinished(self, lock: Path, deadline: Deadline) -> None:
        deadline.check()
        assert is_locked(lock)
        self.unfinished.clear()

    def restore(self, snapshot: StoredSnapshot, node: NodeContainer, deadline: Deadline) -> bytes:
        deadline.check()
        assert snapshot.reference in self.stored
        self.provider.clusters[node.cluster] = (node.name,)
        self.on_restore(node)
        return self.admin

    def run_in(self, node: str, words: Sequence[str], deadline: Deadline) -> tuple[int, str]:
        deadline.check()
        assert [node, *words]
        return self.answers.pop(0) if self.answers else (0, "")

    def remove(self, snapshot: StoredSnapshot, deadline: Deadline) -> None:
        deadline.check()
        if snapshot.id in self.ids.values():
            msg = "the Docker engine: a container uses it"
            raise EngineError(msg)
        del self.stored[snapshot.reference]


def fake_tools(provider: FakeProvider | None = None, **parts: Any) -> Tools:
    """Return tools that are fakes, but for the given ones; one fake knows clusters and nodes."""
    fake = FakeProvider() if provider is None else provider
    given: dict[str, Any] = {
        "engine": FakeEngine(),
        "provider": fake,
        "creator": fake,
        "kind_nodes": fake,
        "runner": FakeRunner(),
        "timeline": Timeline(),
        "registries": FakeRegistries(),
    }
    return Tools(**(given | parts))
