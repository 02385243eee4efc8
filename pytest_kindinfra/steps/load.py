"""Bring images from the engine into every kind node, as many as possible in one stream.

One archive of several images is sent in half the time of one archive each, since the layers
that they share travel once (measured for docs/decisions/0003); so whatever is asked for while a
stream runs goes together into the next one. A step must not know another step.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.model import Phase
from pytest_kindinfra.references import normalise
from pytest_kindinfra.sending import Sender
from pytest_kindinfra.timeline import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Load
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.sending import Volume
    from pytest_kindinfra.timeline import Deadline, Timeline

_TOGETHER = 0.02
"""Seconds until a stream begins: whoever was let go at the same moment as the first, which is when
the kind nodes take images, comes along."""


@dataclass(slots=True)
class _Batch:
    """Images that go in one stream: reference to name, and what became of them."""

    names: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


class ImageLoader:
    """Loads images into the kind nodes of one cluster; safe from several threads."""

    def __init__(
        self,
        nodes: tuple[str, ...],
        *,
        engine: Engine,
        provider: Provider,
        runner: Runner,
        timeline: Timeline,
        how: Load = "auto",
    ) -> None:
        self._nodes = nodes
        self._provider = provider
        self._sender = Sender(engine=engine, provider=provider, runner=runner, how=how)
        self._timeline = timeline
        self._stream = threading.Lock()
        self._state = threading.Lock()
        self._next = _Batch()

    def load(self, name: str, reference: str, deadline: Deadline) -> None:
        """Return when all kind nodes have the image.

        Args:
            name: What the image is called in the timeline.
            reference: What the engine knows it by.
            deadline: When to give up.

        Raises:
            CommandError: It could not be sent.
            CancelledError: The run is ending.
        """
        self.load_together({reference: name}, deadline)

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
            deadline.pause(_TOGETHER if batch is self._next else 0.0)
            if self._is_unsent(batch):
                self._send(batch, deadline)
        if batch.error:
            raise batch.error

    def _is_unsent(self, batch: _Batch) -> bool:
        """Whether nobody has sent it yet; from now on images go into another one."""
        with self._state:
            unsent = batch is self._next
            if unsent:
                self._next = _Batch()
        return unsent

    def _send(self, batch: _Batch, deadline: Deadline) -> None:
        """Send one batch; its failure is kept for everyone who waits for a part of it."""
        try:
            if missing := self._missing(tuple(batch.names), deadline):
                self._send_missing(batch.names, missing, deadline)
        except Exception as error:  # noqa: BLE001 - raised again in each waiting thread
            batch.error = error

    def _missing(
        self, references: tuple[str, ...], deadline: Deadline
    ) -> dict[str, tuple[str, ...]]:
        """Return, for each kind node that lacks some, the images that it lacks."""
        missing = {}
        for node in self._nodes:
            there = self._provider.images_in(node, deadline)
            lacking = tuple(ref for ref in references if normalise(ref) not in there)
            if lacking:
                missing[node] = lacking
        return missing

    def _send_missing(
        self, names: dict[str, str], missing: dict[str, tuple[str, ...]], deadline: Deadline
    ) -> None:
        references = tuple(dict.fromkeys(ref for refs in missing.values() for ref in refs))
        start = now()
        volume = self._sender.send(references, tuple(missing), deadline)
        end, note = now(), note_of(volume)
        for reference in references:
            self._timeline.add(
                Phase(
                    kind="load",
                    subject=names[reference],
                    start=start,
                    end=end,
                    note=note,
                    sent=volume.sent,
                )
            )


def note_of(volume: Volume) -> str:
    """Return the note of a load: `3 of 263 MB`, or `263 MB` if all of it was sent."""
    sent, whole = (f"{number / 1_000_000:.0f}" for number in (volume.sent, volume.whole))
    return f"{whole} MB" if sent == whole else f"{sent} of {whole} MB"
