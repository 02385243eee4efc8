"""What services and workers' copies of them are called, and the labels of their objects. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import SERVICE_LABEL, WORKER_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping


def copy_name(service: str, worker: str) -> str:
    """Return what a worker's copy of a service is called: `web.gw1`; without a worker, `web`.

    No declared service has a dot in its name, and a label's value may have one.
    """
    return f"{service}.{worker}" if worker else service


def worker_name(number: int) -> str:
    """Return what a worker is called, counted from 0: `gw1`, as xdist does."""
    return f"gw{number}"


def copy_namespace(namespace: str, worker: str) -> str:
    """Return where a worker's copies are: `default-gw1`."""
    return f"{namespace}-{worker}"


def declared_name(service: str) -> str:
    """Return the declared name of a service or of a worker's copy: `web` for `web.gw1`."""
    return service.partition(".")[0]


def service_labels(service: str) -> dict[str, str]:
    """Return the labels of the objects of a service or of a worker's copy."""
    worker = {WORKER_LABEL: worker_of(service)} if worker_of(service) else {}
    return {SERVICE_LABEL: declared_name(service), **worker}


def service_selector(service: str) -> str:
    """Return what selects the objects with just these labels."""
    worker = worker_of(service)
    of = f"{WORKER_LABEL}={worker}" if worker else f"!{WORKER_LABEL}"
    return f"{SERVICE_LABEL}={declared_name(service)},{of}"


def labelled_service(labels: Mapping[str, Any] | None) -> str:
    """Return the service or the copy that labels name; empty if they name none."""
    there = labels or {}
    return copy_name(str(there.get(SERVICE_LABEL, "")), str(there.get(WORKER_LABEL, "")))


def worker_of(service: str) -> str:
    """Return whose copy a name is of: `gw1` for `web.gw1`, empty for a declared name."""
    return service.partition(".")[2]
