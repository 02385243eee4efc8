"""Sets the declared variables in this process's environment, each once all in it is ready.

The old values come back when pytest is done, which may be long before the process ends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_kindinfra.envtemplates import Word, filled, words
from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    from pytest_kindinfra.coordination import RunDirectory


class Exports:
    """The variables that are not set yet."""

    def __init__(self, run: RunDirectory) -> None:
        self._stack = Stack(run, waits=False)
        plan = run.settled("plan") or {}
        self._left: dict[str, str] = dict(plan.get("env", {}))
        self._services = set(plan.get("services", ()))
        self._set: dict[str, tuple[str, str | None]] = {}

    def set_those_that_are_ready(self) -> None:
        """Set what can be set by now; a variable of a service that no test needs is left out."""
        for name, template in list(self._left.items()):
            if any(word.service and word.service not in self._services for word in words(template)):
                continue
            try:
                value = filled(template, self._value)
            except NotReadyError:  # not yet, or never
                continue
            self._set[name] = value, os.environ.get(name)
            os.environ[name] = value
            del self._left[name]

    def restore(self) -> None:
        """Give each variable the value it had before, unless somebody has changed it since."""
        for name, (value, before) in self._set.items():
            if os.environ.get(name) != value:
                continue
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
        self._set.clear()

    def _value(self, word: Word) -> str:
        if not word.service:
            return str(getattr(self._stack, word.what))
        endpoint = self._stack.endpoint(word.service, word.endpoint or None)
        return str(getattr(endpoint, word.what))
