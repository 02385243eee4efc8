"""One service on its way up: what the parts of its line know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.lines.renewal import Renewal
    from pytest_kindinfra.model import Cluster, PortMapping, Service
    from pytest_kindinfra.steps.deploy import ImagesInUse
    from pytest_kindinfra.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One service on its way up, and all that its line needs to know.

    Attributes:
        unready: Whether a need of which less than `ready` is asked is not ready yet.
    """

    service: Service
    cluster: Cluster
    kube: Kube
    images: ImagesInUse
    context: Context
    deadline: Deadline
    renewal: Renewal
    unready: Callable[[], bool] = lambda: False

    @property
    def ports(self) -> dict[str, PortMapping]:
        """Endpoint to its port mapping in this cluster."""
        ports = self.cluster.ports or self.context.plan.ports
        return {one.endpoint: one for one in ports if one.service == self.service.name}
