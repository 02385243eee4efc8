"""One run of a group: it brings up what no other run has, and uses what others brought up.

The election, the results and the membership are in `kube/election.py` and `kube/group.py`; this
says when a run does what. Endpoints are ports of this machine, so each run opens its own.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.steps import cluster_steps
from pytest_kindinfra.context import new_context
from pytest_kindinfra.deploy.endpoints import prove_again
from pytest_kindinfra.deploy.exposure import Exposure
from pytest_kindinfra.errors import CancelledError, ClusterError, KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.election import Observed
from pytest_kindinfra.kube.group import ReplacedError, Results
from pytest_kindinfra.kube.membership import TEARDOWN_SECONDS, is_ending, open_membership
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.run.recipe import bring_up
from pytest_kindinfra.state.codec import from_json, to_json
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import ClusterReady, DeployedService, ImageReady, ServiceReady
from pytest_kindinfra.state.results import Failed, result_of, value_of
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import KubeObject, Plan, Service
    from pytest_kindinfra.state.results import Result

_RENEW_EVERY = 3.0
"""Seconds; five times in a term."""

_LOOK_EVERY = 0.5

_WATCH_SECONDS = 3
"""Of one watch of the results, for which an interrupt waits; then the holder is looked at."""

_BETWEEN_LOOKS = 0.2
"""Seconds in which several results become one piece of news."""

_LONGEST_TEXT = 8000
"""Characters of a failure; all results of a group are in one ConfigMap of 1 MiB."""


def bring_up_in_group(context: Context) -> None:
    """Have each service of the plan brought up once in the group; return when all is settled.

    Raises:
        KindInfraError: The cluster does not answer, or the group cannot be joined.
        CancelledError: The run is ending.
    """
    steps = cluster_steps(context)
    cluster = steps.obtain("", lambda _: None)
    context.tools.redactor.learn(credentials_in(context.run.kubeconfig.read_text()))
    kube = steps.await_pods(cluster, None, lambda _: None)
    if not isinstance(kube, SharedKube):
        msg = "a group needs an existing cluster"
        raise TypeError(msg)
    context.tools.closing.callback(kube.close)
    shard = _Shard(context, kube)
    shard.join()
    context.tools.own.leave = shard.leave
    context.run.settle(ClusterReady.of(cluster, namespace=context.request.namespace))
    shard.settle_all()


def remaining(plan: Plan, names: Collection[str]) -> Plan:
    """Return the plan of some of its services, whose other needs are ready already.

    Images that none of these services runs, and that are no base of such an image, are left out.
    """
    services = tuple(
        replace(one, needs=tuple(need for need in one.needs if need.name in names))
        for one in plan.services
        if one.name in names
    )
    used = {
        name
        for one in services
        for name in (*one.images, *plan.image_uses.get(one.name, {}).values())
    }
    for image in reversed(plan.images):  # bases come first
        used |= set(image.needs) if image.name in used else set()
    return replace(
        plan, services=services, images=tuple(one for one in plan.images if one.name in used)
    )


class _Publisher:
    """Publishes results of services from several threads, until another run provisions."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._lock = threading.Lock()
        self.is_replaced = False

    def publish(self, name: str, value: Any) -> bool:
        """Publish what came of a service, and return whether this run still may.

        Raises:
            KindInfraError: The cluster does not take it.
        """
        with self._lock:
            if not self.is_replaced:
                try:
                    self._results.publish(_key(name), json.dumps(value))
                except ReplacedError:
                    self.is_replaced = True
            return not self.is_replaced


