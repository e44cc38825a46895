"""One server as one child process: started, waited for, ended; its output in a file."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from experts.errors import EngineStartError

_TAIL_LINES = 12


class ServerProcess:
    """A child process that is started again and again, with one log file and one port.

    The port is reserved when this is made and stays the same over restarts, so that clients need
    not be told. The child must end when its standard input does, see `experts.engines.parent`.

    Args:
        name: Whose it is; the log file is named after it.
        log_dir: Where the log file lies.
        port_option: How the child binds the port beside us: SO_REUSEPORT or SO_REUSEADDR.
        grace_s: How long it may take to end when it is told to.
    """

    def __init__(
        self,
        name: str,
        log_dir: Path,
        port_option: int = socket.SO_REUSEPORT,
        grace_s: float = 5.0,
    ) -> None:
        self.name = name
        self._grace_s = grace_s
        self.log_path = log_dir / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.log"
        self._reservation = _reserve_port(port_option)
        self.port: int = self._reservation.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._cleared: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a command, never through a shell; one that still runs is ended first.

        Args:
            command: The program and its arguments.
            env: Its whole environment; ours if None.

        Raises:
            EngineStartError: There is no such program, no process left to have, or no log to write.
        """
        self.stop()
        try:
            self._run(command, env)
        except OSError as error:
            raise EngineStartError(f"engine {self.name!r} can't be started: {error}") from error

    def _run(self, command: Sequence[str], env: Mapping[str, str] | None) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            # Its own session: Ctrl-C in a terminal ends the gateway first, which then ends us.
            self._process = subprocess.Popen(  # noqa: S603 (from the configuration, no shell)
                command,
                env=env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        """Block until it ends; what became of it, None if it still runs or never ran."""
        if self._process is None:
            return None
        try:
            return f"ended with exit code {self._process.wait(timeout_s)}"
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float | None = None) -> None:
        """End it and all that it left behind: politely, then by force. Calling it twice is fine.

        Args:
            grace_s: Instead of the usual grace.
        """
        process = self._process
        # Of one that was cleared away long ago others may have the number by now.
        if process is None or process is self._cleared:
            return
        process.terminate()
        try:
            process.wait(self._grace_s if grace_s is None else grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # It leads a session of its own, which outlives it if it was killed before its children.
        for pid in _members(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.stdin:
            process.stdin.close()
        self._cleared = process

    def close(self) -> None:
        """Stop it and give the port back."""
        self.stop()
        self._reservation.close()

    def start_error(self, what: str) -> EngineStartError:
        """What became of a start, with the end of the log."""
        lines: list[str] = []
        # Somebody may have removed it.
        with suppress(OSError):
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-_TAIL_LINES:]) or "(empty)"
        return EngineStartError(f"engine {self.name!r} {what}; the end of {self.log_path}:\n{tail}")


def _members(session: int) -> list[int]:
    """The processes of a session, on Linux."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while we look.
        with suppress(OSError):
            # The name, in parentheses, may hold anything; session is the fourth field after it.
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append(int(stat.parent.name))
    return found


def _reserve_port(option: int) -> socket.socket:
    # Bound but not listening, it gets no connections; the child binds beside it.
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, option, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation
