"""`kindinfra_once` within one process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import OnceError
from pytest_kindinfra.session.fixtures import Once

if TYPE_CHECKING:
    from pytest_kindinfra.state.directory import RunDirectory


def test_a_second_thread_waits_for_the_value_of_the_first(run: RunDirectory) -> None:
    once, begun, asked = Once(run), threading.Event(), threading.Event()

    def produce() -> int:
        begun.set()
        asked.wait(60)
        asked.wait(0.2)  # time for the second thread to come to the lock
        return 42

    def ask() -> int:
        asked.set()
        return int(once("key", lambda: 43))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(once, "key", produce)
        begun.wait(60)
        second = pool.submit(ask)

        assert (first.result(10), second.result(10)) == (42, 42)


def test_a_producer_that_asks_for_its_own_key_is_told(run: RunDirectory) -> None:
    once = Once(run)

    with pytest.raises(OnceError, match="its producer requests the same key"):
        once("key", lambda: once("key", lambda: 1))
