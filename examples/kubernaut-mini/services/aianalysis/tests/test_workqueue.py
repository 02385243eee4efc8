"""The promises of the queue between the watch and the workers."""

from __future__ import annotations

from aianalysis.model import Key
from aianalysis.workqueue import WorkQueue

_ONE, _TWO = Key("shop", "one"), Key("shop", "two")


def test_a_key_waits_at_most_once() -> None:
    queue = WorkQueue()
    for key in (_ONE, _ONE, _TWO):
        queue.add(key)

    assert [queue.take(), queue.take()] == [_ONE, _TWO]


def test_a_key_that_changes_while_it_is_worked_on_comes_again_afterwards() -> None:
    queue = WorkQueue()
    queue.add(_ONE)
    queue.take()
    queue.add(_ONE)
    queue.add(_TWO)

    assert queue.take() == _TWO
    queue.succeeded(_ONE)
    assert queue.take() == _ONE


def test_a_key_that_fails_comes_again_and_waits_longer_each_time() -> None:
    queue = WorkQueue()
    queue.add(_ONE)
    delays = [queue.failed(queue.take()) for _ in range(2)]

    assert delays == [0.2, 0.4]
    queue.succeeded(queue.take())
    queue.add(_ONE)
    assert queue.failed(queue.take()) == 0.2
