"""The provisioner: the process that brings the stack of a run up and tears it down.

Started by pytest's main process, with a channel to it: `run/messages.py`. It is a session of its
own, so that no terminal signals it, and no child of pytest's, so that ending pytest with all of its
children does not end it either, and no test that waits for children waits for it.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import traceback

from pytest_kindinfra.run.messages import VERSION, Alive, Hello, decode, encode
from pytest_kindinfra.system.channel import Channel, watch_process
from pytest_kindinfra.system.programs import leave


def main(file: int, parent: int) -> None:
    """Provision for the process `parent`, which holds the other end of the channel `file`."""
    alive = watch_process(parent)
    if os.getppid() != parent:  # gone, and the number is another's by now
        os._exit(0)
    if os.fork():
        os._exit(0)
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _nothing)  # not SIG_IGN, which programs would inherit
    channel = Channel(file)
    channel.send(encode(Alive(process=os.getpid())))
    lines = channel.lines(alive)
    if (line := next(lines, None)) is None:
        return
    hello = decode(line)
    if not isinstance(hello, Hello) or hello.version != VERSION:
        sys.exit(f"this version of pytest-kindinfra speaks {VERSION}, not {hello}")
    sys.path[:] = hello.path
    gc.disable()  # an import makes much that stays
    from pytest_kindinfra.run.remote import Conversation, write_log

    gc.freeze()
    gc.enable()
    conversation = Conversation(channel, lines)
    signal.signal(signal.SIGTERM, lambda *_: conversation.cancel())
    try:
        conversation.hold()
    except BaseException:  # noqa: BLE001 - threads of a run must not keep the process alive
        write_log(traceback.format_exc())
        leave(1)
    leave(0)


def _nothing(_number: int, _frame: object) -> None:
    """Leave a signal to pytest's main process, which gets it too and says what to do."""
