"""Two processes that tell each other lines; one of them may be anything that tests make of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.system.channel import Channel, channel_pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = channel_pair()
    other = Channel(there)
    yield here, other
    here.close()
    other.close()


class Listening:
    """Reads a channel to its end beside the test."""

    def __init__(self, channel: Channel) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=lambda: self._lines.extend(channel.lines()))
        self._thread.start()

    def heard(self) -> list[str]:
        self._thread.join(20)
        return self._lines


def test_lines_come_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    listening = Listening(there)
    sent = [f"{number} {'x' * number * 1000}" for number in range(100)]
    for line in sent:
        here.send(line)
    here.flush(10)
    here.close()

    assert listening.heard() == sent


def test_sending_never_waits_for_the_reader(ends: tuple[Channel, Channel]) -> None:
    here, _ = ends
    before = time.monotonic()
    for _ in range(100):
        here.send("x" * 100_000)

    assert time.monotonic() - before < 50


def test_sending_to_a_closed_channel_is_no_error(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    there.close()

    here.send("anybody?")
    here.flush(5)

    assert list(here.lines()) == []


def test_the_end_is_seen_at_once(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    seen: list[float] = []

    def listen() -> None:
        list(there.lines())
        seen.append(time.monotonic())

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.1)
    closed = time.monotonic()
    here.close()
    thread.join(60)

    assert seen[0] - closed < 0.5


def test_the_end_is_seen_where_a_fork_keeps_it_open(ends: tuple[Channel, Channel]) -> None:
    _, there = ends
    answers = iter([True, True, False])

    assert list(there.lines(lambda: next(answers))) == []


def test_a_file_is_passed_on_with_its_line(ends: tuple[Channel, Channel], tmp_path: Path) -> None:
    here, there = ends
    path = tmp_path / "file"
    path.write_text("found")
    listening = Listening(there)
    here.send("before")
    here.send("the file " + "x" * 300_000, [os.open(path, os.O_RDONLY)])
    here.send("after")
    here.flush(10)
    here.close()

    assert [line[:8] for line in listening.heard()] == ["before", "the file", "after"]
    (file,) = there.files
    assert not os.get_inheritable(file)
    assert os.read(file, 100) == b"found"
    os.close(file)


def test_a_timeout_for_all_sockets_is_none_of_its(monkeypatch: pytest.MonkeyPatch) -> None:
    socket.setdefaulttimeout(0.01)
    try:
        here, there = channel_pair()
    finally:
        socket.setdefaulttimeout(None)
    other = Channel(there)
    monkeypatch.setattr(socket, "socket", None)
    threading.Timer(0.2, lambda: here.send("late")).start()

    lines = other.lines()

    assert next(lines) == "late"
    here.close()
    assert list(lines) == []
    other.close()


GEVENT = """
from gevent import monkey
monkey.patch_all()
from pytest_kindinfra.system.channel import Channel, channel_pair, run_in_thread
import time

here, there = channel_pair()
other, came = Channel(there), []
run_in_thread(lambda: came.extend(other.lines()))
here.send("through threads of the interpreter's own")
late = time.perf_counter() + 10
while not came and time.perf_counter() < late:  # never lets a greenlet run
    pass
print(came)
"""


def test_gevent_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GEVENT], capture_output=True, text=True, check=False
    )

    assert done.stdout == '["through threads of the interpreter\'s own"]\n', done.stderr
