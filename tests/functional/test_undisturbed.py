"""Whatever tests do to their process, the stack comes up and goes away.

Without xdist the tests run in pytest's main process, while the stack comes up. In each run a test
that needs nothing does something to the process, and lets the creation of the cluster go on only
then; a second one needs the stack that was brought up meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.fakes import eventually
from tests.functional.project import provisioners

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
{imports}

{disturbing}

@pytest.mark.kindinfra("web")
def test_web(kindinfra):
    note("waited")
    assert kindinfra.url("web")
"""

# `pass_time` must work whatever has been done: real_sleep and real_monotonic are bound before.
IMPORTS = """
import gc, threading, time, warnings
from unittest import mock

real_sleep, real_monotonic = time.sleep, lambda: time.clock_gettime(time.CLOCK_MONOTONIC)
real_exists, real_open = os.path.exists, os.open

def pass_time(busy=False):
    '''Let the creation of the cluster begin and the whole bring-up go on for a while.'''
    os.close(real_open({fakes!r} + "/gates/go", os.O_CREAT | os.O_WRONLY))
    late = real_monotonic() + 60
    result = {latest!r} + "/state/service-web.json"
    while real_monotonic() < late:
        if real_exists(result) and b"endpoints" in _read(result):
            return
        if not busy:
            real_sleep(0.02)
    raise AssertionError("the stack did not come up beside this test")

def _read(path):
    file = real_open(path, os.O_RDONLY)
    try:
        return os.read(file, 100000)
    finally:
        os.close(file)
"""

DISTURBANCES = {
    "a frozen clock": """
from freezegun import freeze_time

@freeze_time("2020-02-28")
def test_it():
    pass_time()
""",
    "a clock that travels": """
import time_machine

@time_machine.travel("2050-01-01", tick=False)
def test_it():
    pass_time()
""",
    "a patched time": """
def test_it(monkeypatch):
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    pass_time()
""",
    "a cleared environment": """
@mock.patch.dict(os.environ, {"SHOP": "1"}, clear=True)
def test_it():
    pass_time()
""",
    "other variables": """
def test_it(monkeypatch, tmp_path):
    for name in ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    pass_time()
""",
    "a folder that goes away": """
def test_it(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    pass_time()
""",
    "sockets that are forbidden": """
def test_it(socket_disabled):
    pass_time()
""",
    "a patched socket": """
import socket

def test_it(monkeypatch):
    monkeypatch.setattr(socket, "socket", mock.Mock(side_effect=AssertionError("no sockets")))
    monkeypatch.setattr(socket, "create_connection", mock.Mock(side_effect=OSError))
    monkeypatch.setattr(socket, "getaddrinfo", mock.Mock(side_effect=OSError))
    pass_time()
""",
    "a default timeout of sockets": """
import socket

def test_it():
    socket.setdefaulttimeout(0.001)
    pass_time()
    socket.setdefaulttimeout(None)
""",
    "warnings that are errors": """
def test_it():
    warnings.simplefilter("error")
    pass_time()
""",
    "the interpreter's lock": """
import ctypes

def test_it():
    ctypes.PyDLL(None).usleep(1500000)  # a PyDLL keeps the lock
    pass_time(busy=True)
""",
    "threads that are patched": """
def test_it(monkeypatch):
    for name in ("Thread", "Event", "Lock", "Condition"):
        monkeypatch.setattr(threading, name, mock.Mock(side_effect=AssertionError("no threads")))
    pass_time()
""",
    "subprocesses that are patched": """
import subprocess

def test_it(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", mock.Mock(side_effect=AssertionError("no programs")))
    pass_time()
""",
    "a fork that comes back": """
def test_it():
    child = os.fork()
    if child == 0:
        return  # and goes on as a second pytest, which waits for the stack
    pass_time()
    os.waitpid(child, 0)
""",
    "faulthandler": """
import faulthandler

def test_it():
    with open(os.devnull, "w") as file:
        faulthandler.dump_traceback_later(0.2, repeat=True, file=file)
        pass_time()
        faulthandler.cancel_dump_traceback_later()
""",
    "signals that are ignored": """
import signal

def test_it():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pass_time()
    signal.signal(signal.SIGCHLD, before)
""",
    "garbage": """
def test_it():
    gc.disable()
    gc.collect()
    pass_time()
    gc.enable()
""",
}