@dataclass(frozen=True, slots=True)
class _PublishingRun(RunDirectory):
    """The run directory of the run that provisions: its services' results are the group's.

    Once another run provisions, it settles nothing more: the other's results count.
    """

    publisher: _Publisher = field(kw_only=True)

    def begin(self, kind: type[Result], name: str = "") -> None:
        """See `RunDirectory.begin`; the cluster is there since the group was joined."""
        if kind is not ClusterReady:
            RunDirectory.begin(self, kind, name)

    def settle(self, result: Result, name: str = "") -> None:
        """See `RunDirectory.settle`."""
        if isinstance(result, ClusterReady):
            return
        if isinstance(result, ServiceReady):
            deployed = self.read(DeployedService, name)
            value = {"result": value_of(result), "deployed": deployed and to_json(deployed)}
            if not self.publisher.publish(name, value):
                return
        RunDirectory.settle(self, result, name)

    def fail(self, kind: type[Result], failure: Failed, name: str = "") -> None:
        """See `RunDirectory.fail`; what a run gives up since it ends is not the group's."""
        if kind is ClusterReady:
            return
        if kind is ServiceReady and not failure.cancelled:
            with suppress(KindInfraError):  # it is this run's failure at least
                self.publisher.publish(name, {"result": value_of(_shorter(failure))})
        if not self.publisher.is_replaced or failure.cancelled:
            RunDirectory.fail(self, kind, failure, name)


