"""The recipe: what a run brings up, in what order, and how it ends.

Each image and each service is one straight line of steps in a thread of its own, which waits
for just what it needs; nothing here waits for "all builds" or "all loads". Results go to the run
directory, written once, and nothing flows back. It must not know pytest or a concrete engine.
"""

from __future__ import annotations

import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import CancelledError, KindInfraError, NeedFailedError, last_lines
from pytest_kindinfra.steps.build import BuildSlots, build_image
from pytest_kindinfra.steps.create import create_cluster
from pytest_kindinfra.steps.deploy import (
    ImagesInUse,
    Target,
    apply_objects,
    node_port_services,
    run_function,
)
from pytest_kindinfra.steps.expose import prove_endpoint
from pytest_kindinfra.steps.load import ImageLoader
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.model import (
        BuiltImage,
        Cluster,
        Endpoint,
        Image,
        KubeObject,
        Plan,
        Service,
    )
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Who does the work."""

    engine: Engine
    provider: Provider
    runner: Runner
    timeline: Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run wants beyond its plan.

    Attributes:
        cluster: The name of the cluster to make.
        run_id: The run's id, a label on all that is made.
        namespace: Where services go.
        build_jobs: Builds at a time.
        timeout: Seconds for the cluster, for each build, and for each service unless it says.
        kind_config: The user's kind config, parsed.
        node_image: The node image, None for kind's own.
        tuning: Boot faster than kind does.
        folder: Where relative paths start.
    """

    cluster: str
    run_id: str
    namespace: str
    build_jobs: int
    timeout: float
    kind_config: dict[str, Any] | None
    node_image: str | None
    tuning: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far a service is: each future is resolved once, with nothing or with the failure."""

    applied: Future[None] = field(default_factory=Future)
    started: Future[None] = field(default_factory=Future)
    ready: Future[None] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        for future in (self.applied, self.started, self.ready):
            if not future.done():
                future.set_exception(error)


def bring_up(
    plan: Plan, request: Request, *, tools: Tools, run: RunDirectory, cancelled: threading.Event
) -> None:
    """Bring up what `plan` says and write each result to `run`; returns when all is decided.

    A failure is a result too: it is written for the service and for those that need it.
    """
    provision = _Provision(plan, request, tools, run, cancelled)
    tasks = len(plan.images) * 2 + len(plan.services) + 32
    with ThreadPoolExecutor(tasks, thread_name_prefix="kindinfra") as pool:
        provision.start(pool)


class _Provision:
    """One bring-up: the futures of everything that is on its way."""

    def __init__(
        self,
        plan: Plan,
        request: Request,
        tools: Tools,
        run: RunDirectory,
        cancelled: threading.Event,
    ) -> None:
        self._plan = plan
        self._request = request
        self._tools = tools
        self._run = run
        self._cancelled = cancelled
        self._slots = BuildSlots(request.build_jobs)
        self._reached = {service.name: _Reached() for service in plan.services}

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Start a thread for each thing to do; each waits for what it needs."""
        self._pool = pool
        self._created: Future[tuple[Cluster, ImageLoader]] = pool.submit(self._create)
        self._answering: Future[Kube] = pool.submit(self._await_answer)
        self._built: dict[str, Future[BuiltImage]] = {}
        for image in self._plan.images:  # bases come first
            self._built[image.name] = pool.submit(self._build, image)
        self._loaded: dict[str, Future[str]] = {
            image.name: pool.submit(self._load, image.name)
            for image in self._plan.images
            if any(image.name in uses.values() for uses in self._plan.image_uses.values())
        }
        external = dict.fromkeys(ref for refs in self._plan.external.values() for ref in refs)
        self._external = {ref: pool.submit(self._load_external, ref) for ref in external}
        for service in self._plan.services:
            pool.submit(self._bring_up, service)

    # -- the lines, each in its own thread --------------------------------------------------

    def _create(self) -> tuple[Cluster, ImageLoader]:
        tools = self._tools
        with tools.timeline.span("create", self._request.cluster):
            cluster = create_cluster(
                self._request.cluster,
                plan=self._plan,
                base=self._request.kind_config,
                node_image=self._request.node_image,
                tuning=self._request.tuning,
                run=self._run.path,
                folder=self._request.folder,
                provider=tools.provider,
                deadline=self._deadline(),
            )
        loader = ImageLoader(
            cluster.nodes,
            engine=tools.engine,
            provider=tools.provider,
            runner=tools.runner,
            timeline=tools.timeline,
        )
        return cluster, loader

    def _await_answer(self) -> Kube:
        """Wait until the cluster takes pods, and write its result."""
        from pytest_kindinfra.kube import Kube

        with self._result("cluster"):
            cluster, _ = self._created.result()
            kube = Kube(cluster.kubeconfig)
            deadline = self._deadline()
            with self._tools.timeline.span("wait", cluster.name):
                kube.wait_for_api(deadline)
                kube.ensure_namespace(self._request.namespace, deadline, {})
                kube.wait_for_nodes(deadline)
                kube.wait_for_dns(deadline)
            self._write_cluster(cluster)
            return kube

    def _build(self, image: Image) -> BuiltImage:
        bases = [self._built[name].result() for name in image.needs]
        built = build_image(
            image,
            bases=bases,
            folder=self._request.folder,
            output=self._run.path / "build",
            engine=self._tools.engine,
            slots=self._slots,
            timeline=self._tools.timeline,
            deadline=self._deadline(),
        )
        self._run.write(f"image-{image.name}", asdict(built))
        return built

    def _load(self, name: str) -> str:
        built = self._built[name].result()
        _, loader = self._created.result()
        loader.load(name, built.reference, self._deadline())
        return built.reference

    def _load_external(self, reference: str) -> bool:
        """Load it if the engine has it; else the kind node may pull it."""
        deadline = self._deadline()
        if not self._tools.engine.image_ids([reference], deadline):
            return False
        _, loader = self._created.result()
        loader.load(reference, reference, deadline)
        return True

    def _bring_up(self, service: Service) -> None:
        reached = self._reached[service.name]
        try:
            with self._result(f"service-{service.name}", service.name):
                kube = self._answering.result()
                images = self._images_of(service)
                for need in service.needs:
                    self._await_need(service, need.name, need.level)
                endpoints = self._deploy(service, kube, images, reached)
                record = [asdict(endpoint) for endpoint in endpoints]
                self._write_service(service, record)
                reached.ready.set_result(None)
        except BaseException as error:
            reached.fail(error)
            raise

    # -- parts of those lines -----------------------------------------------------------------

    def _deploy(
        self, service: Service, kube: Kube, images: ImagesInUse, reached: _Reached
    ) -> tuple[Endpoint, ...]:
        timeline, name = self._tools.timeline, service.name
        target = Target(kube=kube, namespace=self._request.namespace, run_id=self._request.run_id)
        deadline = Deadline.after(service.timeout or self._request.timeout, self._cancelled)
        objects = self._plan.objects[name]
        if service.run:
            with timeline.span("run", name):
                view = Stack(self._run, waits=False)
                objects += run_function(service, view, folder=self._request.folder)
        if objects:
            with timeline.span("deploy", name):
                wanted = objects + self._node_ports(service)
                applied = apply_objects(
                    service, wanted, images=images, target=target, deadline=deadline
                )
        else:
            applied = ()
        reached.applied.set_result(None)
        with timeline.span("wait", name):
            self._await_ready(service, applied, target, deadline, reached)
            return self._prove(service, deadline)

    def _await_ready(
        self,
        service: Service,
        applied: tuple[KubeObject, ...],
        target: Target,
        deadline: Deadline,
        reached: _Reached,
    ) -> None:
        wait = partial(
            target.kube.wait_ready,
            applied,
            namespace=target.namespace,
            deadline=deadline,
            restarts=service.restarts,
        )
        if any(
            need.name == service.name and need.level == "started"
            for other in self._plan.services
            for need in other.needs
        ):
            wait(level="started")
        reached.started.set_result(None)
        wait(level="ready")

    def _prove(self, service: Service, deadline: Deadline) -> tuple[Endpoint, ...]:
        cluster, _ = self._created.result()
        ports = {port.endpoint: port for port in self._plan.ports if port.service == service.name}
        address = self._tools.provider.node_address(cluster.nodes[0], deadline)
        return tuple(
            prove_endpoint(
                service.name,
                spec,
                host_port=cluster.host_ports[ports[spec.name].node_port],
                node=(address, ports[spec.name].node_port),
                deadline=deadline,
            )
            for spec in service.endpoints
        )

    def _images_of(self, service: Service) -> ImagesInUse:
        uses = self._plan.image_uses.get(service.name, {})
        written = {ref: self._loaded[name].result() for ref, name in uses.items()}
        external = self._plan.external.get(service.name, ())
        return ImagesInUse(
            written=written,
            loaded=frozenset(ref for ref in external if self._external[ref].result()),
            declared={name: written[ref] for ref, name in uses.items()},
        )

    def _node_ports(self, service: Service) -> tuple[KubeObject, ...]:
        ports = [port for port in self._plan.ports if port.service == service.name]
        others = [obj for objects in self._plan.objects.values() for obj in objects]
        known = [*self._plan.objects[service.name], *others]
        return node_port_services(service, known, ports)

    def _await_need(self, service: Service, name: str, level: str) -> None:
        future: Future[None] = getattr(self._reached[name], level)
        try:
            future.result()
        except CancelledError:
            raise
        except Exception as error:
            cause = error.root if isinstance(error, _BlockedError) else name
            msg = f'"{service.name}" was not started: it needs "{cause}", which failed'
            raise _BlockedError(msg, root=cause) from error

    def _deadline(self) -> Deadline:
        return Deadline.after(self._request.timeout, self._cancelled)

    # -- results ------------------------------------------------------------------------------

    @contextmanager
    def _result(self, name: str, service: str = "") -> Iterator[None]:
        """Write a failure of the block as the result `name`, so that every waiter learns it."""
        try:
            yield
        except BaseException as error:
            self._run.write(name, failure_record(error, service))
            raise

    def _write_cluster(self, cluster: Cluster) -> None:
        record = {"state": "ready", "name": cluster.name, "kubeconfig": str(cluster.kubeconfig)}
        self._run.write("cluster", {**record, "namespace": self._request.namespace})

    def _write_service(self, service: Service, endpoints: list[dict[str, Any]]) -> None:
        self._run.write(f"service-{service.name}", {"state": "ready", "endpoints": endpoints})


