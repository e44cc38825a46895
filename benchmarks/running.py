"""Processes that are measured: started, frozen between their turns, and asked what they cost."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks.stacks import Stack

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Places in what `/proc/<pid>/stat` says after the name.
_GROUP, _USER, _SYSTEM, _PAGES = 2, 11, 12, 21


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def on_core(core: int, command: tuple[str, ...]) -> list[str]:
    """A command kept on one core, if there is another for the rest; first in line, if allowed.

    Start it in a session of its own.
    """
    words = [*_FIRST_IN_LINE] if os.geteuid() == 0 else []
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        words += ["taskset", "-c", str(core)]
    return [*words, *command]


# Linux weighs sessions against each other before it looks at how nice a process is.
_FIRST_IN_LINE = (
    *("sh", "-c"),
    '[ -w /proc/self/autogroup ] && echo -19 > /proc/self/autogroup; exec nice -n -19 "$@"',
    "first-in-line",
)


class Running:
    """A gateway that has answered its first request."""

    def __init__(self, stack: Stack, log: Path, body: bytes) -> None:
        self.stack = stack
        self.port = stack.port or 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        began = time.perf_counter()
        if stack.command is not None:
            if stack.url_file:
                stack.url_file.unlink(missing_ok=True)
            self._log = log.open("wb")
            self._process = subprocess.Popen(
                on_core(0, stack.command),
                env={**os.environ, **stack.environment},
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=tempfile.gettempdir(),
            )
        until = began + 120
        while not self._answers(body):
            if time.perf_counter() > until or (self._process and self._process.poll() is not None):
                self.stop()
                raise RuntimeError(f"{stack.name} does not answer; {log} may say why")
            time.sleep(0.01)
        self.start_s = time.perf_counter() - began

    def _answers(self, body: bytes) -> bool:
        if self.stack.url_file:
            if not self.stack.url_file.exists():
                return False
            self.port = int(self.stack.url_file.read_text().split(":")[2].split("/")[0] or 0)
        headers = dict(line.split(": ", 1) for line in self.stack.headers)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = {"content-type": "application/json", "authorization": "Bearer none", **headers}
            connection.request("POST", self.stack.path, body, sent)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return response.status == 200

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        self._signal(signal.SIGTERM)
        if self._process:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        if self._log:
            self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return sum(int(f[_USER]) + int(f[_SYSTEM]) for f in self._stats()) / _TICKS_PER_S

    def rss_mb(self) -> float:
        """Memory that its processes hold, each counted whole."""
        pages = sum(int(fields[_PAGES]) for fields in self._stats())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def settle(self, most_s: float = 5.0) -> None:
        """Wait until it has done what is left of the work of clients that are gone."""
        until = time.perf_counter() + most_s
        while time.perf_counter() < until:
            before = self.cpu_s()
            time.sleep(0.2)
            if self.cpu_s() - before <= 2 / _TICKS_PER_S:
                return

    def _stats(self) -> Iterator[list[str]]:
        if self._process is None:
            return
        # All its processes are of the group that it was started as.
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # gone by now
            if int(fields[_GROUP]) == self._process.pid:
                yield fields
