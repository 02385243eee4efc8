"""The cluster's line: tools there, created, taking images, taking pods."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory
from pytest_kindinfra.errors import CancelledError, KindInfraError
from pytest_kindinfra.hosting import hosting_map
from pytest_kindinfra.lines.context import needed
from pytest_kindinfra.lines.loss import watch_nodes
from pytest_kindinfra.lines.renewal import forget_undeclared
from pytest_kindinfra.lines.takers import Takers
from pytest_kindinfra.lines.taking import obtain_cluster
from pytest_kindinfra.presence import is_there
from pytest_kindinfra.pushing import RegistrySender
from pytest_kindinfra.redaction import credentials_in
from pytest_kindinfra.results import cluster_record
from pytest_kindinfra.steps.host import open_registry
from pytest_kindinfra.steps.load import ImageLoader
from pytest_kindinfra.steps.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindinfra.hosting import Registry
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import Cluster

SUBJECT = "the cluster"


class ClusterLine:
    """The cluster on its way up.

    Attributes:
        checked: Engine and provider are there.
        created: `kind create` has returned.
        loader: The kind nodes take images, which is long before they take pods.
        answering: The API server answers and the namespace is there, whatever nodes do.
        taking_pods: Nodes ready, names resolved, namespace there; its result is written.
    """

    def __init__(
        self,
        context: Context,
        pool: ThreadPoolExecutor,
        *,
        also: Callable[[], None],
        first: Mapping[str, Future[None]] | None = None,
    ) -> None:
        """Begin; `also` belongs to the set-up, so that no cluster is made if it raises.

        `first` are the services without which the nodes do not get Ready.
        """
        self._first = first or {}
        self.answering: Future[Kube] = Future()
        self._context = context
        self._pool = pool
        self._also = also
        self._begun: Future[int] = Future()
        self.checked = pool.submit(self._check)
        self._swept = pool.submit(self._sweep)
        self._registry = pool.submit(self._open_registry)
        self.created = pool.submit(self._create)
        self.loader = pool.submit(self._await_runtime)
        self.taking_pods = pool.submit(self._await_pods)

    def close(self) -> None:
        """End the threads that watch the cluster."""
        if not self.taking_pods.exception():
            self.taking_pods.result().close()

    @property
    def layers(self) -> dict[str, dict[str, int]]:
        """What loads found out of images: full reference to layers, digest to bytes."""
        known = self.loader.done() and not self.loader.exception()
        return self.loader.result().layers if known else {}

    def _check(self) -> str:
        """See that the tools are there, before each of them fails in its own words."""
        tools = self._context.tools
        tools.engine.check(self._context.deadline())
        version = tools.provider.check(self._context.deadline())
        self._also()
        return version

    def _sweep(self) -> None:
        """Delete what killed runs left behind, beside all else; say what could not be deleted."""
        needed("the set-up", self.checked)
        context = self._context
        try:
            failed = sweep(context.tools.provider, context.deadline()).failed
        except CancelledError:
            return
        except (KindInfraError, OSError) as error:
            failed = {"of killed runs": str(error)}
        for name, why in failed.items():
            context.hooks.say(
                f"an old cluster could not be deleted ({name}): {why}\nTo fix: kindinfra gc"
            )

    def _create(self) -> Cluster:
        try:
            needed("the set-up", self.checked)
            self._context.run.begin("cluster")
            cluster = self._create_cluster()
            watch_nodes(cluster, self._context)
            return cluster  # noqa: TRY300 - an else would part what belongs together
        except BaseException as error:
            if not self._begun.done():
                self._begun.set_exception(error)
            raise
        finally:
            self._learn_credentials()

    def _create_cluster(self) -> Cluster:
        return obtain_cluster(self._context, self.checked.result(), self._begin)

    def _begin(self, count: int) -> None:
        """Let loads look for that many kind nodes, 0 for none: they are there, and take images."""
        if not self._begun.done():
            self._begun.set_result(count)

    def _learn_credentials(self) -> None:
        """Have the cluster's keys kept out of all that is shown, also if it did not come up."""
        kubeconfig = self._context.run.kubeconfig
        if is_there(kubeconfig):
            self._context.tools.redactor.learn(credentials_in(kubeconfig.read_text()))

    def _await_runtime(self) -> ImageLoader:
        context, count = self._context, self._begun.result()
        takers = Takers(
            provider=context.tools.provider,
            cluster=context.request.cluster,
            count=count,
            created=self.created,
        )
        deadline = context.deadline()  # from when the creation has begun, after other runs' ones
        nodes = takers.first(deadline)
        late = len(nodes) < takers.count
        loader = ImageLoader(
            nodes,
            engine=context.tools.engine,
            provider=context.tools.provider,
            runner=context.tools.runner,
            timeline=context.tools.timeline,
            how=context.request.load,
            sender=self._through(self._registry.result()),
            late=late,
        )
        if late:
            self._pool.submit(takers.join_late, loader, nodes, deadline)
        return loader

    def _open_registry(self) -> Registry | None:
        """Have a registry, where images go through one."""
        context = self._context
        if context.request.load != "registry":
            return None
        needed("the set-up", self.checked)
        return open_registry(
            context.tools.registries,
            address=context.request.registry,
            cache=context.request.cache,
            run=context.run.path,
            say=context.hooks.say,
            deadline=context.deadline(),
        )

    def _through(self, registry: Registry | None) -> RegistrySender | None:
        context = self._context
        if registry is None:
            return None
        return RegistrySender(
            registry,
            host=context.tools.registries,
            engine=context.tools.engine,
            provider=context.tools.provider,
            folder=context.run.path,
        )

    def _await_pods(self) -> Kube:
        """Wait until the cluster takes pods, and write its result."""
        try:
            kube = self._pods_taken(self.created.result())
            self._answers(kube)
            return kube  # noqa: TRY300 - an else would part what belongs together
        except BaseException as error:
            if not self.answering.done():
                self.answering.set_exception(error)
            record = self._context.failure_record(error, subject=SUBJECT)
            self._context.run.settle("cluster", record)
            raise

    def _answers(self, kube: Kube) -> None:
        if not self.answering.done():
            self.answering.set_result(kube)

    def _await_first(self, kube: Kube) -> None:
        """Let services that come before the nodes begin, and wait for them."""
        self._answers(kube)
        for name, ready in self._first.items():
            needed(f'service "{name}"', ready)

    def _pods_taken(self, cluster: Cluster) -> Kube:
        from pytest_kindinfra.kube import Kube

        context, kube = self._context, Kube(cluster.kubeconfig)
        namespace, deadline = context.request.namespace, context.deadline()
        with context.tools.timeline.span("wait", "cluster"):
            kube.wait_for_api(deadline)
            kube.ensure_namespace(namespace, deadline, {})
            self._await_first(kube)
            deadline = context.deadline()
            kube.wait_for_nodes(deadline)
            kube.wait_for_dns(deadline)
            if registry := self._registry.result():
                kube.apply(hosting_map(registry), namespace="kube-public", deadline=deadline)
        self._forget_undeclared(cluster, kube)
        context.run.settle("cluster", cluster_record(cluster, namespace=namespace))
        return kube

    def _forget_undeclared(self, cluster: Cluster, kube: Kube) -> None:
        """Delete what an earlier run left of services that are not declared any more."""
        context = self._context
        if cluster.home and context.request.reuse and context.request.reuse.knows_all:
            forget_undeclared(kube, RunDirectory(cluster.home), context.plan.declaration)
