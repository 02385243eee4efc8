"""A run as the provisioner does it, told what to do by pytest's main process, line by line.

The end of the conversation is an order too: pytest's main process is gone, and what it began is
ended without it.
"""

from __future__ import annotations

import os
import threading
import traceback
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.context import Hooks, OwnCluster
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.client import load_client
from pytest_kindinfra.run.messages import (
    LOG,
    CallHook,
    Cancel,
    Done,
    Finish,
    HookEnded,
    Hurry,
    Owned,
    PhaseEnded,
    Say,
    Start,
    decode,
    encode,
    unpack,
)
from pytest_kindinfra.run.observer import Observer
from pytest_kindinfra.run.progress import ProgressLines, failures_only
from pytest_kindinfra.run.provisioning import JOIN_SECONDS, Provisioning
from pytest_kindinfra.run.teardown import EVIDENCE_SECONDS, Started, closing_lines
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import SharedLock
from pytest_kindinfra.system.files import open_private
from pytest_kindinfra.system.interrupts import Haste
from pytest_kindinfra.system.programs import leave
from pytest_kindinfra.wiring import make_tools, tools_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.model import Image, Phase, Service
    from pytest_kindinfra.plan.options import Progress as How
    from pytest_kindinfra.run.messages import Message
    from pytest_kindinfra.system.channel import Channel
    from pytest_kindinfra.system.timeline import Running

_ALONE = 3.0
"""Seconds for the evidence once pytest's main process is gone: no user may be left to wait."""

_JOIN_ALONE = 7.0

_FLUSH = 5.0


