"""What pods said and did since a moment: the ends of their logs, restarts, events.

For the report of a test that failed, so it is bounded in lines, in bytes and in requests. It must
not know tests.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.pods import containers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline


LINES = 50
"""Of each container's log, and of all events."""


_LOG_BYTES = 8 * 1024
"""Of each container's log."""


ALL_BYTES = 64 * 1024


LEFT_OUT = "(more was left out)"


_WIDTH = 500


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment, in seconds since the epoch, as the API server writes and reads it."""

    at: float

    def __str__(self) -> str:
        """Return it in whole seconds, rounded down."""
        return datetime.fromtimestamp(int(self.at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def is_before(self, text: str) -> bool:
        """Whether a time, to the second or finer, may lie after the moment."""
        with suppress(ValueError):
            time = datetime.fromisoformat(_to_microseconds(text)).timestamp()
            return time >= (self.at if "." in text else int(self.at))
        return False


def happenings(
    kube: Reader,
    pods: Sequence[KubeObject],
    since: Moment,
    *,
    redact: Callable[[str], str],
    deadline: Deadline,
) -> Iterator[tuple[str, str]]:
    """Yield titles and texts: restarts, events, then what each container said.

    Args:
        kube: Where to ask.
        pods: Whose; those that are named first come first.
        since: From when on.
        redact: Takes secrets out of a text; asked before a text is cut, which would hide them.
        deadline: When to stop asking; what is left out then is said.
    """
    if lines := [line for pod in pods for line in _restarts(pod, since)]:
        yield "restarts", "\n".join(lines)
    namespaces = sorted({pod["metadata"]["namespace"] for pod in pods})
    if lines := [line for name in namespaces for line in _events(kube, name, since, redact)]:
        yield "events", "\n".join(lines[-LINES:])
    room = ALL_BYTES
    for title, pod, container, previous in _containers(pods, since):
        if deadline.passed or room <= 0:
            yield "logs", LEFT_OUT
            return
        log = _log(kube, pod, container, since, previous=previous)
        if text := _cut(redact(log), since):
            room -= len(text.encode(errors="replace"))
            yield title, text


def said_since(log: str, since: Moment) -> list[str]:
    """Return the lines of a log with timestamps that are not older, without the timestamps."""
    parts = (line.partition(" ") for line in log.splitlines())
    return [text[:_WIDTH] for when, _, text in parts if since.is_before(when)]


def _to_microseconds(text: str) -> str:
    """Return a time without the digits that Python's own parser takes for a mistake."""
    head, dot, tail = text.partition(".")
    return f"{head}.{tail.rstrip('Z')[:6]}Z" if dot else text


def _restarts(pod: KubeObject, since: Moment) -> Iterator[str]:
    for one in containers_of(pod):
        if ended := _ended(one, "state", since) or _ended(one, "lastState", since):
            count, where = one.get("restartCount", 0), f"{_name(pod)}/{one['name']}"
            why = f"{ended.get('reason', 'ended')}, exit code {ended.get('exitCode')}"
            yield f"{ended['finishedAt']} {where}: {why} (restarts so far: {count})"


def _ended(container: dict[str, Any], key: str, since: Moment) -> dict[str, Any]:
    """Return how a container ended, now or the last time, if that was a failure, and not before."""
    ended: dict[str, Any] = (container.get(key) or {}).get("terminated") or {}
    failed = container.get("restartCount") or ended.get("exitCode")
    return ended if failed and since.is_before(ended.get("finishedAt") or "") else {}


def _events(
    kube: Reader, namespace: str, since: Moment, redact: Callable[[str], str]
) -> Iterator[str]:
    found: Iterable[KubeObject] = ()
    with suppress(KindInfraError):
        found = kube.events(namespace)
    for event in sorted(found, key=_when):
        if since.is_before(_when(event)):
            about = event.get("involvedObject") or {}
            what = f"{about.get('kind', '')}/{about.get('name', '')}"
            message = " ".join(redact(event.get("message") or "").split())[:_WIDTH]
            yield f"{_when(event)} {event.get('type')} {event.get('reason')} {what}: {message}"


def _when(event: KubeObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _containers(
    pods: Sequence[KubeObject], since: Moment
) -> Iterator[tuple[str, KubeObject, str, bool]]:
    """Yield a title for each log, whose it is, and whether that of the run before is meant."""
    for pod in pods:
        for one in containers_of(pod):
            title = f"log of {_name(pod)}/{one['name']}"
            if _ended(one, "lastState", since):
                yield f"{title}, before its restart", pod, one["name"], True
            yield title, pod, one["name"], False


def _log(kube: Reader, pod: KubeObject, container: str, since: Moment, *, previous: bool) -> str:
    meta = pod["metadata"]
    with suppress(KindInfraError):
        return kube.pod_logs(
            meta["namespace"], meta["name"], container, previous=previous, lines=LINES + 1,
            limit_bytes=_LOG_BYTES, since=str(since),
        )  # fmt: skip
    return ""


def _cut(log: str, since: Moment) -> str:
    lines = said_since(log, since)
    more = len(lines) > LINES or len(log.encode(errors="replace")) >= _LOG_BYTES
    return "\n".join([*([LEFT_OUT] if more and lines else []), *lines[-LINES:]])


def _name(pod: KubeObject) -> str:
    return str(pod["metadata"]["name"])
