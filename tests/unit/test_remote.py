"""Hooks that are called in another process: asked for by a message, answered by another."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.model import Endpoint, Image, Service
from pytest_kindinfra.run.messages import CallHook, HookEnded, Message
from pytest_kindinfra.run.remote import RemoteHooks, write_log
from pytest_kindinfra.state.directory import RunDirectory

ALL = ("before_build", "before_deploy", "after_deploy", "diagnose", "before_teardown")
FULL = Path("/dev/full")
WEB = Endpoint(service="web", name="http", scheme="http", host="127.0.0.1", port=20080)


class Pytest:
    """Answers each call as told."""

    def __init__(self, **answer: Any) -> None:
        self.asked: list[Message] = []
        self.hooks = RemoteHooks(self._send, ALL)
        self._answer = answer

    def _send(self, message: Message) -> None:
        self.asked.append(message)
        assert isinstance(message, CallHook)
        ended = HookEnded(number=message.number, **self._answer)
        threading.Thread(target=self.hooks.ended, args=(ended,)).start()


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(RunDirectory(tmp_path), waits=False, proved={"web": (WEB,)})


def test_a_call_says_what_it_is_about_and_what_no_file_says(stack: Stack) -> None:
    pytest_process = Pytest()

    pytest_process.hooks.before_build(Image(name="api"))
    pytest_process.hooks.after_deploy(stack=stack, service=Service(name="web"))

    assert pytest_process.asked == [
        CallHook(number=0, hook="before_build", subject="api"),
        CallHook(
            number=1,
            hook="after_deploy",
            subject="web",
            proved=[
                {
                    "service": "web",
                    "name": "http",
                    "scheme": "http",
                    "host": "127.0.0.1",
                    "port": 20080,
                    "virtual_host": "",
                }
            ],
        ),
    ]


def test_variables_that_a_hook_set_are_set_for_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_VERSION", raising=False)
    try:
        Pytest(environment={"SHOP_VERSION": "7"}).hooks.before_build(Image(name="api"))

        assert os.environ["SHOP_VERSION"] == "7"
    finally:
        os.environ.pop("SHOP_VERSION", None)


def test_a_failure_is_told_in_full_and_at_the_end_of_a_run_in_a_line(
    stack: Stack, tmp_path: Path
) -> None:
    hooks = Pytest(failure="Traceback\n  of it", brief="ValueError('x')").hooks

    with pytest.raises(KindInfraError, match=r"^Traceback\n  of it$"):
        hooks.before_deploy(stack=stack, service=Service(name="web"))
    with pytest.raises(KindInfraError, match=r"^ValueError\('x'\)$"):
        hooks.pytest_kindinfra_diagnose(stack=stack, directory=tmp_path)


def test_a_hook_without_implementation_costs_no_message(stack: Stack) -> None:
    asked: list[Message] = []
    hooks = RemoteHooks(asked.append, ["before_build"])

    hooks.before_deploy(stack=stack, service=Service(name="web"))

    assert asked == []
    assert not hooks.deploying


def test_once_pytest_is_gone_calls_fail_and_no_others_are_made(stack: Stack) -> None:
    asked: list[Message] = []
    hooks = RemoteHooks(asked.append, ALL)
    threading.Timer(0.1, hooks.hang_up).start()

    with pytest.raises(KindInfraError, match=r"^pytest's main process has ended$"):
        hooks.before_deploy(stack=stack, service=Service(name="web"))
    hooks.before_deploy(stack=stack, service=Service(name="db"))

    assert len(asked) == 1


@pytest.mark.skipif(not FULL.exists(), reason="Linux has a device that is always full")
def test_a_log_on_a_full_disk_does_not_keep_a_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    with open(log, "w") as output:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", output)
        kept = os.dup(log)
        os.dup2(os.open(FULL, os.O_WRONLY), log)
        write_log("no room for this line")
        os.dup2(kept, log)
        write_log("room again")

    assert (tmp_path / "log").read_text().endswith("room again\n")
