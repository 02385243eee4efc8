"""The provisioner as pytest's main process sees it: started, told, listened to, outlived.

What goes on here while tests run is one thread that waits for lines, and one for each call of a
hook; nothing in them can be reached by what a test replaces, and no test waits for them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from _queue import Empty, SimpleQueue
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, ProvisionerDiedError, last_lines
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.model import (
    Endpoint,
    Phase,
)
from pytest_kindinfra.names import declared_name
from pytest_kindinfra.run.messages import (
    LOG,
    VERSION,
    Alive,
    CallHook,
    Done,
    Hello,
    HookEnded,
    Owned,
    PhaseEnded,
    Progress,
    Say,
    Start,
    decode,
    encode,
    pack,
)
from pytest_kindinfra.state.codec import from_json
from pytest_kindinfra.state.records import ClusterReady
from pytest_kindinfra.state.results import text_of
from pytest_kindinfra.system.channel import channel_pair, run_in_thread, watch_process
from pytest_kindinfra.system.programs import start_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_kindinfra.model import Image
    from pytest_kindinfra.run.messages import Message
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.locks import Lock, SharedLock

HOOKS = ("before_build", "before_deploy", "after_deploy", "diagnose", "before_teardown")

_PREFIX = "pytest_kindinfra_"

_LAST = 10

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from pytest_kindinfra.provisioner import main; "
    "main(*map(int, sys.argv[2:]))"
)
"""Not `-m`: the package may be on `sys.path` by other means than those that a child inherits, and
the folder in which pytest was started may have modules of the names of Python's own."""

