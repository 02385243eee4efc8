"""Services as if they had just been deployed: restarted, their Jobs and steps run again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pytest_kindinfra.deploy.apply import run_function
from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.intests.objects import Images
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.intests.workloads import Workloads
from pytest_kindinfra.model import Service, copy_name, service_labels, worker_of
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory


class Freshness:
    """Renews deployed services of a run.

    Args:
        run: The run directory.
        shared: The cluster holds more than this run's objects.
        folder: Where relative paths and modules of `run` steps start.
        worker: Whose copies of services per worker are meant; empty without xdist.
    """

    def __init__(self, run: RunDirectory, *, shared: bool, folder: Path, worker: str = "") -> None:
        self._run = run
        self._folder = folder
        self._shared = shared
        self._stack = Stack(run, shared=shared, folder=folder)
        self._worker = worker
        self._records = run.read_all(DeployedService)

    def close(self) -> None:
        """Close connections to the cluster."""
        self._stack.close()

    def renew(self, services: Iterable[str]) -> None:
        """Renew services and what needs them, each once those before it are whole.

        Raises:
            KindInfraError: One did not get ready.
        """
        for name in self._affected(services):
            record = self._records[name]
            option = f"timeout of [services.{name}]"
            self._renew(record, Deadline.after(record.timeout, option=option))

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

    def _renew(self, record: DeployedService, deadline: Deadline) -> None:
        workloads = Workloads(self._stack.api, record)
        if record.run:
            self._run_step(record, deadline)
        workloads.renew(deadline)

    def _run_step(self, record: DeployedService, deadline: Deadline) -> None:
        service = Service(name=record.service, run=record.run, images=tuple(record.references))
        stack = Stack(
            self._run,
            shared=self._shared,
            folder=self._folder,
            worker=worker_of(record.service),
            namespace=record.namespace,
        )
        with closing(stack):
            objects = run_function(service, stack, folder=self._folder, deadline=deadline)
        images = Images(self._records.values(), ())
        for obj in objects:
            made = images.put_in(obj, service_labels(record.service))
            self._stack.api.apply(made, namespace=record.namespace, deadline=deadline)