class RemoteHooks:
    """The hooks of plugins and conftests, which are called in pytest's main process.

    Args:
        send: Sends a message there.
        names: The hooks that are implemented; others are not called.
    """

    def __init__(self, send: Callable[[Message], object], names: Sequence[str]) -> None:
        self._send = send
        self._names = frozenset(names)
        self._calls: dict[int, Future[HookEnded]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._gone = False

    @property
    def deploying(self) -> bool:
        """Whether a hook is implemented that is called while services are deployed."""
        return not self._names.isdisjoint({"before_deploy", "after_deploy"})

    def before_build(self, image: Image) -> None:
        """Call the hook; variables that it set are set here too, since the build reads them."""
        if ended := self._call("before_build", subject=image.name):
            os.environ.update(ended.environment)

    def before_deploy(self, *, stack: Stack, service: Service) -> None:
        """Call the hook."""
        self._call_with(stack, "before_deploy", service.name)

    def after_deploy(self, *, stack: Stack, service: Service) -> None:
        """Call the hook."""
        self._call_with(stack, "after_deploy", service.name)

    def pytest_kindinfra_diagnose(self, *, stack: Stack, directory: Path) -> None:  # noqa: ARG002 - pytest's process knows it
        """Call the hook, at the end of a run."""
        self._call_with(stack, "diagnose")

    def pytest_kindinfra_before_teardown(self, *, stack: Stack, directory: Path) -> None:  # noqa: ARG002 - pytest's process knows it
        """Call the hook, at the end of a run."""
        self._call_with(stack, "before_teardown")

    def ended(self, message: HookEnded) -> None:
        """Take the end of a call."""
        if call := self._calls.pop(message.number, None):
            call.set_result(message)

    def hang_up(self) -> None:
        """Fail the calls that go on and call no hook any more: pytest's main process is gone."""
        with self._lock:
            self._gone = True
        for number in list(self._calls):
            gone = "pytest's main process has ended"
            self.ended(HookEnded(number=number, failure=gone, brief=gone))

    def _call_with(self, stack: Stack, hook: str, subject: str = "") -> None:
        proved, cluster = stack.given()
        self._call(hook, subject=subject, proved=proved, cluster=cluster)

    def _call(self, hook: str, **fields: Any) -> HookEnded | None:
        if hook not in self._names:
            return None
        call: Future[HookEnded] = Future()
        with self._lock:
            if self._gone:
                return None
            number = next(self._numbers)
            self._calls[number] = call
        self._send(CallHook(number=number, hook=hook, **fields))
        ended = call.result()
        if ended.failure is not None:
            at_end = hook in {"diagnose", "before_teardown"}  # there failures get a line
            raise KindInfraError(ended.brief if at_end else ended.failure)
        return ended


class Conversation:
    """The messages between pytest's main process and the provisioner.

    Args:
        channel: To pytest's main process.
        lines: What that process says, until it is gone.
    """

    def __init__(self, channel: Channel, lines: Iterator[str]) -> None:
        self._channel = channel
        self._lines = lines
        self._haste = Haste()
        self._work: _Work | None = None
        self._ending = threading.Event()

    def hold(self) -> None:
        """Handle messages until the run has ended, with pytest's main process or without it."""
        for line in self._lines:
            self._take(decode(line))
        if self._work is None:
            return  # nothing was started
        self._work.hooks.hang_up()
        write_log("pytest's main process has ended")
        if self._ending.is_set():
            self._work.ended.wait()
            return
        ended = Finish(failed=False, interrupted=True, width=100, color=False)
        self._finish(self._work, ended, evidence=_ALONE, join=_JOIN_ALONE)

    def cancel(self) -> None:
        """Give up what is being brought up."""
        if self._work:
            self._work.provisioning.cancel()

    def _take(self, message: Message) -> None:
        match message:
            case Start():
                self._work = _Work(message, self._channel.files, self._send, self._haste)
            case HookEnded():
                if self._work:
                    self._work.hooks.ended(message)
            case Cancel():
                self.cancel()
            case Hurry():
                self._haste.hurry()
            case Finish():
                if self._work is None:  # an interrupt came before `Start`
                    leave(0)
                if not self._ending.is_set():
                    self._ending.set()
                    args = (self._work, message)
                    threading.Thread(target=self._finish, args=args, daemon=True).start()
            case _:
                msg = f"a message for pytest's main process: {message}"
                raise ValueError(msg)

    def _finish(
        self,
        work: _Work,
        message: Finish,
        *,
        evidence: float = EVIDENCE_SECONDS,
        join: float = JOIN_SECONDS,
    ) -> None:
        try:
            self._send(work.finish(message, evidence=evidence, join=join))
        except BaseException:  # noqa: BLE001 - pytest's main process deletes the cluster then
            write_log(traceback.format_exc())
        finally:  # or pytest's main process waits without end
            self._channel.flush(_FLUSH)
            work.ended.set()
            leave(0)

    def _send(self, message: Message) -> None:
        self._channel.send(encode(message))


class _Reports(NamedTuple):
    """What tells pytest's main process of a bring-up.

    Attributes:
        watches: Called with each start and end of a phase.
        heartbeat: Called each second with what runs.
        say: Called with a line for the user.
        look: Called when all is settled.
    """

    watches: tuple[Callable[[Phase, bool], None], ...]
    heartbeat: Callable[[tuple[Running, ...]], None]
    say: Callable[[str], None]
    look: Callable[[], None] = lambda: None


class _Work:
    """The run, once it is known."""

    def __init__(
        self, start: Start, files: Sequence[int], send: Callable[[Message], object], haste: Haste
    ) -> None:
        self._send = send
        path, prepared = unpack(start)
        self.run = RunDirectory(path)
        _log_to(path / LOG)
        lock, provisioning = map(SharedLock, files)
        self._lock = lock
        self.ended = threading.Event()
        made = replace(make_tools(prepared.settings.engine), own=_Own(send))
        tools = tools_for(prepared.request, self.run.kubeconfig, made)
        self._started = Started(prepared=prepared, tools=tools)
        self.hooks = RemoteHooks(send, start.hooks)
        reports = self._reports(start, prepared.settings.progress)
        for watch in (*reports.watches, self._note):
            tools.timeline.subscribe(watch)
        hooks = Hooks(
            before_build=self.hooks.before_build,
            before_deploy=self.hooks.before_deploy,
            after_deploy=self.hooks.after_deploy,
            heartbeat=reports.heartbeat,
            say=reports.say,
            deploying=self.hooks.deploying,
        )

        def settled() -> None:
            reports.look()
            provisioning.release()

        self.provisioning = Provisioning(
            started=self._started,
            run=self.run,
            hooks=hooks,
            haste=haste,
            settled=settled,
        )
        self._client = threading.Thread(target=_load_client_early, daemon=True)
        self._thread = self.provisioning.begin()

    def finish(self, message: Finish, *, evidence: float, join: float) -> Done:
        """End the run and return what is to be shown of it."""
        outcome = self.provisioning.finish(
            self._thread,
            failed=message.failed,
            interrupted=message.interrupted,
            hook=self.hooks,
            write=self._say,
            evidence=evidence,
            join=join,
        )
        lines = closing_lines(
            self._started, self.run, outcome, width=message.width, color=message.color
        )
        write_log("\n".join(lines))
        self._lock.release()
        return Done(lines=lines, failed=outcome.state == "failed")

    def _say(self, line: str) -> None:
        shown = self._shown(line)
        write_log(shown)
        self._send(Say(line=shown))

    def _shown(self, line: str) -> str:
        """Return a line without secrets: it may have the words of a registry or a container."""
        return self._started.tools.redactor.text(line)

    def _reports(self, start: Start, how: How) -> _Reports:
        """Return what reports the bring-up: lines, or a board and lines about failures."""
        if not start.board:
            lines = ProgressLines(self._say, how=how, since=start.since, write_short=write_log)
            return _Reports((lines,), lines.heartbeat, lines.say)
        started = self._started
        lines = ProgressLines(
            lambda line: write_log(self._shown(line)),
            how=how,
            since=start.since,
            write_short=lambda line: write_log(self._shown(line)),
        )
        failures = failures_only(lambda line: self._send(Say(line=self._shown(line))), start.since)
        observer = Observer(
            started.prepared.plan,
            self.run,
            timeline=started.tools.timeline,
            redactor=started.tools.redactor,
            send=self._send,
        )

        def heartbeat(running: tuple[Running, ...]) -> None:
            observer.look()
            lines.heartbeat(running)

        say = lambda text: self._say(f"kindinfra: {text}")  # noqa: E731 - a line
        return _Reports((lines, failures, observer), heartbeat, say, observer.look)

    def _note(self, phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        if ended:
            self._send(PhaseEnded(phase=asdict(phase)))
        elif phase.kind == "create":
            self._client.start()


class _Own(OwnCluster):
    """Tells pytest's main process of the cluster, which deletes it if this process is killed."""

    __slots__ = ("_send",)

    def __init__(self, send: Callable[[Message], object]) -> None:
        super().__init__()
        object.__setattr__(self, "_send", send)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self.begun and hasattr(self, "_send"):
            self._send(Owned(reused_dir=str(self.reused_dir) if self.reused_dir else None))


def write_log(text: str) -> None:
    """Write a line into the provisioner's log, which is its output; a full disk ends no run."""
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201 - the log


def _log_to(path: Path) -> None:
    """Have all that this process and its children print go to a file from now on."""
    with open_private(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _load_client_early() -> None:
    """Load the client while kind creates the cluster, rather than when it answers."""
    with suppress(Exception):  # the first use says what is wrong with it
        load_client()
