"""Runs a program in a process of its own that can do little: see `isolated.py` for how little.

It is a fence against accidents and against what a model may write, not against an attacker who
knows the kernel. Where that matters, run the gateway in a virtual machine of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_RUNNER = Path(__file__).with_name("isolated.py")
_MOST_OUTPUT = 4096
PASSED, FAILED, UNABLE = 0, 9, 10
"""How the runner ends: the tests passed, something raised, or it can't be kept in."""


class SandboxError(Exception):
    """Nothing was run, or it can't be said how it ended."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Limits of one run.

    Attributes:
        timeout_s: Seconds until it is killed; of processor time, the same.
        memory_mb: Address space.
        strict: Whether nothing is run where the kernel can't bar it from files and network.
    """

    timeout_s: float = 5.0
    memory_mb: int = 256
    strict: bool = True

    def run(self, program: str, tests: str) -> str | None:
        """Run `program`, then `tests` with its names; waits for it.

        Returns:
            None if all went well, else in one sentence what did not.

        Raises:
            SandboxError: It can't be run here, or can't be run apart and must be.
        """
        with tempfile.TemporaryDirectory(prefix="pointsman-run-") as name:
            word = secrets.token_hex(16)
            job = {
                "program": program,
                "tests": tests,
                "word": word,
                "cpu_s": max(1, round(self.timeout_s)),
                "memory_bytes": self.memory_mb << 20,
                "strict": self.strict,
            }
            return self._outcome(json.dumps(job), word, Path(name))

    def _outcome(self, job: str, word: str, work: Path) -> str | None:
        # A file, whose length the process's own limit bounds; a pipe would be read without end.
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(  # noqa: S603 - our own file; the program is its input
                    [sys.executable, "-I", "-S", "-B", str(_RUNNER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=output,
                    cwd=work,
                    env={},
                    start_new_session=True,
                    text=True,
                )
            except OSError as error:
                raise SandboxError(f"no process could be started: {error.strerror}") from error
            try:
                process.communicate(job, timeout=self.timeout_s + 1.0)
            except subprocess.TimeoutExpired:
                return f"did not end within {self.timeout_s:g} s"
            finally:
                _end(process)
            output.seek(max(0, output.seek(0, os.SEEK_END) - _MOST_OUTPUT))
            said = output.read().decode("utf-8", "replace")
        last = said.strip().rpartition("\n")[2][:200]
        return self._verdict(process.returncode, last, word)

    def _verdict(self, code: int, last: str, word: str) -> str | None:
        if code == PASSED and last == word:
            return None
        if code == UNABLE:
            raise SandboxError(f"code can't be run apart from this machine: {last}")
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"failed: {last}" if code == FAILED else "ended by itself, early"


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
