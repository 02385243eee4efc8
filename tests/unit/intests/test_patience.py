"""`eventually` calls until it works, and shows the last failure as it was."""

from __future__ import annotations

import pytest

from pytest_kindinfra.system.timeline import eventually


class Counter:
    def __init__(self, fails: int, error: type[Exception] = AssertionError) -> None:
        self.calls = 0
        self._fails = fails
        self._error = error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._fails:
            msg = f"call {self.calls}"
            raise self._error(msg)
        return self.calls


def test_it_returns_what_the_first_call_that_works_returns() -> None:
    assert eventually(Counter(fails=3), every=0.01) == 4


def test_the_last_failure_is_raised_as_it_was_with_tries_and_time() -> None:
    counter = Counter(fails=100)

    with pytest.raises(AssertionError) as caught:
        eventually(counter, timeout=0.05, every=0.02)

    assert str(caught.value) == f"call {counter.calls}"
    (note,) = caught.value.__notes__
    assert note.startswith(f"kindinfra: eventually() called it {counter.calls} times in 0.")
    assert note.endswith(" s (timeout=0.05)")


def test_it_is_called_at_least_once() -> None:
    assert eventually(Counter(fails=0), timeout=0) == 1


def test_any_other_failure_is_raised_at_once() -> None:
    counter = Counter(fails=1, error=ValueError)

    with pytest.raises(ValueError, match="call 1"):
        eventually(counter, every=0.01)

    assert counter.calls == 1


def test_others_may_be_named() -> None:
    assert eventually(Counter(fails=1, error=OSError), retry_on=(OSError,), every=0.01) == 2


def test_a_coroutine_function_is_refused() -> None:
    async def later() -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=r"asyncio\.to_thread"):
        eventually(later)  # type: ignore[unused-coroutine]
