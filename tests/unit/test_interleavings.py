"""A run's coordination under random interleavings and kills: nobody waits for ever, all agree.

The actors are the real ones on real files and real locks; what a process would do next is drawn.
A killed provisioner leaves what a kill leaves: its locks free, whatever it had written, and
perhaps a file that it was about to rename.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from pytest_kindinfra.errors import CancelledError, ProvisionerDiedError, StateError
from pytest_kindinfra.model import Endpoint
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import ServiceReady
from pytest_kindinfra.state.results import Failed

if TYPE_CHECKING:
    from pytest_kindinfra.state.locks import Lock

NAMES = ("a", "b", "c", "d")


class Coordination(RuleBasedStateMachine):
    """One provisioner, the run's end, and waiters that come, look and are killed."""

    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kindinfra-test-"))
        self.run = RunDirectory(self.folder / "run-1")
        self.settled: dict[str, ServiceReady | Failed] = {}
        self.closed = False
        self.locks: list[Lock] = []

    @initialize()
    def launch(self) -> None:
        self.run.make()
        self.locks = [hold(self.run.lock), hold(self.run.provisioning)]

    # -- the provisioner -------------------------------------------------------------------------

    @property
    def provisioning(self) -> bool:
        return len(self.locks) == 2

    @rule(name=st.sampled_from(NAMES))
    def begin(self, name: str) -> None:
        if not self.provisioning:
            return
        if name in self.settled:
            with pytest.raises(StateError):
                self.run.begin(ServiceReady, name)
        else:
            self.run.begin(ServiceReady, name)

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from(["ready", "failed"]))
    def settle(self, name: str, state: str) -> None:
        if not self.provisioning:
            return
        number = len(self.settled)
        if name in self.settled:
            with pytest.raises(StateError):
                self.write(name, state, number)
        else:
            self.settled[name] = self.write(name, state, number)

    def write(self, name: str, state: str, number: int) -> ServiceReady | Failed:
        if state == "failed":
            failure = Failed(short=f"{number}", full=name, root=name)
            self.run.fail(ServiceReady, failure, name)
            return failure
        endpoint = Endpoint(service=name, name="web", scheme="http", host="h", port=number)
        ready = ServiceReady(endpoints=(endpoint,))
        self.run.settle(ready, name)
        return ready

    @rule()
    def end_the_bring_up(self) -> None:
        """As the thread does: settle the rest, then let go."""
        if self.provisioning:
            for name in NAMES:
                self.settle(name, "failed")
            self.locks.pop().release()

    @rule()
    def fill_the_disk(self) -> None:
        """The thread ends without a word, as on a disk without room for one."""
        if self.provisioning:
            self.locks.pop().release()

    @rule(half_written=st.booleans())
    def kill_the_controller(self, *, half_written: bool) -> None:
        if half_written:
            (self.run.path / "state").mkdir(exist_ok=True)
            (self.run.path / "state" / ".service-a.json-x1y2").write_text('{"format": 2, "val')
        while self.locks:
            self.locks.pop().release()

    @rule()
    def close(self) -> None:
        if self.locks:  # a dead controller closes nothing
            self.run.close()
            self.closed = True

    # -- waiters ---------------------------------------------------------------------------------

    @rule(target=waiters, name=st.sampled_from(NAMES))
    def come(self, name: str) -> tuple[str, RunDirectory]:
        """Come as another process would: with nothing but the folder's path."""
        return name, RunDirectory(Path(str(self.run.path)))

    @rule(waiter=waiters)
    def look(self, waiter: tuple[str, RunDirectory]) -> None:
        name, run = waiter
        expected = self.settled.get(name)
        if expected is None and self.closed:
            with pytest.raises(CancelledError):
                run.look(ServiceReady, name)
        else:
            assert run.look(ServiceReady, name) == expected

    @rule(waiter=waiters)
    def ask_for_life(self, waiter: tuple[str, RunDirectory]) -> None:
        name, run = waiter
        if self.provisioning or name in self.settled or self.closed:
            run.check_alive(ServiceReady, name)
        else:
            with pytest.raises(ProvisionerDiedError):
                run.check_alive(ServiceReady, name)

    @rule(waiter=waiters)
    def wait_if_it_must_end(self, waiter: tuple[str, RunDirectory]) -> None:
        """Wait for real where it is known that nothing more will come: it must end, and rightly."""
        name, run = waiter
        if name in self.settled:
            assert run.wait_for(ServiceReady, name) == self.settled[name]
        elif self.closed:
            with pytest.raises(CancelledError):
                run.wait_for(ServiceReady, name)

    # -- always ----------------------------------------------------------------------------------

    @invariant()
    def what_is_settled_stays(self) -> None:
        for name, result in self.settled.items():
            assert self.run.settled(ServiceReady, name) == result

    def teardown(self) -> None:
        while self.locks:
            self.locks.pop().release()
        shutil.rmtree(self.folder)


Coordination.TestCase.settings = settings(
    max_examples=80, stateful_step_count=30, deadline=None, derandomize=True
)
TestCoordination = Coordination.TestCase


CALLER = """
import json, os, signal, sys
from pathlib import Path
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.errors import OnceError
from pytest_kindinfra.session.fixtures import Once

folder, end, mark = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def produce():
    with open(folder / "produced", "a") as file:
        file.write(f"{mark} {end}\\n")
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "raises":
        raise ValueError(mark)
    return {"by": mark}

try:
    print(json.dumps(Once(RunDirectory(folder / "run-1"))("key", produce)))
except OnceError as error:
    print(json.dumps(str(error)))
"""


def call_once(folder: Path, ends: list[str]) -> list[str]:
    """Let processes call one key at the same moment; return what each printed."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, str(folder), end, str(mark)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for mark, end in enumerate(ends)
    ]
    return [process.communicate(timeout=60)[0] for process in started]


@settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(ends=st.lists(st.sampled_from(["returns", "raises", "killed"]), min_size=2, max_size=4))
def test_one_call_is_made_for_all_whichever_processes_are_killed_in_it(ends: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        printed = call_once(folder, ends)

        produced = (folder / "produced").read_text().splitlines()
        completed = [line for line in produced if not line.endswith("killed")]
        died = [line for line in produced if line.endswith("killed")]
        # Whoever was killed in it hands on; the first that is not ends it for everybody.
        assert len(completed) <= 1
        assert produced == [*died, *completed]
        told = {line for line in printed if line}
        assert len(told) <= 1
        assert sum(not line for line in printed) == len(died)
        if completed:
            mark, end = completed[0].split()
            expected = {"by": mark} if end == "returns" else f'"key": ValueError: {mark}'
            assert json.loads(told.pop()) == expected
