"""Bring images from the engine into every kind node, as many as possible in one stream.

One archive of several images is sent in half the time of one archive each, since shared layers
travel once (docs/decisions/0003). So whatever is asked for while a stream runs goes into the next
one. Kind nodes take images long before they take pods; one that is late does not hold the others
up, but gets what they got before a load is done.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_kindinfra.errors import CancelledError, ClusterError
from pytest_kindinfra.images.stream import Sender
from pytest_kindinfra.model import Phase
from pytest_kindinfra.references import name_in_node
from pytest_kindinfra.system.timeline import Running, now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import Cluster, Load
    from pytest_kindinfra.protocols.cluster import KindNodes, Provider
    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline, Timeline


_MEGABYTE = 1_000_000


_EVERY = 0.5


_SETTLE_SECONDS = 5.0
"""Seconds that the first kind node waits for the others; they are started together, and answered
within 1.5 s of each other where a machine was busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReadyNodes:
    """The kind nodes of a cluster that is being created, as they begin to accept images.

    Attributes:
        provider: Says which kind nodes accept images.
        cluster: The cluster's name.
        count: How many kind nodes there will be, 0 if they accept images already.
        created: The cluster, when `create` has returned.
        settle: Seconds that the first one waits for the others.
    """

    provider: Provider
    cluster: str
    count: int
    created: Future[Cluster]
    settle: float = _SETTLE_SECONDS

    def await_first(self, deadline: Deadline) -> tuple[str, ...]:
        """Return all kind nodes; those that answer where one of them is late.

        Raises:
            ClusterError: None of them does.
        """
        if not self.count:
            return self._existing_nodes()
        patience: list[Deadline] = []

        def enough() -> tuple[str, ...]:
            nodes = self._answering(deadline)
            if nodes and not patience:
                patience.append(deadline.within(self.settle))
            return nodes if len(nodes) == self.count or (nodes and patience[0].passed) else ()

        if nodes := wait_until(enough, deadline, every=_EVERY):
            return nodes
        runtime = f'the container runtime of cluster "{self.cluster}"'
        msg = f"{runtime} does not answer{deadline.exceeded()}"
        raise ClusterError(msg)

    def join_late(self, loader: ImageLoader, there: tuple[str, ...], deadline: Deadline) -> None:
        """Give the loader the others when they answer; without them no load is done."""
        try:
            if not wait_until(lambda: self._all(deadline), deadline, every=_EVERY):
                late = self.count - len(there)
                msg = (
                    f'{late} kind node{"s" * (late > 1)} of cluster "{self.cluster}" accepted no '
                    f"images{deadline.exceeded()}; nodes that did: {', '.join(there)}"
                )
                raise ClusterError(msg)  # noqa: TRY301 - told like any other failure
            others = (node for node in self._all(deadline) if node not in there)
            loader.join(tuple(others), deadline)
        except BaseException as error:
            loader.give_up(error)
            raise

    def _existing_nodes(self) -> tuple[str, ...]:
        if nodes := self.created.result().nodes:
            return nodes
        msg = f'cluster "{self.cluster}" has no kind nodes on this host to load images into'
        raise ClusterError(msg)

    def _all(self, deadline: Deadline) -> tuple[str, ...]:
        nodes = self._answering(deadline)
        return nodes if len(nodes) == self.count else ()

    def _answering(self, deadline: Deadline) -> tuple[str, ...]:
        if self.created.done():  # kubeadm would have failed without them; and so do we, if it did
            return self.created.result().nodes
        return self.provider.image_ready_nodes(self.cluster, deadline)


_TOGETHER = 0.02
"""Seconds until a stream begins: images that became free at the same moment as the first, when
the kind nodes take images, come along."""


_LINGER = 0.5
"""Seconds for which a stream waits for images of builds that still run. Builds of one kind end at
about the same time, and an image that missed the stream has its base read by the engine again."""


_LOOK_EVERY = 0.05


class Sent(Protocol):
    """How much a load took."""

    @property
    def sent(self) -> int | None:
        """Bytes that went to all kind nodes together, where that is known."""
        ...

    @property
    def note(self) -> str:
        """A word for the table."""
        ...