_PACKAGE = Path(__file__).parents[1].parent


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What pytest was started with: tests change it.

    Attributes:
        executable: The interpreter.
        environment: The variables.
        folder: The rootdir.
    """

    executable: str
    environment: dict[str, str]
    folder: Path


class Provisioner:
    """The process, from its start to its end.

    Args:
        where: What it is started with.
        say: Called with lines for the user, from a thread.

    Raises:
        OSError: It cannot be started.

    Attributes:
        done: What it said at the run's end; None before that.
        lost: It ended before the run did.
        phases: The phases of its work that have ended.
        show: Called with how far everything has come, from a thread; None if no board is shown, and
            to be set before `begin`.
        begun: There is a cluster that is this run's to end.
        reused_dir: Its reused directory if it outlives the run.
    """

    def __init__(self, where: Surroundings, *, say: Callable[[str], object]) -> None:
        self.done: Done | None = None
        self.lost = False
        self.phases: list[Phase] = []
        self.begun = False
        self.reused_dir: Path | None = None
        self.show: Callable[[Progress], object] | None = None
        self._say = say
        self._ended = False
        self._alive: Callable[[], bool] = lambda: True
        self._losing: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._config: pytest.Config | None = None
        self._run: RunDirectory | None = None
        self._prepared: Prepared | None = None
        self._closed = False
        self._over: SimpleQueue[None] = SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `let_go`
        self._channel, there = channel_pair()
        try:
            argv = [where.executable, "-P", "-W", "ignore", "-c", _PROGRAM, str(_PACKAGE)]
            self._process = start_apart(
                [*argv, str(there), str(os.getpid())],
                output=self._errors,
                environment=where.environment,
                folder=where.folder,
                inherits=there,
            )
        finally:
            os.close(there)
        path = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100 - also of "", and of archives
        self.tell(Hello(version=VERSION, path=path))
        run_in_thread(self._listen)

    def begin(
        self,
        prepared: Prepared,
        run: RunDirectory,
        *,
        config: pytest.Config,
        locks: tuple[SharedLock, SharedLock],
        since: float,
        lost: Callable[[], object],
    ) -> None:
        """Have it bring the stack up.

        Args:
            prepared: What, and how.
            run: The run directory, which exists.
            config: Whose hooks are called.
            locks: `lock` and `provisioning` of the run.
            since: When the run began.
            lost: Called from a thread if it ends before the run does.
        """
        self._prepared, self._run, self._config = prepared, run, config
        hooks = [name for name in HOOKS if getattr(config.hook, _PREFIX + name).get_hookimpls()]
        board = self.show is not None
        start = Start(
            run=str(run.path), prepared=pack(prepared), since=since, hooks=hooks, board=board
        )
        self._channel.send(encode(start), [lock.copy() for lock in locks])
        locks[1].leave()
        self._losing.put(lost)
        if self._ended:  # before it got a message
            self._lose()
        self._process.wait()  # it has forked the provisioner off

    def tell(self, message: Message) -> None:
        """Send a message; nothing happens if the process has ended. Never waits."""
        self._channel.send(encode(message))

    def over(self, seconds: float) -> bool:
        """Whether the process has ended, waited for so many seconds."""
        if not self._closed:
            try:
                self._over.get(timeout=seconds)
            except Empty:
                return False
            self._closed = True
        return True

    def let_go(self) -> None:
        """Close the channel: whatever it still has to do it does without this process."""
        self._channel.close()
        self._errors.close()
        self._process.wait()

    def report_early_end(self) -> Lock | None:
        """Say at once that it is gone, also to those who wait for what it has not brought up.

        What this loads is not loaded before, since hardly any run needs it; if a test is in the way
        of that, waiters still see that the lock is free.

        Returns:
            The lock of the reused directory, without which another run would acquire the cluster;
            None if nothing outlives the run.
        """
        if not (self._run and self._prepared):  # set by `begin`
            return None
        from pytest_kindinfra.system.files import size_of
        from pytest_kindinfra.system.secrets import Redactor

        log, redactor = self._run.path / LOG, Redactor()
        said = f"the end of {log}" if size_of(log) else f"below\n{self._last_words()}"
        error = ProvisionerDiedError(
            "the provisioner, the process that brings the stack up, ended before the run did\n"
            f"To fix: find out what ended it (memory, a signal), and see {said}"
        )
        self._say(redactor.text(f"kindinfra: {error}"))
        from pytest_kindinfra.run.teardown import settle_rest

        settle_rest(self._prepared.plan, self._run, error=error, redactor=redactor)
        return self._lock_of_reused()

    def _lock_of_reused(self) -> Lock | None:
        if self.reused_dir:
            from pytest_kindinfra.state.directory import RunDirectory
            from pytest_kindinfra.state.locks import hold

            with suppress(OSError):
                return hold(RunDirectory(self.reused_dir).lock)
        return None

    def _last_words(self) -> str:
        """Return the end of what it printed before it knew its log file."""
        self._errors.seek(0)
        return last_lines(self._errors.read().decode(errors="replace"), _LAST)

    def _listen(self) -> None:
        for line in self._channel.lines(lambda: self._alive()):  # noqa: PLW0108 - another from `Alive` on
            try:
                self._take(decode(line))
            except Exception:  # noqa: BLE001 - the next line may be the end of the run
                self._say(f"kindinfra: {traceback.format_exc()}")
        self._ended = True
        if self.done is None:
            self._lose()
        self._over.put(None)

    def _lose(self) -> None:
        """Report the loss, once, and only if it had something to do."""
        with suppress(Empty):
            lost = self._losing.get_nowait()
            self.lost = True
            try:
                lost()
            except Exception:  # noqa: BLE001 - no caller can get it
                self._say(f"kindinfra: {traceback.format_exc()}")

    def _take(self, message: Message) -> None:
        match message:
            case Alive():
                self._alive = watch_process(message.process)
            case Say():
                self._say(message.line)
            case PhaseEnded():
                self.phases.append(Phase(**message.phase))
            case Progress():
                if self.show:
                    self.show(message)
            case Owned():
                self.begun = True
                self.reused_dir = Path(message.reused_dir) if message.reused_dir else None
            case CallHook():
                run_in_thread(lambda: self._call(message))
            case Done():
                self.done = message
            case _:
                msg = f"a message for the provisioner: {message}"
                raise ValueError(msg)

    def _call(self, call: CallHook) -> None:
        """Call a hook and say how it went; in a thread of its own, since it may take long."""
        before = dict(os.environ)
        try:
            self._call_hook(call)
        except BaseException as error:  # noqa: BLE001 - pytest.fail() in a hook is no Exception
            self.tell(HookEnded(number=call.number, failure=text_of(error), brief=_brief(error)))
        else:
            image = self._image(call.subject) if call.hook == "before_build" else None
            changed = _changed(before, image) if image else {}
            self.tell(HookEnded(number=call.number, environment=changed))

    def _call_hook(self, call: CallHook) -> None:
        if not (self._config and self._run and self._prepared):  # set by `begin`
            return
        hook = getattr(self._config.hook, _PREFIX + call.hook)
        if call.hook == "before_build":
            hook(config=self._config, image=self._image(call.subject))
            return
        proved: dict[str, tuple[Endpoint, ...]] = {}
        if call.proved:
            proved[call.subject] = tuple(Endpoint(**record) for record in call.proved)
        elif call.hook == "after_deploy":
            proved[call.subject] = ()
        cluster = from_json(ClusterReady, call.cluster) if call.cluster else None
        request, plan = self._prepared.request, self._prepared.plan
        service = next((one for one in plan.services if one.name == call.subject), None)
        stack = Stack(
            self._run,
            waits=False,
            proved=proved,
            cluster=cluster,
            shared=request.existing is not None,
            folder=request.folder,
            worker=service.worker if service else "",
            namespace=plan.namespaces.get(call.subject),
        )
        if service:
            hook(stack=stack, service=replace(service, name=declared_name(service.name)))
        else:
            hook(stack=stack, directory=self._run.path)

    def _image(self, name: str) -> Image:
        images = self._prepared.plan.images if self._prepared else ()
        return next(one for one in images if one.name == name)


def _changed(before: dict[str, str], image: Image) -> dict[str, str]:
    """Return the variables that a hook set and that the image is built with.

    No others: a test may have set or cleared them meanwhile.
    """
    words = repr((image.build_args, image.build_options))
    return {
        name: text
        for name, text in list(os.environ.items())
        if before.get(name) != text and name in words
    }


def _brief(error: BaseException) -> str:
    if isinstance(error, KindInfraError):
        return str(error)
    return repr(error) if isinstance(error, Exception) else f"{type(error).__name__}: {error}"
