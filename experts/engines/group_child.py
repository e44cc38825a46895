"""Runs a command and ends all that it started: `python group_child.py COMMAND …`.

A server with processes of its own may leave them behind when it is killed, or when whoever started
it is. So this stands between: it ends the command's whole process group when the command ends,
when told to (SIGTERM), and when our parent is gone, see `experts.engines.parent`. For Linux.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from experts.engines.parent import stop_with_parent

GRACE_S = 10.0
"""How long the command may take to end by itself when it is told to."""

_PR_SET_PDEATHSIG = 1
# Looked up now: between fork and exec as little as possible may happen.
_prctl = ctypes.CDLL(None).prctl


def main(command: Sequence[str]) -> int:
    """Run `command` until it ends or is no longer wanted.

    Returns:
        Its exit code; 128 and the signal's number if a signal ended it.
    """
    stop = threading.Event()
    _stop_on_sigterm(stop)
    stop_with_parent(stop)
    try:
        process = subprocess.Popen(  # noqa: S603 (what the configuration says, no shell)
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"can't run {command[0]}: {error.strerror}\n")
        return 127
    code = _outlast(process, stop)
    return 128 - code if code < 0 else code


def _die_with_parent() -> None:
    # If we are killed ourselves, nobody ends the group any more; its leader at least is told.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _outlast(process: subprocess.Popen[bytes], stop: threading.Event) -> int:
    ended = threading.Event()

    def await_end() -> None:
        # Not reaped yet, it keeps its number: the group that is killed below is no other one.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended.set()
        stop.set()

    threading.Thread(target=await_end, daemon=True).start()
    stop.wait()
    if not ended.is_set():
        os.kill(process.pid, signal.SIGTERM)
        ended.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _stop_on_sigterm(stop: threading.Event) -> None:
    def handle(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
