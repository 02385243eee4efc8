"""Which kind nodes take images: as soon as containerd answers, long before they take pods.

They are waited for together, so that images go to all of them in one stream; but one that is late
does not hold the others up. When it answers it gets what they got, and only then is an image
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.timeline import wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.model import Cluster
    from pytest_kindinfra.steps.load import ImageLoader
    from pytest_kindinfra.timeline import Deadline

_EVERY = 0.5
_TOGETHER = 5.0
"""Seconds that the first kind node waits for the others; they are started together, and answered
within 1.5 s of each other where a machine was busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takers:
    """The kind nodes of a cluster that is being created.

    Attributes:
        provider: Knows them.
        cluster: The cluster's name.
        count: How many there will be, 0 if they are there.
        created: The cluster, when `create` has returned.
        together: Seconds that the first one waits for the others.
    """

    provider: Provider
    cluster: str
    count: int
    created: Future[Cluster]
    together: float = _TOGETHER

    def first(self, deadline: Deadline) -> tuple[str, ...]:
        """Return all kind nodes; those that answer where one of them is late.

        Raises:
            ClusterError: None of them does.
        """
        if not self.count:
            return self._standing()
        patience: list[Deadline] = []

        def enough() -> tuple[str, ...]:
            nodes = self._answering(deadline)
            if nodes and not patience:
                patience.append(deadline.within(self.together))
            return nodes if len(nodes) == self.count or (nodes and patience[0].passed) else ()

        if nodes := wait_until(enough, deadline, every=_EVERY):
            return nodes
        msg = f'the container runtime of cluster "{self.cluster}" does not answer{deadline.told()}'
        raise ClusterError(msg)

    def join_late(self, loader: ImageLoader, there: tuple[str, ...], deadline: Deadline) -> None:
        """Give the loader the others when they answer; without them no load is done."""
        try:
            if not wait_until(lambda: self._all(deadline), deadline, every=_EVERY):
                late = self.count - len(there)
                msg = (
                    f'of cluster "{self.cluster}" {late} kind node{"s" * (late > 1)} took no '
                    f"images{deadline.told()}; those that did: {', '.join(there)}"
                )
                raise ClusterError(msg)  # noqa: TRY301 - told like any other failure
            others = (node for node in self._all(deadline) if node not in there)
            loader.join(tuple(others), deadline)
        except BaseException as error:
            loader.give_up(error)
            raise

    def _standing(self) -> tuple[str, ...]:
        if nodes := self.created.result().nodes:
            return nodes
        msg = f'cluster "{self.cluster}" has no kind nodes on this host that images go to'
        raise ClusterError(msg)

    def _all(self, deadline: Deadline) -> tuple[str, ...]:
        nodes = self._answering(deadline)
        return nodes if len(nodes) == self.count else ()

    def _answering(self, deadline: Deadline) -> tuple[str, ...]:
        if self.created.done():  # kubeadm would have failed without them; and so do we, if it did
            return self.created.result().nodes
        return self.provider.nodes_that_take_images(self.cluster, deadline)
