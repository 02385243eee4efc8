"""Facts about this machine."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_kindinfra.system.machine import (
    available_memory,
    file_system_of,
    kernel_setting,
    listener_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_listener_is_named_with_its_process_and_command(listener: socket.socket) -> None:
    found = listener_of(listener.getsockname()[1])

    assert found == (os.getpid(), " ".join(psutil.Process().cmdline()))


def test_a_connection_is_no_listener(listener: socket.socket) -> None:
    """A port on the near side of a connection was given to a listener on the far side's port."""
    with socket.create_connection(listener.getsockname()) as connection:
        assert listener_of(connection.getsockname()[1]) is None


def test_a_folder_that_is_not_there_yet_is_on_the_file_system_of_its_parent(tmp_path: Path) -> None:
    assert file_system_of(tmp_path / "a" / "b") == file_system_of(tmp_path) is not None


def test_what_the_system_does_not_show_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))

    assert file_system_of(tmp_path) is None
    assert available_memory() is None
    assert kernel_setting("fs.inotify.max_user_watches", proc=tmp_path) is None


@pytest.mark.parametrize("text", ["", "no number"])
def test_a_kernel_setting_is_a_number(tmp_path: Path, text: str) -> None:
    setting = tmp_path / "sys" / "kernel" / "pid_max"
    setting.parent.mkdir(parents=True)
    setting.write_text(text)

    assert kernel_setting("kernel.pid_max", proc=tmp_path) is None

    setting.write_text("4194304\n")

    assert kernel_setting("kernel.pid_max", proc=tmp_path) == 4194304


def test_memory_is_told_in_bytes() -> None:
    available = available_memory()

    assert available is not None
    assert 1_000_000 < available <= psutil.virtual_memory().total
