"""The record of a cause, why an object will not become ready, and its text. Pure.

What is known of each reason is in `kube/reasons.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pytest_kindinfra.errors import indent, shortened
from pytest_kindinfra.kube.readiness import title
from pytest_kindinfra.kube.reasons import REASONS, is_shortage

if TYPE_CHECKING:
    from pytest_kindinfra.kube.reasons import Sight
    from pytest_kindinfra.model import KubeObject


_LOG_WIDTH = 1000


_WATCHED_WIDTH = 70


_REPEATED = 60
"""Letters at the end that show that an event and a message are about the same failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an object does not get ready.

    Attributes:
        object: The object, as `Deployment "api"`.
        namespace: Where it is.
        pod: The pod at fault; empty if there is none.
        container: The container at fault; empty if it is the pod as a whole.
        reason: Kubernetes' word.
        message: Kubernetes' sentence.
        grace: Seconds for which this may be there and still pass.
        family: What stays the same while the reason changes, such as `pull` for `ErrImagePull` and
            `ImagePullBackOff`; empty means the reason.
        shortage: Something is used up that other pods give back when they end.
        fix: What to do about it; empty means what the table says of the reason.
        lasted: Seconds for which it has been there; 0 if it is known at once to be permanent.
        logs: Which log tells more: that of the container's last run, or of the one before.
        event: The last event's sentence.
        log: The last lines of the container's log.
    """

    object: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    reason: str
    message: str = ""
    grace: float = 0.0
    family: str = ""
    shortage: bool = False
    fix: str = ""
    lasted: float = 0.0
    logs: Literal["", "current", "previous"] = ""
    event: str = ""
    log: tuple[str, ...] = ()

    def short(self) -> str:
        """Return the short form: what is known, and the end of the log."""
        facts = self._facts()
        log = (f"  | {_cut(line)}" for line in self.log)
        return shortened("\n".join([*facts, *log]), first=len(facts))

    def full(self) -> str:
        """Return all that is known, with at most 20 log lines."""
        parts = self._facts(width=1000)
        if self.log:
            parts += [
                "  last log lines:",
                indent("\n".join(line[:_LOG_WIDTH] for line in self.log[-20:])),
            ]
        if self.pod:
            look = f"kubectl --namespace {self.namespace} describe pod {self.pod}"
            parts.append(f"  to inspect it: --kindinfra-keep=on-failure, then {look}")
        longer = "raise `patience` of the service to wait longer" if self.lasted else ""
        if fix := "; ".join(filter(None, (self.remedy, longer))):
            parts.append(f"  To fix: {fix}.")
        return "\n".join(parts)

    @property
    def remedy(self) -> str:
        """What to do about it; empty if nothing is known."""
        row = REASONS.get(self.reason)
        return self.fix or (row.fix if row and isinstance(row.fix, str) else "")

    def while_waiting(self, *, width: int = _WATCHED_WIDTH) -> str:
        """Return a line for those who watch, with the seconds and the end of the message."""
        message = " ".join(self.message.split())
        # The end of a message tells why; what stands before it is who called whom.
        end = message if len(message) <= width else f"...{message[-width:]}"
        return f"{self.reason} for {self.lasted:.0f} s{f': {end}' if end else ''}"

    def _facts(self, *, width: int = 300) -> list[str]:
        parts = [self._head()]
        if self.message:
            parts.append(f"  {_cut(self.message, width)}")
        if self.lasted:
            allowed = f"`patience = {self.grace:g}`"
            parts.append(f"  seen for {self.lasted:.0f} s, the limit of {allowed}")
        if self.event and not _repeats(self.event, self.message):
            parts.append(f"  event: {_cut(self.event, width)}")
        return parts

    def _head(self) -> str:
        pod = f'pod "{self.pod}"'
        where = f'container "{self.container}" of {pod}' if self.container else pod
        culprit = f"{where}: " if self.pod else ""
        return f"{self.object} cannot become ready: {culprit}{self.reason}"


def _repeats(event: str, message: str) -> bool:
    """Whether an event says what the message does, perhaps with other words before it."""
    same_end = len(event) > _REPEATED and message.endswith(event[-_REPEATED:])
    return same_end or event in message or (message in event and bool(message))


def _cut(text: str, width: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


def cause_of(
    obj: KubeObject,
    reason: str,
    sight: Sight,
    *,
    pod: str = "",
    container: str = "",
    like: str = "",
) -> Cause:
    """Make the cause that a row of the table describes.

    Args:
        obj: The object that it speaks against.
        reason: Kubernetes' word.
        sight: What its grace and its remedy depend on.
        pod: The pod at fault.
        container: The container at fault.
        like: The word whose row counts if the table has none for the reason.
    """
    row = REASONS.get(reason) or REASONS[like]
    return replace(
        against(obj, reason, sight.message, row.grace(sight), pod=pod, container=container),
        family=row.family,
        shortage=row.shortage and is_shortage(sight.message),
        fix=row.fix(sight) if callable(row.fix) else row.fix,
    )


def against(
    obj: KubeObject,
    reason: str,
    message: str,
    grace: float = 0.0,
    *,
    pod: str = "",
    container: str = "",
    logs: Literal["", "current", "previous"] = "",
) -> Cause:
    """Make a cause that speaks against `obj`, whether or not the table has its reason."""
    return Cause(
        object=title(obj), namespace=obj["metadata"].get("namespace", ""), pod=pod,
        container=container, reason=reason, message=message, grace=grace, logs=logs,
    )  # fmt: skip
