"""Lines below what others write: on a terminal of its own, of which the screen is looked at."""

from __future__ import annotations

import os
import pty
import struct
import termios
import time
from fcntl import ioctl
from typing import TYPE_CHECKING, TextIO

import pyte
import pytest

from pytest_kindinfra.system.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS, LINES = 30, 12


class Monitor:
    """A terminal, and a stream of this process that leads to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._bytes = pyte.ByteStream(self.screen)
        self.stream: TextIO = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - no path
        self.resize(COLUMNS, LINES)

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def foreign(self, text: str) -> None:
        """Write past the stream, as a program does."""
        os.write(self.stream.fileno(), text.encode())

    def shown(self) -> list[str]:
        time.sleep(0.02)  # the line discipline passes it on
        try:
            while data := os.read(self._master, 1 << 16):
                self._bytes.feed(data)
        except BlockingIOError:
            pass
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    made = Monitor()
    yield made
    made.close()


@pytest.fixture
def screen(monitor: Monitor) -> Iterator[Screen]:
    made = Screen([monitor.stream])
    yield made
    made.close()


def test_lines_stand_below_what_is_written(monitor: Monitor, screen: Screen) -> None:
    monitor.stream.write("one\n")
    screen.show(["a", "b"])
    monitor.stream.write("two\n")
    assert monitor.shown() == ["one", "two", "", "a", "b"]

    screen.show(["c"])
    assert monitor.shown() == ["one", "two", "", "c"]


def test_a_line_that_is_being_written_goes_on_where_it_was(
    monitor: Monitor, screen: Screen
) -> None:
    screen.show(["a", "b"])
    for dot in "....":
        monitor.stream.write(dot)
        assert monitor.shown()[1:] == ["a", "b"]
    assert monitor.shown()[0] == "...."


def test_at_the_lower_end_everything_moves_up(monitor: Monitor, screen: Screen) -> None:
    for number in range(40):
        monitor.stream.write(f"line {number}\n")
        screen.show([f"a {number}", "b"])
    monitor.stream.write("now")

    assert monitor.shown() == [*(f"line {n}" for n in range(31, 40)), "now", "a 39", "b"]


def test_after_close_the_terminal_is_as_without_lines(monitor: Monitor, screen: Screen) -> None:
    monitor.stream.write("one\ntw")
    screen.show(["a", "b", "c"])
    screen.close()
    monitor.stream.write("o")
    monitor.stream.flush()

    assert monitor.shown() == ["one", "two"]
    assert "write" not in vars(monitor.stream)
    screen.show(["d"])
    assert monitor.shown() == ["one", "two"]


def test_what_others_write_past_it_stays_and_lines_come_back(
    monitor: Monitor, screen: Screen
) -> None:
    screen.show(["a long line of the board", "b"])
    monitor.foreign("from a program\n")
    screen.show(["c", "d"])

    assert monitor.shown() == ["from a program", "", "c", "d"]


@pytest.mark.parametrize("size", [(20, 12), (29, 14), (60, 24)])
def test_another_size_of_the_terminal_leaves_nothing_behind(
    monitor: Monitor, screen: Screen, size: tuple[int, int]
) -> None:
    monitor.stream.write("one\n")
    screen.show(["a", "b", "c"])
    monitor.shown()
    monitor.resize(*size)
    assert screen.size == (size[0], size[1] // 2)

    screen.show(["d"])
    assert monitor.shown() == ["one", "", "d"]
    screen.close()
    assert monitor.shown() == ["one"]


def test_a_terminal_of_few_lines_has_no_room(monitor: Monitor, screen: Screen) -> None:
    monitor.resize(30, 5)

    assert screen.size == (30, 0)


def test_while_it_is_hidden_nothing_is_shown(monitor: Monitor, screen: Screen) -> None:
    screen.show(["a"])
    screen.hide()
    screen.show(["b"])
    monitor.stream.write("(Pdb) ")
    monitor.stream.flush()
    assert monitor.shown() == ["(Pdb)"]

    screen.unhide()
    assert monitor.shown() == ["(Pdb)", "b"]


def test_it_waits_while_a_line_is_full_to_the_edge(monitor: Monitor) -> None:
    column = [0]
    screen = Screen([monitor.stream], column=lambda: column[0])
    screen.show(["a"])
    column[0] = COLUMNS
    monitor.stream.write("x" * COLUMNS)
    monitor.stream.write("y")
    column[0] = COLUMNS + 1
    screen.show(["a"])

    assert monitor.shown() == ["x" * COLUMNS, "y", "a"]
    screen.close()


def test_a_process_that_was_forked_off_writes_as_ever(monitor: Monitor, screen: Screen) -> None:
    screen.show(["a"])
    if (child := os.fork()) == 0:
        monitor.stream.write("from the child")
        monitor.stream.flush()
        screen.close()
        os._exit(0)
    os.waitpid(child, 0)
    screen.show(["b"])

    assert monitor.shown() == ["from the child", "b"]


def test_no_terminal_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="ioctl"):
        Screen([file])
