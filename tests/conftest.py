"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts a command in the background has it ignore SIGINT, and nohup SIGHUP; children
# inherit that. So that the runs which these tests end by signals can be ended everywhere:
for number, usual in {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}.items():
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)