def prepare(project: Project, disturbing: str) -> None:
    project.service("web", image=True)
    project.behave("create", until="go")
    latest = project.folder / ".kindinfra" / "latest"
    imports = IMPORTS.format(fakes=str(project.fakes), latest=str(latest))
    project.tests(TESTS.format(imports=imports, disturbing=disturbing))


def assert_undisturbed(run: Run, **outcomes: int) -> None:
    assert (run.code, run.outcomes) == (0, outcomes or {"passed": 2}), run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
    assert run.clusters == []
    assert run.report["outcome"] == {"state": "passed", "failures": {}, "kept": False}
    assert run.at("waited") >= run.at("end test_it")


@pytest.mark.parametrize("what", DISTURBANCES)
def test_a_test_disturbs_nothing_with(project: Project, what: str) -> None:
    prepare(project, DISTURBANCES[what])

    arguments = ["-p", "no:socket"] if "socket_disabled" not in DISTURBANCES[what] else []
    run = project.run(*arguments, workers=None)

    if what == "a fork that comes back":  # both print a summary, the child's may be the later one
        assert run.clusters == [], run.text
        assert len(run.calls("create")) == len(run.calls("delete")) == 1
        return
    assert_undisturbed(run)


@pytest.mark.parametrize("where", ["conftest.py", "test_it.py"])
def test_gevent_may_patch_everything(project: Project, where: str) -> None:
    prepare(project, "def test_it():\n    pass_time()\n")
    path = project.folder / where
    path.write_text(f"from gevent import monkey\nmonkey.patch_all()\n{path.read_text()}")

    run = project.run("-W", "ignore", workers=None)

    assert_undisturbed(run)


ASYNCIO = """
import asyncio, sys
import pytest

async def main():
    asyncio.get_running_loop().call_later(0.1, print, "the loop")
    return pytest.main(sys.argv[1:])

sys.exit(asyncio.run(main()))
"""
THREAD = """
import sys, threading
import pytest

codes = []
thread = threading.Thread(target=lambda: codes.append(pytest.main(sys.argv[1:])))
thread.start()
thread.join()
sys.exit(codes[0])
"""


@pytest.mark.parametrize("program", [ASYNCIO, THREAD], ids=["in a loop", "in a thread"])
@pytest.mark.parametrize("how", [("-p", "no:xdist"), ("-n", "2")], ids=["one process", "-n 2"])
def test_pytest_may_run(project: Project, program: str, how: tuple[str, ...]) -> None:
    prepare(project, "def test_it():\n    pass_time()\n")
    project.write("embed.py", program)

    done = project.python("embed.py", *how)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert [call.what for call in project.calls()].count("delete") == 1
    assert project.standing() == []


def test_a_test_that_waits_for_all_children_does_not_wait_for_the_provisioner(
    project: Project,
) -> None:
    prepare(
        project,
        """
def test_it():
    with pytest.raises(ChildProcessError):
        os.wait()
    pass_time()
""",
    )

    assert_undisturbed(project.run(workers=None))


def test_the_provisioner_is_a_process_of_its_own_which_ends_with_the_run(project: Project) -> None:
    prepare(project, "def test_it():\n    pass_time()\n    await_gate('seen')\n")

    running = project.start(workers=None)
    running.until_called("create")
    provisioner = running.provisioner()
    assert provisioner
    stat = _stat(provisioner)
    project.open("seen")
    run = running.finish()

    assert_undisturbed(run)
    assert running.process.pid not in stat.values()  # nobody ends it with pytest and its children
    assert eventually(lambda: provisioners(running.process.pid) == [])


def test_nothing_is_started_without_a_need(project: Project) -> None:
    project.service("web")
    project.tests("""
        def test_free(): note("in"); await_gate("seen")
    """)

    running = project.start(workers=None)
    running.until_at("in")
    time.sleep(0.1)
    found = running.provisioner()
    project.open("seen")
    run = running.finish()

    assert found is None
    assert (run.code, run.all_calls) == (0, [])


def _stat(process_id: int) -> dict[str, int]:
    with open(f"/proc/{process_id}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return {"ppid": int(fields[1]), "pgrp": int(fields[2]), "session": int(fields[3])}
