"""One call for all processes of a run: `kindinfra_once("key", produce)`.

The first that gets the lock produces and writes the outcome, value or failure; everyone else
reads it. A producer that is killed lets go of the lock without an outcome, and the next one
produces. It must not know pytest.
"""

from __future__ import annotations

import json
from hashlib import sha256
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination import locked
from pytest_kindinfra.errors import OnceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.coordination import RunDirectory


class Once:
    """Calls functions once per run; what they return goes through JSON."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._producing: set[tuple[str, int]] = set()

    def __call__(self, key: str, produce: Callable[[], Any]) -> Any:
        """Return what `produce` returned in the one process that called it.

        Args:
            key: Names the call; the same key means the same value everywhere.
            produce: Takes nothing and returns something that JSON can hold.

        Returns:
            The value after a round trip through JSON, in the producing process too.

        Raises:
            OnceError: `produce` raised; the text holds the original's type and message. Or it asked
                for the key that it is to produce.
        """
        name = f"once-{sha256(key.encode()).hexdigest()[:16]}"
        if (outcome := self._run.read(name)) is None:
            if (name, get_ident()) in self._producing:  # another thread waits for its turn
                msg = f'"{key}": its own producer asks for it'
                raise OnceError(msg)
            outcome = self._produce(name, key, produce)
        if "error" in outcome:
            raise OnceError(outcome["error"])
        return outcome["value"]

    def _produce(self, name: str, key: str, produce: Callable[[], Any]) -> dict[str, Any]:
        self._run.make()
        with locked(self._run.path / "state" / f"{name}.lock"):
            outcome: dict[str, Any] | None = self._run.read(name)
            if outcome is None:
                mine = name, get_ident()
                self._producing.add(mine)
                try:
                    outcome = _outcome(key, produce)
                finally:
                    self._producing.discard(mine)
                self._run.write(name, outcome)
        return outcome


def _outcome(key: str, produce: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"key": key, "value": json.loads(json.dumps(produce()))}
    except (KeyboardInterrupt, SystemExit):
        raise  # this process is ending, which says nothing about the call
    except BaseException as error:  # noqa: BLE001 - pytest.fail() is no Exception
        return {"key": key, "error": f'"{key}": {type(error).__name__}: {error}'}
