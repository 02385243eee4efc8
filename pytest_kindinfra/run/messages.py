"""What pytest's main process and the provisioner tell each other, and how it is written.

Each message is a line of JSON with the name of its class. The plan is the one exception: it is
pickled, since both ends are the same code in the same interpreter, and a plan of some hundred
records would need as many lines to read back. It goes from a process to its own child only.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra.run.prepare import Prepared


VERSION = 4
"""To be raised with each change; the two ends differ only if the package is replaced meanwhile."""


LOG = "provisioner.log"
"""The file in the run directory that gets what the provisioner prints."""


# -- to the provisioner ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message: the version of the protocol, and where modules are found."""

    version: int
    path: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Bring a stack up. The files that come with it are the locks `lock` and `provisioning`.

    Attributes:
        run: The run directory.
        prepared: What `pack` made of the plan.
        since: When the run began, in seconds since the epoch.
        hooks: The names of the hooks that are implemented, without `pytest_kindinfra_`.
        board: A board is shown: it is sent `Progress`, and of lines only those about failures.
    """

    run: str
    prepared: str
    since: float
    hooks: list[str]
    board: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnded:
    """A hook has returned or failed.

    Attributes:
        number: That of the call.
        failure: The whole text of what it raised, None if it returned.
        brief: The same in a line.
        environment: Variables that it set and that the image is built with.
    """

    number: int
    failure: str | None = None
    brief: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Give up what is still being brought up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the run.

    Attributes:
        failed: A test failed.
        interrupted: The run was ended before its end.
        width: Columns of the terminal, for the closing table.
        color: Whether escape codes are wanted.
    """

    failed: bool
    interrupted: bool
    width: int
    color: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurry:
    """The user interrupted the end of the run."""


# -- from the provisioner ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The provisioner runs, as the process of that id: a child of pytest's no longer."""

    process: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A line for the terminal, without secrets."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnded:
    """A phase of the work has ended; the fields are those of `model.Phase`."""

    phase: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A phase that goes on; a part of `Progress`.

    Attributes:
        kind: One of `system.timeline.PHASE_KINDS`.
        subject: The image, service or cluster worked on.
        start: Since when, in seconds since the epoch.
        reached: How far it has come, such as `12/20`; may be empty.
        says: What it printed last, or what is in its way; may be empty. Without secrets.
    """

    kind: str
    subject: str
    start: float
    reached: str = ""
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far everything has come, for the board; sent when it changed, some times a second.

    Attributes:
        running: What goes on.
        settled: `cluster`, `image NAME` or `service NAME` to whether it is there; those that may
            still come are not in it.
    """

    running: tuple[Work, ...] = ()
    settled: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """The cluster is this run's to end; `reused_dir` is its folder if it outlives the run."""

    reused_dir: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHook:
    """Call a hook.

    Attributes:
        number: Names the call in its answer.
        hook: Its name without `pytest_kindinfra_`.
        subject: The image or the service, empty for a hook of neither.
        proved: The endpoints that have answered though no result says so, as records.
        cluster: The record of the cluster if it has no result yet.
    """

    number: int
    hook: str
    subject: str = ""
    proved: list[dict[str, Any]] = field(default_factory=list)
    cluster: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The run has ended.

    Attributes:
        lines: The closing table, the failures in full, and what was kept.
        failed: A service or a test failed.
    """

    lines: list[str]
    failed: bool


Message = (
    Hello | Start | HookEnded | Cancel | Finish | Hurry
    | Alive | Say | PhaseEnded | Progress | Owned | CallHook | Done
)  # fmt: skip


_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Hello, Start, HookEnded, Cancel, Finish, Hurry,
        Alive, Say, PhaseEnded, Progress, Owned, CallHook, Done,
    )
}  # fmt: skip


def encode(message: Message) -> str:
    """Return a message as one line, without its newline."""
    return json.dumps([type(message).__name__, asdict(message)])


def decode(line: str) -> Message:
    """Return the message that a line holds.

    Raises:
        ValueError: It holds none.
    """
    try:
        name, fields = json.loads(line)
        if name == Progress.__name__:
            fields["running"] = tuple(Work(**one) for one in fields["running"])
        return _KINDS[name](**fields)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"no message of the provisioner's protocol, version {VERSION}: {line[:200]!r}"
        raise ValueError(msg) from error


def pack(prepared: Prepared) -> str:
    """Return what a run is to do as text for `Start`."""
    packed = io.BytesIO()
    _Pickler(packed).dump(prepared)
    return base64.b64encode(packed.getvalue()).decode()


class _Pickler(pickle.Pickler):
    """Makes plain texts of those that hooks return as members of an enumeration or the like.

    Their classes may be a conftest's, which no other process can import.
    """

    def reducer_override(self, value: Any) -> Any:
        return (str, (str.__str__(value),)) if isinstance(value, str) else NotImplemented


def unpack(start: Start) -> tuple[Path, Prepared]:
    """Return the run directory and what the run is to do."""
    prepared: Prepared = pickle.loads(base64.b64decode(start.prepared))  # noqa: S301 - see the top
    return Path(start.run), prepared
