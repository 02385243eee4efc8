"""How a service starts and ends: logs on standard output, and gone at the first SIGTERM.

The process is number 1 in its container, for which the kernel has no default action on SIGTERM:
without a handler each pod would live on until its grace period ends, and a teardown with it.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from kubernaut_kit.web import JsonServer

P = ParamSpec("P")


def start(name: str) -> logging.Logger:
    """Set up logging and the exit on SIGTERM; call it before anything that may take a while."""
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    return logging.getLogger(name)


def in_background(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run *work* in a thread that does not keep the process alive."""
    threading.Thread(target=work, args=args, kwargs=kwargs, daemon=True).start()


def serve(*servers: JsonServer) -> NoReturn:
    """Serve until a signal says to stop, then close the ports and leave."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.server_close)
            in_background(server.serve_forever)
        while True:
            signal.pause()


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    logging.getLogger(__name__).info("%s: leaving", signal.Signals(number).name)
    sys.exit(0)
