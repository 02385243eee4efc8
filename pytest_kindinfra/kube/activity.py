"""What pods said and did since a moment: the ends of their logs, restarts, events.

For the report of a test that failed and for what is kept of it, so it is bounded in lines, in bytes
and in requests. It must not know tests.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogLimits:
    """How much is shown or kept.

    Attributes:
        lines: Of each container's log, and of all events.
        log_bytes: Of each container's log.
        all_bytes: Of all logs.
    """

    lines: int
    log_bytes: int
    all_bytes: int


SHOWN = _LogLimits(lines=50, log_bytes=8 << 10, all_bytes=64 << 10)
"""In the report of a test."""


KEPT = _LogLimits(lines=1000, log_bytes=256 << 10, all_bytes=2 << 20)
"""In files."""


_READ_BYTES = 2 << 20
"""Of each log. The API server leaves out the end of a longer one, which is what matters most."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to pods, or what one container said.

    Attributes:
        title: `restarts`, `events`, `log of POD/CONTAINER`.
        text: Its lines, without secrets.
        pod: The namespace and the name of the pod whose log it is; empty for the others.
        container: Whose log it is; empty for the others.
        previous: The log is that of the container before its last restart.
    """

    title: str
    text: str
    pod: tuple[str, str] = ("", "")
    container: str = ""
    previous: bool = False


def happenings(
    kube: Reader,
    pods: Sequence[KubeObject],
    since: Moment,
    *,
    redact: Callable[[str], str],
    deadline: Deadline,
) -> Iterator[Happening]:
    """Yield restarts, events, then what each container said; as much as is kept of it.

    Args:
        kube: Where to ask.
        pods: Whose; those that are named first come first.
        since: From when on.
        redact: Takes secrets out of a text; asked before a text is cut, which would hide them.
        deadline: When to stop asking; what is left out then is said.
    """
    if lines := [line for pod in pods for line in _restarts(pod, since)]:
        yield Happening(title="restarts", text="\n".join(lines))
    namespaces = sorted({pod["metadata"]["namespace"] for pod in pods})
    if lines := [line for name in namespaces for line in _events(kube, name, since, redact)]:
        yield Happening(title="events", text="\n".join(lines[-KEPT.lines :]))
    room = KEPT.all_bytes
    for title, pod, container, previous in _containers(pods, since):
        if deadline.passed or room <= 0:
            yield Happening(title="logs", text=LEFT_OUT)
            return
        log = redact(_log(kube, pod, container, since, previous=previous))
        more = len(log.encode(errors="replace")) >= _READ_BYTES
        if text := _ended_with(said_since(log, since), KEPT, more=more):
            room -= len(text.encode(errors="replace"))
            meta = pod["metadata"]
            yield Happening(
                title=title, text=text, pod=(meta["namespace"], meta["name"]), container=container,
                previous=previous,
            )  # fmt: skip


def shown(found: Iterable[Happening]) -> Iterator[tuple[str, str]]:
    """Yield titles and texts for a report, each with its last lines."""
    room = SHOWN.all_bytes
    for one in found:
        if room <= 0:
            yield "logs", LEFT_OUT
            return
        lines = one.text.splitlines()
        text = _ended_with(lines, SHOWN) if one.container else "\n".join(lines[-SHOWN.lines :])
        room -= len(text.encode(errors="replace")) if one.container else 0
        yield one.title, text


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
            meta["namespace"], meta["name"], container, previous=previous, lines=KEPT.lines + 1,
            limit_bytes=_READ_BYTES, since=str(since),
        )  # fmt: skip
    return ""


def _ended_with(lines: Sequence[str], limits: _LogLimits, *, more: bool = False) -> str:
    """Return the last lines that are within limits; whether there are more is said."""
    kept: list[str] = []
    room = limits.log_bytes
    for line in reversed(lines[-limits.lines :]):
        room -= len(line.encode(errors="replace")) + 1
        if room < 0:
            break
        kept.append(line)
    left_out = [LEFT_OUT] if lines and (more or len(kept) < len(lines)) else []
    return "\n".join([*left_out, *reversed(kept)])


def _name(pod: KubeObject) -> str:
    return str(pod["metadata"]["name"])