class _Shard:
    """A member of the group, from its joining to its end."""

    def __init__(self, context: Context, kube: SharedKube) -> None:
        self._context = context
        self._kube = kube
        self._reader = Reader(context.run.kubeconfig)
        self._membership = open_membership(
            self._reader, context.request.group, context.request.run_id
        )
        self._results = self._membership.results
        self._observed = Observed(monotonic)
        self._lock = threading.Lock()
        self._holds = False
        self._stop = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="kindinfra-group", daemon=True)

    def join(self) -> None:
        """Become a member; a stack that is being torn down is awaited.

        Raises:
            ClusterError: It could not in time.
        """
        deadline = self._context.deadline()
        if not wait_until(self._has_joined, deadline, every=_LOOK_EVERY):
            msg = (
                f"the group of runs in namespace {self._context.request.namespace} could not be "
                f"joined within {self._context.request.timeout:g} s (--kindinfra-timeout): its "
                "stack is being torn down\nTo fix: run again, or use another --kindinfra-group"
            )
            raise ClusterError(msg)
        self._renewing.start()

    def _has_joined(self) -> bool:
        try:
            if self._membership.members.join(self._results):
                return True
            self._results.begin_anew(self._observed, after=TEARDOWN_SECONDS)
        except ApiError as error:
            if not is_ending(error):
                raise
            deadline = self._context.deadline()
            self._kube.ensure_namespace(self._context.request.namespace, deadline, {})
        return False

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_EVERY):
            with suppress(KindInfraError):  # an API server that is away, as long as a term
                self._membership.members.renew()
            with suppress(KindInfraError), self._lock:
                if self._holds:
                    self._membership.election.step()

    def leave(self) -> bool:
        """Stop being a member, and return whether this was the last one: it tears down."""
        self._stop.set()
        self._renewing.join()
        try:
            return self._membership.leave()
        finally:
            self._reader.close()

    def settle_all(self) -> None:
        """Settle each service of the plan: with the group's results, or by bringing it up."""
        deadline = self._context.deadline()
        while True:
            if self._context.cancelled.is_set():
                msg = "the run is ending"
                raise CancelledError(msg)
            try:
                elected = self._look()
                deadline = self._context.deadline()
            except CancelledError:
                raise
            except KindInfraError:  # an API server that is away
                if deadline.passed:
                    raise
                elected = False
            if not self._open:
                return
            if elected:
                self._provision()
            else:
                with suppress(KindInfraError):  # an API server that is away
                    self._results.await_news(_WATCH_SECONDS)
                self._context.cancelled.wait(_BETWEEN_LOOKS)

    @property
    def _open(self) -> list[str]:
        """The services that have no result yet."""
        services, run = self._context.plan.services, self._context.run
        return [one.name for one in services if not run.is_settled(ServiceReady, one.name)]

    def _look(self) -> bool:
        """Adopt what is published; return whether this run is to bring up what is not."""
        self._adopt(self._results.published())
        if not self._open:
            return False
        with self._lock:
            self._holds = self._membership.election.step()
            return self._holds

    def _resign(self) -> None:
        with self._lock:
            self._holds = False
            self._membership.resign()

    def _provision(self) -> None:
        context = self._context
        try:
            self._adopt(self._results.claim())
            if names := self._open:
                run = _PublishingRun(context.run.path, publisher=_Publisher(self._results))
                inner = new_context(
                    remaining(context.plan, names),
                    context.request,
                    tools=context.tools,
                    run=run,
                    hooks=context.hooks,
                    cancelled=context.cancelled,
                    watchers=context.watchers,
                    cleanup=context.cleanup,
                    later=context.later,
                )
                bring_up(inner)
        finally:
            self._resign()

    def _adopt(self, published: Mapping[str, str]) -> None:
        """Settle the services that have a result in the group, and those that need a failed one."""
        run = self._context.run
        for service in self._context.plan.services:  # needs come first
            if run.is_settled(ServiceReady, service.name):
                continue
            if text := published.get(_key(service.name)):
                self._settle(service, json.loads(text))
            elif failure := next(self._failures_of_needs(service), None):
                run.fail(ServiceReady, failure, service.name)

    def _failures_of_needs(self, service: Service) -> Iterator[Failed]:
        for need in service.needs:
            result = self._context.run.settled(ServiceReady, need.name)
            if isinstance(result, Failed):
                yield result

    def _settle(self, service: Service, value: Mapping[str, Any]) -> None:
        run = self._context.run
        try:
            result = result_of(ServiceReady, value["result"])
            if isinstance(result, Failed):
                run.fail(ServiceReady, result, service.name)
                return
            deployed = self._reached_from_here(
                service, from_json(DeployedService, value["deployed"])
            )
        except CancelledError:
            raise
        except (KindInfraError, ValueError) as error:
            failure = self._context.failure_of(error, subject=f'service "{service.name}"')
            run.fail(ServiceReady, failure, service.name)
            return
        for name, reference in deployed.references.items():
            run.write(
                ImageReady(image=BuiltImage(name=name, reference=reference, cached=True)), name
            )
        run.write(deployed, service.name)
        endpoints = tuple(probe.endpoint(service.name) for probe in deployed.probes)
        run.settle(ServiceReady(endpoints=endpoints), service.name)

    def _reached_from_here(self, service: Service, deployed: DeployedService) -> DeployedService:
        """Return the record with endpoints that are ports of this machine, and have answered."""
        context = self._context
        for obj in deployed.objects:  # for the last one out
            self._kube.announce(obj, deployed.namespace)
        key = f"timeout of [services.{service.name}]"
        existing = context.request.existing
        exposure = Exposure(
            service=service,
            plan=context.plan,
            applied=tuple(self._live(deployed, kind="Ingress")),
            namespace=deployed.namespace,
            kube=self._kube,
            meanwhile=lambda: None,
            deadline=context.deadline(service.timeout, key=key),
        )
        inside = existing is not None and existing.inside
        probes = prove_again(exposure, self._kube.forwards, inside=inside)
        return replace(deployed, probes=probes)

    def _live(self, deployed: DeployedService, *, kind: str) -> Iterator[KubeObject]:
        """Yield objects of a kind as the cluster has them; a record has their outlines."""
        for obj in deployed.objects:
            path = self._kube.path_of(obj, namespace=deployed.namespace)
            if obj["kind"] == kind and (live := self._kube.get(path)):
                yield live


def _key(service: str) -> str:
    return f"service.{service}"


def _shorter(failure: Failed) -> Failed:
    return replace(failure, short=failure.short[:_LONGEST_TEXT], full=failure.full[-_LONGEST_TEXT:])