class Sending(Protocol):
    """Brings images of the engine into kind nodes; one call at a time.

    Attributes:
        layers: What was found out: the name of an image to its layers, digest to bytes.
    """

    layers: dict[str, dict[str, int]]

    def passed(self) -> int:
        """Return the bytes that the send that goes on has read so far, 0 if that is not known."""
        ...

    def name_of(self, reference: str, deadline: Deadline) -> str:
        """Return what pods run in place of `reference`."""
        ...

    def listed_as(self, reference: str, deadline: Deadline) -> str:
        """Return the full name under which a kind node that has the image lists it."""
        ...

    def send(self, references: tuple[str, ...], nodes: tuple[str, ...], deadline: Deadline) -> Sent:
        """Return when all of `nodes` have all images."""
        ...


@dataclass(slots=True)
class _Batch:
    """Images that go in one stream: reference to name, and what became of them."""

    names: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


class ImageLoader:
    """Loads images into the kind nodes of one cluster; safe from several threads.

    Args:
        nodes: The kind nodes that take images now.
        engine: Has the images.
        kind_nodes: Looks into them.
        runner: Runs programs.
        timeline: Gets a phase for each image.
        how: The way, where `sender` is not given.
        sender: The way.
        late: Further kind nodes will `join`; until then no load is done.

    Attributes:
        more_come: Whether images are still being built, which a stream waits a moment for.
    """

    def __init__(
        self,
        nodes: tuple[str, ...],
        *,
        engine: Engine,
        kind_nodes: KindNodes,
        runner: Runner,
        timeline: Timeline,
        how: Load = "auto",
        sender: Sending | None = None,
        late: bool = False,
    ) -> None:
        self._nodes = nodes
        self._kind_nodes = kind_nodes
        self._sender: Sending = sender or Sender(
            engine=engine, kind_nodes=kind_nodes, runner=runner, how=how
        )
        self._timeline = timeline
        self.more_come: Callable[[], bool] = lambda: False
        self._stream = threading.Lock()
        self._state = threading.Lock()
        self._next = _Batch()
        self._sent: dict[str, str] = {}
        self._complete = threading.Event()
        self._late_error: BaseException | None = None
        if not late:
            self._complete.set()

    def load(self, name: str, reference: str, deadline: Deadline) -> str:
        """Return what pods run in place of `reference`, when all kind nodes have the image.

        Args:
            name: What the image is called in the timeline.
            reference: What the engine knows it by.
            deadline: When to give up.

        Raises:
            CommandError: It could not be sent.
            CancelledError: The run is ending.
        """
        self.load_together({reference: name}, deadline)
        return self._sender.name_of(reference, deadline)

    def load_together(self, images: Mapping[str, str], deadline: Deadline) -> None:
        """Return when all kind nodes have these images, which go in one stream.

        Args:
            images: What the engine knows each by, to its name in the timeline.
            deadline: When to give up.

        Raises:
            CommandError: They could not be sent.
            CancelledError: The run is ending.
        """
        with self._state:
            batch = self._next
            batch.names.update(images)
        with self._stream:
            if batch is self._next:
                self._await_others(deadline)
            if self._is_unsent(batch):
                self._send(batch, deadline)
        if batch.error:
            raise batch.error
        self._await_late(deadline)

    def _await_others(self, deadline: Deadline) -> None:
        """Let those come along who ask now, or within a moment while builds run."""
        deadline.pause(_TOGETHER)
        wait_until(lambda: not self.more_come(), deadline.within(_LINGER), every=_LOOK_EVERY)

    def join(self, nodes: tuple[str, ...], deadline: Deadline) -> None:
        """Take the kind nodes that were late, and send them all that the others got.

        Raises:
            CommandError: It could not be sent; every load fails then.
            CancelledError: The run is ending.
        """
        with self._stream:
            self._nodes += nodes
            try:
                self._send_what_is_missing(self._sent, deadline)
            except BaseException as error:
                self.give_up(error)
                raise
        self._complete.set()

    @property
    def layers(self) -> dict[str, dict[str, int]]:
        """What was found out of images: full reference to layers, digest to bytes."""
        return {name_in_node(name): layers for name, layers in self._sender.layers.items()}

    def give_up(self, error: BaseException) -> None:
        """Fail all loads, since kind nodes that were late will not join."""
        self._late_error = error
        self._complete.set()

    def _await_late(self, deadline: Deadline) -> None:
        there = self._complete.is_set()
        if not there and not wait_until(self._complete.is_set, deadline, every=_LOOK_EVERY):
            msg = f"not all kind nodes accept images; those that do: {', '.join(self._nodes)}"
            raise ClusterError(msg)
        if self._late_error:
            raise self._late_error

    def _is_unsent(self, batch: _Batch) -> bool:
        """Whether it has not been sent yet; from now on images go into another one."""
        with self._state:
            unsent = batch is self._next
            if unsent:
                self._next = _Batch()
        return unsent

    def _send(self, batch: _Batch, deadline: Deadline) -> None:
        """Send one batch; its failure is kept for everyone who waits for a part of it."""
        try:
            self._send_what_is_missing(batch.names, deadline)
            self._sent.update(batch.names)
        except Exception as error:  # noqa: BLE001 - raised again in each waiting thread
            batch.error = error

    def _send_what_is_missing(self, names: dict[str, str], deadline: Deadline) -> None:
        start = now()  # asking for a name may be a part of the way
        if missing := self._missing(tuple(names), deadline):
            self._send_missing(names, missing, start, deadline)
            with suppress(CancelledError):  # those that wait for more find out themselves
                self._see_them_there(tuple(names), deadline)

    def _see_them_there(self, references: tuple[str, ...], deadline: Deadline) -> None:
        """Raise unless the kind nodes list all images by the names that pods ask for."""
        for node, lacking in self._missing(references, deadline).items():
            msg = (
                f"kind node {node} accepted {', '.join(lacking)} without an error, but does not"
                f" list it\nTo fix: try --kindinfra-load=archive, and look at"
                f" `docker exec {node} ctr --namespace k8s.io images list`"
            )
            raise ClusterError(msg)

    def _missing(
        self, references: tuple[str, ...], deadline: Deadline
    ) -> dict[str, tuple[str, ...]]:
        """Return, for each kind node that lacks some, the images that it lacks."""
        missing = {}
        full = {ref: self._sender.listed_as(ref, deadline) for ref in references}
        for node in self._nodes:
            there = self._kind_nodes.images_in(node, deadline)
            lacking = tuple(ref for ref in references if full[ref] not in there)
            if lacking:
                missing[node] = lacking
        return missing

    def _reached(self) -> str:
        return _shown(self._sender.passed())

    def _send_missing(
        self,
        names: dict[str, str],
        missing: dict[str, tuple[str, ...]],
        start: float,
        deadline: Deadline,
    ) -> None:
        references = tuple(dict.fromkeys(ref for refs in missing.values() for ref in refs))
        works = [Running("load", names[one], start, reached=self._reached) for one in references]
        with self._timeline.watched(works):
            volume = self._sender.send(references, tuple(missing), deadline)
        end = now()
        for reference in references:
            self._timeline.add(
                Phase(
                    kind="load",
                    subject=names[reference],
                    start=start,
                    end=end,
                    note=volume.note,
                    sent=volume.sent,
                )
            )