class _BlockedError(NeedFailedError):
    """A service that was not tried, with the name of the one that began it."""

    def __init__(self, message: str, *, root: str) -> None:
        super().__init__(message)
        self.root = root


_SHORT_LINES = 6


def failure_record(error: BaseException, service: str = "") -> dict[str, Any]:
    """Return the result that tells waiters of a failure.

    Returns:
        `state`: failed; `short`: at most six lines for each test that it concerns; `full`: all,
        shown once; `root`: the service or step that began it, empty for this one itself.
    """
    if isinstance(error, KindInfraError):
        full = str(error)
    else:
        full = "".join(traceback.format_exception(error))
    short = getattr(error, "short", None) or _shortened(full)
    title = f'service "{service}" is not there: ' if service else ""
    root = error.root if isinstance(error, _BlockedError) else ""
    cancelled = isinstance(error, CancelledError)
    return {
        "state": "failed",
        "short": title + short,
        "full": full,
        "root": root,
        "cancelled": cancelled,
    }


def _shortened(full: str) -> str:
    """Keep the first two lines, which name what failed, and the last ones, which say why."""
    lines = [line for line in full.splitlines() if line.strip()]
    if len(lines) <= _SHORT_LINES:
        return "\n".join(lines)
    return "\n".join([*lines[:2], last_lines(full, _SHORT_LINES - 2)])


def tear_down(name: str, *, tools: Tools, kubeconfig: Path, deadline: Deadline) -> None:
    """Delete the cluster `name` and see that it is gone; do nothing if there is none."""
    tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)
