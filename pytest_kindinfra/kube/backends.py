"""The pods that an endpoint leads to, and which of them a connection goes to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject


class PodPort(NamedTuple):
    """A port of a pod."""

    namespace: str
    pod: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The pods with these labels, and a port that each of them has, by number or name."""

    namespace: str
    labels: Mapping[str, str]
    port: int | str

    @property
    def path(self) -> str:
        """Where pods of the namespace are listed."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def query(self) -> dict[str, str]:
        """What selects the pods there."""
        return {"labelSelector": ",".join(f"{key}={value}" for key, value in self.labels.items())}

    @staticmethod
    def ready(pods: Sequence[KubeObject]) -> list[KubeObject]:
        """Return those of the pods that are ready, the newest first."""
        return sorted(filter(_is_ready, pods), key=_age, reverse=True)

    def pick(self, pods: Sequence[KubeObject]) -> PodPort:
        """Return the port of a ready pod, of the newest where there are several.

        Raises:
            NotReadyError: None is ready, or none has a port of that name.
        """
        ready = self.ready(pods)
        if not ready:
            msg = "no pod behind it is ready" if pods else "there is no pod behind it"
            raise NotReadyError(msg)
        for pod in ready:
            if (number := _number(self.port, pod)) is not None:
                return PodPort(self.namespace, pod["metadata"]["name"], number)
        msg = f'no container of the pods behind it has a port named "{self.port}"'
        raise NotReadyError(msg)


def _is_ready(pod: KubeObject) -> bool:
    status = pod.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    ending = pod["metadata"].get("deletionTimestamp")
    return not ending and conditions.get("Ready") == "True"


def _age(pod: KubeObject) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _number(port: int | str, pod: KubeObject) -> int | None:
    if isinstance(port, int):
        return port
    if port.isdecimal():
        return int(port)
    for entry in _ports(pod):
        if entry.get("name") == port and entry.get("protocol", "TCP") == "TCP":
            return int(entry["containerPort"])
    return None


def _ports(pod: KubeObject) -> Iterator[dict[str, Any]]:
    spec = pod.get("spec") or {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        yield from container.get("ports") or ()
