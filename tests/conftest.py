"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts a command in the background has it ignore SIGINT, and nohup SIGHUP; children
# inherit that. So that the runs which these tests end by signals can be ended everywhere:
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
