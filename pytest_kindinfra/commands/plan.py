"""`kindinfra plan`: what a run would do, as lines or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.images import prepare_services
from pytest_kindinfra.images.tags import look_up
from pytest_kindinfra.names import worker_name
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.run.report import plan_lines
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.images.tags import Known
    from pytest_kindinfra.model import Plan, PortMapping, Service
    from pytest_kindinfra.run.prepare import Prepared


def plan_text(services: Sequence[str], *, workers: int = 0) -> list[str]:
    """Return the lines of `kindinfra plan`; no services means all that are declared.

    Args:
        services: Their names.
        workers: For so many xdist workers services per worker are shown; 0 means without xdist.

    Raises:
        DeclarationError: With all problems.
    """
    prepared, known = _prepared(services, workers)
    existing = prepared.settings.kubeconfig
    notes = [f"note: {note}" for note in prepared.notes]
    return notes + plan_lines(prepared.plan, prepared.request, known, kubeconfig=existing)[1:]


def plan_record(services: Sequence[str], *, workers: int = 0) -> dict[str, Any]:
    """Return the same for JSON; see `plan_text` for the arguments.

    Returns:
        `cluster`: `name` (None if each run has a new one), `kubeconfig` of an existing one or None,
        `node_image` or None, `engine`, `engine_answers`, `namespace`; `images`: name to
        `reference` (without an image in the engine, what stands for what it would be built from),
        `context` (what stands for that in any case), `in_engine` (None if the engine did not
        answer), `prebuilt` and `archive`;
        `external_images`: reference to whether the engine has it; `services`: in the order of
        their needs, each with `name`, `needs`, `images`, `before`, `per` and `namespace`;
        `endpoints`: service to endpoint to `host_port` (None for any free one) and `node_port`
        (None for one that is reached in another way than through a NodePort).

    Raises:
        DeclarationError: With all problems.
    """
    prepared, known = _prepared(services, workers)
    plan, request = prepared.plan, prepared.request
    external = dict.fromkeys(one for found in plan.external.values() for one in found)
    existing = prepared.settings.kubeconfig
    return {
        "cluster": {
            "name": request.cluster if request.named and not existing else None,
            "kubeconfig": str(existing) if existing else None,
            "node_image": request.node_image,
            "engine": known.engine,
            "engine_answers": known.there is not None,
            "namespace": request.namespace,
        },
        "images": _images(plan, known),
        "external_images": {reference: _there(reference, known) for reference in external},
        "services": [
            _service(one, plan.namespaces.get(one.name, request.namespace)) for one in plan.services
        ],
        "endpoints": _endpoints(plan),
    }


def _prepared(services: Sequence[str], workers: int) -> tuple[Prepared, Known]:
    prepared = prepare_services(
        declaration_folder(Path.cwd()),
        services or None,
        options={},
        door=Door(
            purpose="plan",
            run_id="RUN_ID",
            workers=tuple(worker_name(one) for one in range(workers)),
        ),
    )
    return prepared, look_up(prepared.plan, make_tools(prepared.settings.engine).engine)


def _there(reference: str, known: Known) -> bool | None:
    return None if known.there is None else reference in known.there


def _images(plan: Plan, known: Known) -> dict[str, dict[str, Any]]:
    return {
        image.name: {
            "reference": known.tags.get(image.name),
            "context": known.contexts.get(image.name),
            "in_engine": _there(known.tags.get(image.name, ""), known),
            "prebuilt": image.prebuilt,
            "archive": str(image.archive) if image.archive else None,
        }
        for image in plan.images
    }


def _service(service: Service, namespace: str) -> dict[str, Any]:
    return {
        "name": service.name,
        "needs": {need.name: need.level for need in service.needs},
        "images": list(service.images),
        "before": service.before,
        "per": service.per,
        "namespace": namespace,
    }


def _endpoints(plan: Plan) -> dict[str, dict[str, dict[str, int | None]]]:
    found: dict[str, list[PortMapping]] = {one.name: [] for one in plan.services}
    for port in plan.ports:
        if port.endpoint and port.service in found:
            found[port.service].append(port)
    mapped: dict[str, dict[str, dict[str, int | None]]] = {
        name: {
            one.endpoint: {"host_port": one.host_port or None, "node_port": one.node_port}
            for one in ports
        }
        for name, ports in found.items()
    }
    for service in plan.services:
        for spec in service.endpoints:
            other = {"host_port": spec.host_port, "node_port": None}
            mapped[service.name].setdefault(spec.name, other)
    return mapped
