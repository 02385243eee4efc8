"""The protocol between pytest's main process and the provisioner."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from pytest_kindinfra.model import Declaration, Image, Plan
from pytest_kindinfra.plan.options import Settings
from pytest_kindinfra.run.messages import (
    VERSION,
    CallHook,
    Cancel,
    Done,
    Finish,
    Hello,
    HookEnded,
    Hurry,
    Message,
    Owned,
    PhaseEnded,
    Progress,
    Say,
    Start,
    Work,
    decode,
    encode,
    pack,
    unpack,
)
from pytest_kindinfra.run.prepare import Prepared, make_request

MESSAGES: tuple[Message, ...] = (
    Hello(version=1, path=["/a", "/b"]),
    Start(run="/run", prepared="abc=", since=1.5, hooks=["before_build"]),
    Start(run="/run", prepared="abc=", since=1.5, hooks=[], board=True),
    Progress(
        running=(Work(kind="build", subject="api", start=1.5, reached="3/12", says="#8 make"),),
        settled={"cluster": True, "image web": False},
    ),
    HookEnded(number=3),
    HookEnded(number=3, failure="a\nb", brief="a", environment={"A": "b"}),
    Cancel(),
    Finish(failed=True, interrupted=False, width=80, color=True),
    Hurry(),
    Say(line="kindinfra: ünïcode \n in two lines"),
    PhaseEnded(phase={"kind": "build", "subject": "api", "start": 1.0, "end": 2.0}),
    Owned(reused_dir=None),
    CallHook(number=1, hook="after_deploy", subject="api", proved=[{"port": 1}], cluster={}),
    Done(lines=["", "a table"], failed=True),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_message_is_one_line_and_comes_back_as_it_was(message: Message) -> None:
    line = encode(message)

    assert "\n" not in line
    assert decode(line) == message


@pytest.mark.parametrize("line", ["", "null", "[]", '["Hallo", {}]', '["Say", {"text": "x"}]'])
def test_what_is_no_message_is_named(line: str) -> None:
    expected = f"no message of the provisioner's protocol, version {VERSION}: {line!r}"

    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        decode(line)


def test_a_plan_comes_back_as_it_was() -> None:
    class Names(str, Enum):  # noqa: UP042 - as users of older versions write it
        API = "api"

    declaration = Declaration(folder=Path("/shop"), images=(Image(name=Names.API),))
    plan = Plan(declaration=declaration, images=declaration.images)
    prepared = Prepared(
        plan=plan, request=make_request(Settings(), plan, "a-run"), settings=Settings()
    )
    start = Start(run="/run", prepared=pack(prepared), since=0.0, hooks=[])

    run, unpacked = unpack(start)

    assert (run, unpacked) == (Path("/run"), prepared)
    assert type(unpacked.plan.images[0].name) is str
