"""What pods ask for, compared with the machine that has to give it. Pure.

The scheduler leaves a pod Pending for whose requests no node has room, however idle it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import pod_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kindinfra.model import KubeObject, Plan


_QUANTITY = re.compile(r"([0-9.]+)(m|k|[MGTPE]|[KMGTPE]i|[eE][0-9]+)?")


_UNITS = {
    **{unit: 1000.0 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024.0 ** (power + 1) for power, unit in enumerate("KMGTPE")},
    "m": 0.001,
    "": 1.0,
}


@dataclass(frozen=True, slots=True)
class Amount:
    """CPUs, and bytes of memory."""

    cpus: float = 0.0
    memory: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpus + other.cpus, self.memory + other.memory)

    def __str__(self) -> str:
        return f"{self.cpus:.1f} CPUs and {self.memory / 1e9:.1f} GB of memory"

    def fits(self, machine: Amount) -> bool:
        """Whether a machine has both; what is not known of it, 0, is enough."""
        cpus = not machine.cpus or self.cpus <= machine.cpus
        return cpus and (not machine.memory or self.memory <= machine.memory)


def crowding(plan: Plan, machine: Amount) -> Iterator[str]:
    """Yield a sentence if a plan with copies for workers requests more than a machine has.

    Args:
        plan: With its copies.
        machine: What it has.
    """
    copies = [one.name for one in plan.services if one.worker]
    workers = len({one.worker for one in plan.services if one.worker})
    all_of_it = requested(obj for found in plan.objects.values() for obj in found)
    own = requested(obj for name in copies for obj in plan.objects.get(name, ()))
    if copies and not all_of_it.fits(machine):
        yield (
            f"the services request {all_of_it}, {own} of it for {len(copies)} copies for {workers} "
            f"workers; this machine has {machine}: pods may stay Pending; fewer workers (-n) or "
            "smaller requests help"
        )


def requested(objects: Iterable[KubeObject]) -> Amount:
    """Return what the pods of workloads request together, while all of them run."""
    each = (_amount(spec, _replicas(obj)) for obj in objects for spec in pod_specs(obj))
    return reduce(add, each, Amount())


def _replicas(obj: KubeObject) -> float:
    """Return how many pods a workload has; those of a CronJob come and go."""
    spec: Any = obj.get("spec") if isinstance(obj.get("spec"), dict) else {}
    count = spec.get("parallelism" if obj["kind"] == "Job" else "replicas", 1)
    return 0 if obj["kind"] == "CronJob" else count if isinstance(count, int) else 1


def _amount(spec: Mapping[str, Any], replicas: float) -> Amount:
    """Return what pods request: their containers together, or the largest one before them."""
    total = reduce(add, _of_containers(spec, "containers"), Amount())
    before = _of_containers(spec, "initContainers")
    cpus = max([total.cpus, *(one.cpus for one in before)])
    memory = max([total.memory, *(one.memory for one in before)])
    return Amount(cpus * replicas, memory * replicas)


def _of_containers(spec: Mapping[str, Any], key: str) -> list[Amount]:
    return [_of_container(one) for one in spec.get(key) or () if isinstance(one, dict)]


def _of_container(container: Mapping[str, Any]) -> Amount:
    """Return a container's requests; where it has only limits, they are its requests."""
    found: dict[str, float] = {}
    for key in ("limits", "requests"):
        table = (container.get("resources") or {}).get(key)
        for name, text in (table or {}).items() if isinstance(table, dict) else ():
            found[name] = parse_quantity(text)
    return Amount(found.get("cpu", 0.0), found.get("memory", 0.0))


def parse_quantity(text: Any) -> float:
    """Return a quantity of Kubernetes as a number: `500m`, `1Gi`, `2`, `1e9`; 0 for any other."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return 0.0
    number, unit = match[1], match[2] or ""
    try:
        return float(number) * _UNITS[unit] if unit in _UNITS else float(f"{number}{unit}")
    except ValueError:
        return 0.0
