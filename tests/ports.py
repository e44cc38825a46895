"""Ports of the loopback address, for tests that start a program which has to be told its own."""

from __future__ import annotations

import atexit
import secrets
import socket
from contextlib import ExitStack, suppress

_signs = ExitStack()
atexit.register(_signs.close)


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody of itself: those it has
    for connections begin higher, and tests beside this one make many.

    While this process lives no other test gets it, of whatever process: the program that is told
    to listen there takes seconds to. What tells them is the port of the same number for datagrams.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, ExitStack() as stack, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            sign = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sign.bind(("127.0.0.1", port))
            _signs.push(stack.pop_all())
            return port
