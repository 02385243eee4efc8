"""What all tests share."""

from __future__ import annotations

import signal
import socketserver

# A shell that starts a command in the background has it ignore SIGINT, and nohup SIGHUP; children
# inherit that. So that the runs which these tests end by signals can be ended everywhere:
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Python's servers let five connections wait. On a busy machine the sixth is dropped, and its client
# tries again after 1, 2, 4, 8 and 16 s: a request took 31 s, and time-outs of 20 s passed.
socketserver.TCPServer.request_queue_size = 128
