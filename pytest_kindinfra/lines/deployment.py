"""One service on its way up: what the parts of its line know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.kube import Kube, Missing, Outlook
    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.lines.renewal import Renewal
    from pytest_kindinfra.model import Cluster, PortMapping, Service
    from pytest_kindinfra.steps.deploy import ImagesInUse
    from pytest_kindinfra.timeline import Deadline


_EXISTING_GRACE = 30.0
"""Seconds for what is missing in an existing cluster: an operator there may be about to make it."""


@dataclass(slots=True)
class LastSentence:
    """What the API server said last of an object that it does not take yet; empty if it took it."""

    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One service on its way up, and all that its line needs to know.

    Attributes:
        makers: Names what may still bring something that an object of the service lacks.
        said: Shown while objects cannot be applied.
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
    makers: Callable[[Missing], Sequence[str]] = lambda _missing: ()
    said: LastSentence = field(default_factory=LastSentence)

    @property
    def outlook(self) -> Outlook:
        """What may still change a refusal of the API server, and who hears of it."""
        from pytest_kindinfra.kube import Outlook

        redactor, existing = self.context.tools.redactor, self.context.request.existing
        return Outlook(
            makers=self.makers,
            tell=lambda text: setattr(self.said, "text", redactor.text(text)),
            grace=_EXISTING_GRACE if existing else 0.0,
        )

    @property
    def ports(self) -> dict[str, PortMapping]:
        """Endpoint to its port mapping in this cluster."""
        ports = self.cluster.ports or self.context.plan.ports
        return {one.endpoint: one for one in ports if one.service == self.service.name}
