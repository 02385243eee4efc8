"""The stack as tests get it: a view of what the run brought up, and what can be done with it.

Every method that changes something has noted it before, so that it is undone when the test ends,
also by another process. It must not know pytest.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.intests.changes import Changes
from pytest_kindinfra.names import copy_namespace
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.state.stack import StackView
from pytest_kindinfra.system.timeline import Deadline, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from pytest_kindinfra.intests.changes import CurrentTest
    from pytest_kindinfra.intests.objects import Images
    from pytest_kindinfra.intests.pods import ExecResult
    from pytest_kindinfra.intests.workloads import Workloads
    from pytest_kindinfra.kube.apis import AppsV1Api, BatchV1Api, CoreV1Api, CustomObjectsApi
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Endpoint, KubeObject
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.records import Change, ClusterReady


T = TypeVar("T")


class Stack(StackView):
    """What a run brought up, and what a test can do with it.

    In a test it waits for what the run is still bringing up, and what the test changes is undone
    when the test ends. In a hook or a `run` step it has what is ready so far, and nothing is
    undone.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        waits: bool = True,
        proved: Mapping[str, tuple[Endpoint, ...]] | None = None,
        cluster: ClusterReady | None = None,
        shared: bool = False,
        folder: Path = Path(),
        current: Callable[[], CurrentTest | None] = lambda: None,
        worker: str = "",
        namespace: str | None = None,
        patience: float = 0.0,
    ) -> None:
        super().__init__(
            run, waits=waits, proved=proved, cluster=cluster, worker=worker, namespace=namespace,
            patience=patience,
        )  # fmt: skip
        self._shared = shared
        self._folder = folder
        self._current = current

    @property
    def namespace(self) -> str:
        """Where services are deployed.

        In a test whose mark names a service per worker it is where the worker's copies are.
        """
        declared, test = super().namespace, self._current()
        if test and any(self._own(name) != name for name in test.services):
            return copy_namespace(declared, self._worker)
        return declared

    # -- the Kubernetes API --------------------------------------------------------------------

    @cached_property
    def core(self) -> CoreV1Api:
        """The `CoreV1Api` of the `kubernetes` package."""
        from pytest_kindinfra.kube.apis import core_api

        return core_api(self.kube)

    @cached_property
    def apps(self) -> AppsV1Api:
        """The `AppsV1Api` of the `kubernetes` package."""
        from pytest_kindinfra.kube.apis import apps_api

        return apps_api(self.kube)

    @cached_property
    def batch(self) -> BatchV1Api:
        """The `BatchV1Api` of the `kubernetes` package."""
        from pytest_kindinfra.kube.apis import batch_api

        return batch_api(self.kube)

    @cached_property
    def custom(self) -> CustomObjectsApi:
        """The `CustomObjectsApi` of the `kubernetes` package."""
        from pytest_kindinfra.kube.apis import custom_api

        return custom_api(self.kube)

    # -- looking into services ----------------------------------------------------------------

    def exec(
        self,
        service: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        input: str | bytes | None = None,  # noqa: A002 - as in subprocess.run
        timeout: float = 30.0,
        check: bool = False,
    ) -> ExecResult:
        """Run a command in a ready pod of a service.

        Args:
            service: The service.
            command: The command's words; no shell is involved.
            container: Which one of the pod's; None means its default one, else its first.
            input: What the command reads from standard input.
            timeout: Seconds until it must have ended.
            check: Whether another exit code than 0 is an error.

        Raises:
            ExecError: It did not end in time, could not be started, or failed while `check` is
                set; holds the exit code and both streams.
            NotReadyError: The service has no ready pod.
        """
        from pytest_kindinfra.intests.pods import run_in_pod

        return run_in_pod(
            self.api, self._deployed(service), command, container=container, stdin=input,
            timeout=timeout, check=check,
        )  # fmt: skip

    def logs(
        self, service: str, *, since: float | datetime | None = None, previous: bool = False
    ) -> str:
        """Return what the pods of a service have logged, in the order of time.

        Args:
            service: The service.
            since: From when on: seconds since the epoch, or a `datetime` with a time zone. None
                means since the test began; outside a test, and with `previous`, all of them.
            previous: The logs of the containers before their last restart.
        """
        from pytest_kindinfra.intests.pods import read_logs, seconds_of

        begin, test = seconds_of(since), self._current()
        if begin is None and test and not previous:
            begin = test.since
        return read_logs(self.api, self._deployed(service), since=begin, previous=previous)

    def eventually(
        self,
        function: Callable[[], T],
        *,
        timeout: float = 30.0,
        every: float = 0.1,
        retry_on: type[Exception] | tuple[type[Exception], ...] = AssertionError,
    ) -> T:
        """Call a function until it returns, and return what it returned; see `eventually`."""
        __tracebackhide__ = True
        return eventually(function, timeout=timeout, every=every, retry_on=retry_on)

    # -- changing services --------------------------------------------------------------------

    def restart(self, service: str, *, timeout: float | None = None) -> None:
        """Replace all pods of a service; return when it is ready and its endpoints have answered.

        Args:
            service: The service.
            timeout: Seconds; None means as many as the service has to get ready.

        Raises:
            KindInfraError: It has nothing to restart, or did not get ready.
        """
        workloads, deadline = self.workloads(service, timeout)
        self.disturb(service, lambda: workloads.restart(deadline))

    def delete_pods(self, service: str, *, timeout: float | None = None) -> None:
        """Delete all pods of a service; return when others are ready and endpoints have answered.

        Args:
            service: The service.
            timeout: Seconds; None means as many as the service has to get ready.

        Raises:
            KindInfraError: No controller replaces its pods, or they did not get ready.
        """
        workloads, deadline = self.workloads(service, timeout)
        self.disturb(service, lambda: workloads.delete_pods(deadline))

    def scale(
        self,
        service: str,
        replicas: int,
        *,
        workload: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Have so many pods of a service; undone when the test ends.

        Args:
            service: The service.
            replicas: How many. With none it returns when the pods are gone, else when the service
                is ready and its endpoints have answered.
            workload: `deployment/NAME` or the like, for a service that has several.
            timeout: Seconds; None means as many as the service has to get ready.

        Raises:
            KindInfraError: It has nothing to scale, or did not get ready.
        """
        workloads, deadline = self.workloads(service, timeout)
        path, before = workloads.replicas(workload)
        if test := self._current():
            self._changes.note(
                "scaled", service=self._own(service), test=test.name, path=path, replicas=before
            )
        workloads.scale(path, replicas, deadline)

    # -- objects of a test's own --------------------------------------------------------------

    def apply(
        self,
        objects: Any,
        *,
        namespace: str | None = None,
        wait: bool = True,
        timeout: float = 60.0,
    ) -> list[KubeObject]:
        """Apply objects with the images of the run, and return them as the server stored them.

        Args:
            objects: The path of a YAML file, an object, or several of either.
            namespace: Where those go that name none; None means the declared namespace.
            wait: Whether to wait until they are ready.
            timeout: Seconds until they must be.

        Raises:
            KindInfraError: They cannot be read, were refused, exist already, or did not get
                ready.
        """
        from pytest_kindinfra.intests.objects import (
            labels_of,
            outlines,
            read_objects,
            refuse_taken,
        )

        where, kube = namespace or self.namespace, self.writer
        read, test = read_objects(objects, folder=self._folder), self._current()
        labels = labels_of(test.name if test else "", self.run_id)
        images = self.images_in_use()
        ready = [images.put_in(obj, labels) for obj in read]
        deadline = Deadline.after(timeout, option="timeout")
        refuse_taken(kube, ready, where, labels, deadline)
        if test:
            data = {"objects": outlines(ready, where), "labels": labels}
            self._changes.note("applied", service="", test=test.name, **data)
        applied = [self._apply_one(obj, where, deadline) for obj in ready]
        if wait:
            kube.wait_ready(applied, namespace=where, deadline=deadline, restarts=0)
        return applied

    def run_job(self, objects: Any, *, namespace: str | None = None, timeout: float = 60.0) -> str:
        """Apply a Job, wait for its end, and return what it logged; deleted when the test ends.

        Args:
            objects: The path of a YAML file, an object, or several, at least one of them a Job.
            namespace: Where it goes if it names none; None means the declared namespace.
            timeout: Seconds until it must be complete.

        Raises:
            KindInfraError: It failed, which holds the end of its log, or was not complete in time.
        """
        from pytest_kindinfra.intests.objects import pods_of_job
        from pytest_kindinfra.intests.pods import merged_logs

        applied = self.apply(objects, namespace=namespace, timeout=timeout)
        jobs = [obj for obj in applied if obj["kind"] == "Job"]
        if not jobs:
            kinds = ", ".join(sorted({obj["kind"] for obj in applied}))
            msg = f"run_job() takes a Job, and there is none among: {kinds}"
            raise KindInfraError(msg)
        pods = [pod for job in jobs for pod in pods_of_job(self.writer, job)]
        return merged_logs(self.writer, pods, since=None)

    # -- for what changes a service in other ways --------------------------------------------------

    @cached_property
    def writer(self) -> Kube:
        """The API for changes: in a cluster of others it touches only what is this run's."""
        if not self._shared:
            return self.api
        from pytest_kindinfra.kube.cluster import SharedKube
        from pytest_kindinfra.kube.portforward import Forwards

        forwards = Forwards(self.kubeconfig)
        return SharedKube(self.kubeconfig, self.run_id, forwards, patience=self._patience)

    def workloads(self, service: str, timeout: float | None) -> tuple[Workloads, Deadline]:
        """Return what a service runs, and until when a change of it must have come to its end.

        Args:
            service: The service.
            timeout: Seconds; None means as many as the service has to get ready.
        """
        from pytest_kindinfra.intests.workloads import Workloads

        record = self._deployed(service)
        option = "timeout" if timeout else f"timeout of [services.{service}]"
        deadline = Deadline.after(timeout or record.timeout, option=option)
        return Workloads(self.writer, record), deadline

    def images_in_use(self) -> Images:
        """Return what image references in objects become."""
        from pytest_kindinfra.intests.objects import Images

        return Images(self._run.read_all(DeployedService).values(), self.images)

    def disturb(self, service: str, act: Callable[[], object], **data: Any) -> None:
        """Replace pods; until that is done, word is left that they may not be whole.

        Args:
            service: Whose pods.
            act: Does it.
            data: What is needed to see whether they are whole.
        """
        test = self._current()
        if test is None:
            act()
            return
        change = self._changes.note("disturbed", service=self._own(service), test=test.name, **data)
        act()
        self._changes.forget(change)

    # -- undoing ------------------------------------------------------------------------------

    def undo_own(self) -> None:
        """Undo what this process has changed, the last change first.

        Raises:
            KindInfraError: Something could not be undone; all of it was tried.
        """
        problems: list[str] = []
        for change in self._changes.own():
            self._undo(change, problems)
        if problems:
            raise KindInfraError("\n".join(problems))

    def undo_of_dead(
        self, limit: Deadline | None = None, *, tell: Callable[[Change], object] = lambda _: None
    ) -> list[str]:
        """Undo what killed processes of this run had changed; return what could not be.

        Args:
            limit: For all of it; None gives each change the time that its service has.
            tell: Called with each change before it is undone.
        """
        problems: list[str] = []

        def undo(change: Change) -> None:
            tell(change)
            self._undo(change, problems, limit)

        self._changes.undo_of_dead(undo)
        return problems

    def lack_of(self, services: frozenset[str]) -> str:
        """Return why one of the services is not whole; empty if nothing is known of it.

        What killed processes had changed is undone first.
        """
        self.undo_of_dead()
        return self._changes.broken({self._own(name) for name in services})

    def close(self) -> None:
        """Close connections to the cluster, if there are any."""
        super().close()
        if "writer" in vars(self) and self._shared:
            self.writer.close()
        if "_changes" in vars(self):
            self._changes.close()

    def _undo(self, change: Change, problems: list[str], limit: Deadline | None = None) -> None:
        try:
            self._undo_one(change, limit)
        except KindInfraError as error:
            what = (
                f'service "{change.service}" was not restored'
                if change.service
                else "some objects were not deleted"
            )
            text = (
                f"{what}: what the test {change.test} changed ({change.kind}) could not be undone: "
                f"{error}"
            )
            problems.append(text)
            self._changes.fail(change, text)
        else:
            self._changes.forget(change)

    def _undo_one(self, change: Change, limit: Deadline | None) -> None:
        from pytest_kindinfra.intests.objects import delete_objects

        if change.kind == "applied":
            delete_objects(self.writer, change.data["objects"], change.data["labels"])
            return
        workloads, deadline = self.workloads(change.service, None)
        if limit is not None and limit.at < deadline.at:
            deadline = limit
        if change.kind == "scaled":
            workloads.scale(change.data["path"], change.data["replicas"], deadline)
        else:
            workloads.await_whole(deadline, lasting=change.data.get("lasting", ()))

    # -- inside -------------------------------------------------------------------------------

    @cached_property
    def _changes(self) -> Changes:
        return Changes(self._run, os.environ.get("PYTEST_XDIST_WORKER", ""))

    def _deployed(self, service: str) -> DeployedService:
        self._service(service)  # waits for it
        record = self._run.read(DeployedService, self._own(service))
        if record is None:
            msg = f'service "{service}": not ready yet'
            raise NotReadyError(msg)
        return record

    def _apply_one(self, obj: KubeObject, namespace: str, deadline: Deadline) -> KubeObject:
        kube = self.writer
        where = obj["metadata"].get("namespace") or namespace
        stored = kube.apply(obj, namespace=where, deadline=deadline)
        if obj["kind"] == "CustomResourceDefinition":
            kube.wait_established(obj, deadline)
        if obj["kind"] == "Namespace":
            kube.ensure_namespace(obj["metadata"]["name"], deadline, {})
        # The server fills in how often a Job may fail, which cannot be told from what was meant.
        return {**stored, "spec": obj["spec"]} if obj["kind"] == "Job" else stored
