"""The recipe: what a run brings up, in what order, and how it ends.

Each image and each service is one straight line of steps in a thread of its own, which waits
for just what it needs; nothing here waits for "all builds" or "all loads". Results go to the run
directory, written once, and nothing flows back. It must not know pytest or a concrete engine.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.results import BlockedError, cluster_record, failure_record, service_record
from pytest_kindinfra.serve import Deployment, Reached, serve
from pytest_kindinfra.steps.build import BuildSlots, build_image
from pytest_kindinfra.steps.create import create_cluster
from pytest_kindinfra.steps.deploy import ImagesInUse
from pytest_kindinfra.steps.load import ImageLoader
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.model import BuiltImage, Cluster, Image, Plan, Service
    from pytest_kindinfra.request import Hooks, Request, Tools

T = TypeVar("T")

_BEAT = 1.0


def bring_up(
    plan: Plan,
    request: Request,
    *,
    tools: Tools,
    run: RunDirectory,
    hooks: Hooks,
    cancelled: threading.Event,
) -> None:
    """Bring up what `plan` says and write each result to `run`; returns when all is decided.

    A failure is a result too: it is written for the service and for those that need it.

    Args:
        plan: What to bring up.
        request: How.
        tools: Who does the work.
        run: Gets the results.
        hooks: Called on the way.
        cancelled: Set when the run ends; everything is then given up at once.
    """
    lines = _Lines(plan, request, tools, run, hooks, cancelled)
    external = {reference for used in plan.external.values() for reference in used}
    count = 3 + 2 * len(plan.images) + len(external) + len(plan.services)
    with ThreadPoolExecutor(count, thread_name_prefix="kindinfra") as pool:
        pending = lines.start(pool, sorted(external))
        while pending:
            pending = wait(pending, timeout=_BEAT).not_done
            hooks.beat(tools.timeline.running)
    lines.close()


def tear_down(name: str, *, tools: Tools, kubeconfig: Path, deadline: Deadline) -> None:
    """Delete the cluster `name`; do nothing if there is none.

    Raises:
        CommandError: It could not be deleted.
    """
    tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)


class _Lines:
    """The threads of one bring-up, and the futures by which they wait for each other."""

    def __init__(
        self,
        plan: Plan,
        request: Request,
        tools: Tools,
        run: RunDirectory,
        hooks: Hooks,
        cancelled: threading.Event,
    ) -> None:
        self._plan = plan
        self._request = request
        self._tools = tools
        self._run = run
        self._hooks = hooks
        self._cancelled = cancelled
        self._slots = BuildSlots(request.build_jobs)
        self._reached = {service.name: Reached() for service in plan.services}

    def start(self, pool: ThreadPoolExecutor, external: list[str]) -> set[Future[None]]:
        """Start one thread for each line; bases and needs come first in the plan.

        Returns:
            What is done when every result is written.
        """
        used = {name for service in self._plan.services for name in service.images}
        self._checked = pool.submit(self._check)
        self._created = pool.submit(self._create)
        self._taking_pods = pool.submit(self._await_pods)
        self._built: dict[str, Future[BuiltImage]] = {}
        for image in self._plan.images:
            self._built[image.name] = pool.submit(self._build, image)
        self._loaded = {name: pool.submit(self._load, name) for name in sorted(used)}
        self._external = {ref: pool.submit(self._load_external, ref) for ref in external}
        served = {pool.submit(self._serve, service) for service in self._plan.services}
        return served | {pool.submit(self._end_of_cluster)}

    def close(self) -> None:
        """End the threads that watch the cluster."""
        if not self._taking_pods.exception():
            self._taking_pods.result().close()

    # -- the lines -----------------------------------------------------------------------------

    def _check(self) -> None:
        """See that the tools are there, before each of them fails in its own words."""
        self._tools.engine.check(self._deadline())
        self._tools.provider.check(self._deadline())

    def _create(self) -> tuple[Cluster, ImageLoader]:
        self._of("the set-up", self._checked)
        request, tools = self._request, self._tools
        with tools.timeline.span("create", "cluster"):
            cluster = create_cluster(
                request.cluster,
                plan=self._plan,
                base=request.kind_config,
                node_image=request.node_image,
                tuning=request.tuning,
                run=self._run,
                folder=request.folder,
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

    def _await_pods(self) -> Kube:
        """Wait until the cluster takes pods; without one, nothing else makes sense."""
        from pytest_kindinfra.kube import Kube

        try:
            with self._writing("cluster", subject="the cluster"):
                cluster, _ = self._created.result()
                kube, deadline = Kube(cluster.kubeconfig), self._deadline()
                with self._tools.timeline.span("wait", "cluster"):
                    kube.wait_for_api(deadline)
                    kube.ensure_namespace(self._request.namespace, deadline, {})
                    kube.wait_for_nodes(deadline)
                    kube.wait_for_dns(deadline)
                record = cluster_record(cluster, namespace=self._request.namespace)
                self._run.write("cluster", record)
                return kube
        except BaseException as error:
            for service in self._plan.services:
                self._fail(service, self._blocked("the cluster", error))
            self._cancelled.set()
            raise

    def _end_of_cluster(self) -> None:
        """End when the cluster's result is written, whatever it is: there may be no services."""
        self._taking_pods.exception()

    def _build(self, image: Image) -> BuiltImage:
        self._of("the set-up", self._checked)
        bases = [self._of(f'image "{name}"', self._built[name]) for name in image.needs]
        self._hooks.before_build(image)
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
        built = self._of(f'image "{name}"', self._built[name])
        _, loader = self._of("the cluster", self._created)
        loader.load(name, built.reference, self._deadline())
        return built.reference

    def _load_external(self, reference: str) -> bool:
        """Load it if the engine has it; else the kind node may pull it."""
        self._of("the set-up", self._checked)
        if not self._tools.engine.image_ids([reference], self._deadline()):
            return False
        _, loader = self._of("the cluster", self._created)
        loader.load(reference, reference, self._deadline())
        return True

    def _serve(self, service: Service) -> None:
        """Bring one service up, from its images to its endpoints."""
        name = service.name
        try:
            kube = self._of("the cluster", self._taking_pods)
            images = self._images_of(service)
            for need in service.needs:
                future: Future[None] = getattr(self._reached[need.name], need.level)
                self._of(f'service "{need.name}"', future)
            self._run_hook_and_serve(service, kube, images)
        except BaseException as error:  # noqa: BLE001 - a failure is a result
            self._fail(service, error)
        else:
            self._reached[name].ready.set_result(None)

    # -- parts of them -------------------------------------------------------------------------

    def _run_hook_and_serve(self, service: Service, kube: Kube, images: ImagesInUse) -> None:
        cluster, _ = self._created.result()
        deployment = Deployment(
            service=service,
            plan=self._plan,
            cluster=cluster,
            kube=kube,
            images=images,
            request=self._request,
            tools=self._tools,
            run=self._run,
            hooks=self._hooks,
            deadline=Deadline.after(service.timeout or self._request.timeout, self._cancelled),
        )
        endpoints = serve(deployment, self._reached[service.name])
        self._run.write(f"service-{service.name}", service_record(endpoints))

    def _images_of(self, service: Service) -> ImagesInUse:
        uses = self._plan.image_uses.get(service.name, {})
        written = {
            reference: self._of(f'image "{name}"', self._loaded[name])
            for reference, name in uses.items()
        }
        external = self._plan.external.get(service.name, ())
        loaded = {ref for ref in external if self._of(f'image "{ref}"', self._external[ref])}
        declared = {
            name: self._of(f'image "{name}"', self._loaded[name]) for name in service.images
        }
        return ImagesInUse(written=written, loaded=frozenset(loaded), declared=declared)

    def _of(self, name: str, future: Future[T]) -> T:
        """Wait for what is needed; say what it was if it failed."""
        try:
            return future.result()
        except CancelledError:
            raise
        except Exception as error:
            raise self._blocked(name, error) from error

    def _blocked(self, needed: str, error: BaseException) -> BaseException:
        if isinstance(error, CancelledError | BlockedError):
            return error
        return BlockedError(root=needed, cause=str(error) or repr(error))

    def _fail(self, service: Service, error: BaseException) -> None:
        """Write the failure of a service, unless it has a result, and tell who needs it."""
        name = f"service-{service.name}"
        if self._run.read(name) is None:
            self._run.write(name, failure_record(error, subject=f'service "{service.name}"'))
        self._reached[service.name].fail(error)

    @contextmanager
    def _writing(self, name: str, *, subject: str) -> Iterator[None]:
        """Write a failure of the block as the result `name`."""
        try:
            yield
        except BaseException as error:
            self._run.write(name, failure_record(error, subject=subject))
            raise

    def _deadline(self) -> Deadline:
        return Deadline.after(self._request.timeout, self._cancelled)
