"""The cluster on its way up, with its kind nodes watched until the run ends."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.reuse import obtain_cluster
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.context import SUBJECT, needed
from pytest_kindinfra.deploy.renewal import forget_undeclared
from pytest_kindinfra.engines.registry import hosting_map, open_registry
from pytest_kindinfra.errors import CancelledError, ClusterError, KindInfraError, StateError
from pytest_kindinfra.images.load import ImageLoader, Takers
from pytest_kindinfra.images.registry import RegistrySender
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.results import LOST, cluster_record
from pytest_kindinfra.system.files import is_there
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Cluster, Registry


_SUBJECT = "the cluster"


_ASK_ENGINE = 10.0


def watch_nodes(cluster: Cluster, context: Context) -> None:
    """Have a thread watch each kind node until the run is cancelled.

    They are daemons, since what they wait for may never happen; `context.watchers` gets them.
    """
    for node in cluster.nodes:
        watcher = threading.Thread(
            target=_watch, args=(node, cluster, context), name=f"kindinfra-{node}", daemon=True
        )
        watcher.start()
        context.watchers.append(watcher)


def _watch(node: str, cluster: Cluster, context: Context) -> None:
    try:
        said = context.tools.provider.await_end(node, Deadline(math.inf, context.cancelled))
        error = _loss(node, said, cluster, context)
    except CancelledError:
        return
    except KindInfraError as unknown:
        error = ClusterError(f'kind node "{node}" cannot be watched any more: {unknown}')
    if context.cancelled.is_set():
        return  # the run ends, and so does the cluster
    with suppress(StateError):  # another kind node was lost first
        context.run.settle(LOST, context.failure_record(error, subject=_SUBJECT))
    context.failure.end(_SUBJECT, error)


def _loss(node: str, said: str, cluster: Cluster, context: Context) -> ClusterError:
    """Return the error that names what is gone: the engine, or else the kind node."""
    try:
        context.tools.engine.check(Deadline.after(_ASK_ENGINE, context.cancelled))
    except CancelledError:
        raise
    except KindInfraError as error:
        return ClusterError(f'the engine stopped, and with it cluster "{cluster.name}":\n{error}')
    return ClusterError(
        f'kind node "{node}" of cluster "{cluster.name}" has ended in mid-run ({said})\n'
        "To fix: see who stopped or removed its container, or whether memory ran out, and run again"
    )


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
        from pytest_kindinfra.kube.cluster import Kube

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
