"""Services as if they had just been deployed: restarted, their Jobs and steps run again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pytest_kindinfra.deploy.apply import Target, apply_objects, run_function
from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.intests.changes import CurrentTest
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube.client import AWAY
from pytest_kindinfra.model import Service
from pytest_kindinfra.names import (
    copy_name,
    worker_of,
)
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.system.timeline import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Deadline


class Freshness:
    """Renews deployed services of a run.

    Args:
        run: The run directory.
        shared: The cluster holds more than this run's objects.
        folder: Where relative paths and modules of `run` steps start.
        test: The node id of the test that wants them fresh.
        worker: Whose copies of services per worker are meant; empty without xdist.
    """

    def __init__(
        self, run: RunDirectory, *, shared: bool, folder: Path, test: str, worker: str = ""
    ) -> None:
        self._run = run
        self._worker = worker
        current = CurrentTest(name=test, since=now())
        self._shared = shared
        self._folder = folder
        self._stack = Stack(
            run, shared=shared, folder=folder, current=lambda: current, patience=AWAY
        )
        self._records = run.read_all(DeployedService)

    def close(self) -> None:
        """Close connections to the cluster."""
        self._stack.close()

    def renew(self, services: Iterable[str]) -> None:
        """Renew services and what needs them, each once those before it are whole.

        When this process is killed meanwhile, or a service does not get ready, the next test that
        needs the service finds out whether it is whole.

        Raises:
            KindInfraError: One did not get ready.
        """
        for name in self._affected(services):
            self._renew(self._records[name])

    def _affected(self, services: Iterable[str]) -> list[str]:
        """Return the services and all that needs them, needs first."""
        needs = {
            name: [need for need in record.needs if need in self._records]
            for name, record in self._records.items()
        }
        copies = {name: copy_name(name, self._worker) for name in services}
        wanted = {copy if copy in self._records else name for name, copy in copies.items()}
        if missing := sorted(wanted - set(self._records)):
            msg = f'service "{missing[0]}": not ready yet'
            raise NotReadyError(msg)
        return [name for name in in_order(needs, needs) if wanted & set(in_order([name], needs))]

    def _renew(self, record: DeployedService) -> None:
        workloads, deadline = self._stack.workloads(record.service, None)
        once = workloads.once()

        def act() -> None:
            if record.run:
                self._run_step(record, deadline)
            workloads.renew(deadline)

        self._stack.disturb(record.service, act, lasting=once)

    def _run_step(self, record: DeployedService, deadline: Deadline) -> None:
        service = Service(
            name=record.service, run=record.run, images=tuple(record.references),
            images_at=record.images_at,
        )  # fmt: skip
        stack = Stack(
            self._run,
            shared=self._shared,
            folder=self._folder,
            worker=worker_of(record.service),
            namespace=record.namespace,
            patience=AWAY,
        )
        with closing(stack):
            objects = run_function(service, stack, folder=self._folder, deadline=deadline)
        apply_objects(
            service,
            objects,
            images=self._stack.images_in_use().of(objects, record.images_at),
            target=Target(kube=self._stack.writer, namespace=record.namespace),
            deadline=deadline,
            content=record.content,
            make_namespace=self._namespace_maker(deadline),
        )

    def _namespace_maker(self, deadline: Deadline) -> Callable[[str], object]:
        """Return what makes namespaces; in an existing cluster they are its owner's to make."""
        writer = self._stack.writer
        if self._shared:
            return lambda _name: None
        return lambda name: writer.ensure_namespace(name, deadline, {})
