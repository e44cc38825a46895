"""For processes that must not outlive the one that started them, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType

_PR_SET_PDEATHSIG = 1


def stop_with_parent(stop: threading.Event) -> None:
    """Set `stop` when our parent is gone; it must hold the other end of our standard input.

    Call it in the main thread.
    """
    threading.Thread(target=_wait_for_end_of_stdin, args=(stop,), daemon=True).start()
    if sys.platform == "linux":
        _signal_when_parent_dies(stop)


def _wait_for_end_of_stdin(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


def _signal_when_parent_dies(stop: threading.Event) -> None:
    # Another child of our parent may have inherited the pipe and hold it open. Linux sends this
    # signal also when only the thread that started us ends, so the handler looks who is left.
    parent = os.getppid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            stop.set()

    signal.signal(signal.SIGHUP, handle)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
