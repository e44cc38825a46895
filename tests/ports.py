"""Ports of the loopback address, for tests that start a program which has to be told its own."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody of itself: those it has
    for connections begin higher, and tests beside this one make many."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