def _shown(volume: int) -> str:
    return f"{volume / _MEGABYTE:.0f} MB" if volume >= _MEGABYTE else ""


def open_loader(
    context: Context,
    count: int,
    created: Future[Cluster],
    sender: Sending | None,
    begin: Callable[[Callable[[], None]], object],
) -> ImageLoader:
    """Return a loader as soon as kind nodes take images.

    Args:
        context: The bring-up.
        count: How many kind nodes there will be, 0 if they exist.
        created: The cluster, once `create` has returned.
        sender: The way images go, None for the one by the run's options.
        begin: Begins a further piece of work: waiting for kind nodes that are late.

    Raises:
        ClusterError: No kind node takes images.
    """
    tools, deadline = context.tools, context.deadline()
    ready = ImageReadyNodes(
        provider=tools.provider, cluster=context.request.cluster, count=count, created=created
    )
    nodes = ready.await_first(deadline)
    late = len(nodes) < ready.count
    loader = ImageLoader(
        nodes,
        engine=tools.engine,
        kind_nodes=tools.kind_nodes,
        runner=tools.runner,
        timeline=tools.timeline,
        how=context.request.load,
        sender=sender,
        late=late,
    )
    if late:
        begin(lambda: ready.join_late(loader, nodes, deadline))
    return loader
