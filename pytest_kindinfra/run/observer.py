"""Tells those who show a board how far a bring-up has come, and no more often than they can show.

It looks at what runs and at which results are there. It must not know who shows it, nor how.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.run.messages import Progress, Work
from pytest_kindinfra.state.records import ClusterReady, ImageFailed, ImageReady, ServiceReady
from pytest_kindinfra.state.results import Failed
from pytest_kindinfra.system.files import is_there
from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.model import Phase, Plan
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.results import Result
    from pytest_kindinfra.system.secrets import Redactor
    from pytest_kindinfra.system.timeline import Running, Timeline


_EVERY = 0.1
"""Seconds between two messages at least."""


_LONGEST = 200
"""Characters of a line that something printed; no terminal shows more of it."""


class Observer:
    """Sends a `Progress` when something has changed; from any thread.

    Args:
        plan: What is brought up.
        run: Where the results are.
        timeline: What runs.
        redactor: Knows what must not be shown.
        send: Takes each message; must not wait.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunDirectory,
        *,
        timeline: Timeline,
        redactor: Redactor,
        send: Callable[[Progress], object],
    ) -> None:
        self._pending: dict[str, Callable[[], bool | None]] = {
            "cluster": partial(_settled, run, ClusterReady),
            **{f"image {one.name}": partial(_image, run, one.name) for one in plan.images},
            **{
                f"service {one.name}": partial(_settled, run, ServiceReady, one.name)
                for one in plan.services
            },
        }
        self._timeline = timeline
        self._redactor = redactor
        self._send = send
        self._settled: dict[str, bool] = {}
        self._last: Progress | None = None
        self._next = 0.0
        self._lock = threading.Lock()

    def look(self) -> None:
        """Send what there is if it is another than the last time; raise nothing."""
        with self._lock, suppress(Exception):  # a board must not end what it shows
            self._next = monotonic() + _EVERY
            progress = self._progress()
            if progress != self._last:
                self._last = progress
                self._send(progress)

    def __call__(self, _phase: Phase, _ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        """Take note that something began or ended; what comes too soon waits for the heartbeat."""
        if monotonic() >= self._next:
            self.look()

    def _progress(self) -> Progress:
        for name, settled in list(self._pending.items()):
            if (well := settled()) is not None:
                self._settled[name] = well
                del self._pending[name]
        running = tuple(self._work(one) for one in self._timeline.running)
        return Progress(running=running, settled=dict(self._settled))

    def _work(self, one: Running) -> Work:
        said = self._redactor.text(one.says())[:_LONGEST]
        return Work(
            kind=one.kind, subject=one.subject, start=one.start, reached=one.reached(), says=said
        )


def _settled(run: RunDirectory, kind: type[Result], name: str = "") -> bool | None:
    result = run.settled(kind, name)
    return None if result is None else not isinstance(result, Failed)


def _image(run: RunDirectory, name: str) -> bool | None:
    if is_there(run.file(ImageReady, name)):
        return True
    return False if is_there(run.file(ImageFailed, name)) else None
