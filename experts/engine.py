"""One local model as one child process that speaks OpenAI's protocol on a loopback port."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2

from experts.errors import EngineStartError

_CHILD = Path(__file__).with_name("engine_child.py")
_POLL_S = 0.05
_PROBE_TIMEOUT_S = 30.0
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What to serve, and with how much of the machine.

    Attributes:
        expert_id: Also the model's name on the wire.
        model_path: A GGUF file.
        threads: CPU threads of one engine. Two serve one request sooner than one, but several
            engines side by side get more done with one thread each.
        context_tokens: Longest prompt and answer together, per slot.
        slots: Requests answered at once; more wait their turn.
    """

    expert_id: str
    model_path: Path
    threads: int = 1
    context_tokens: int = 4096
    slots: int = 2

    def __post_init__(self) -> None:
        for name in ("threads", "context_tokens", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"engine {self.expert_id!r}: {name} must be at least 1")


class Engine:
    """A child process that serves one model; it dies with us, however we die.

    The port is reserved when the engine is made and stays the same over restarts, so that clients
    need not be told.
    """

    def __init__(self, spec: EngineSpec, log_dir: Path) -> None:
        self.spec = spec
        self.log_path = log_dir / f"{re.sub(r'[^A-Za-z0-9._-]', '_', spec.expert_id)}.log"
        self._reservation = _reserve_port()
        self._port: int = self._reservation.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; it is not ready before `wait_ready` returns."""
        self.stop()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            # Its own session: Ctrl-C in a terminal ends the gateway first, which then ends us.
            self._process = subprocess.Popen(  # noqa: S603 (our own file and our own arguments)
                self._command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model has written a token.

        A server can say that it is healthy and still fail every request, so nothing less counts.

        Raises:
            EngineStartError: It ended, or did not answer in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        with httpx2.Client(timeout=min(_PROBE_TIMEOUT_S, timeout_s), trust_env=False) as client:
            while not self._answers(client):
                code = self.wait_exit(_POLL_S)
                if code is not None:
                    raise self._start_error(f"ended with exit code {code}")
                if time.monotonic() >= deadline:
                    raise self._start_error(f"gave no answer within {timeout_s:g} s")

    def wait_exit(self, timeout_s: float | None = None) -> int | None:
        """Block until the process ends; its exit code, or None if it still runs or never ran."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float = 5.0) -> None:
        """End the process: politely, then by force after `grace_s`. Calling it twice is fine."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def close(self) -> None:
        """Stop the process and give the port back."""
        self.stop()
        self._reservation.close()

    def _command(self) -> list[str]:
        spec = self.spec
        options = {
            "model": spec.model_path,
            "alias": spec.expert_id,
            "port": self._port,
            "threads": spec.threads,
            "context": spec.context_tokens,
            "slots": spec.slots,
        }
        # By path and with -P: whatever lies in the working directory can't get in between.
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", str(_CHILD), *flags]

    def _answers(self, client: httpx2.Client) -> bool:
        body = {"model": self.spec.expert_id, "prompt": "Hi", "max_tokens": 1}
        try:
            return client.post(f"{self.base_url}/completions", json=body).is_success
        except httpx2.TransportError:
            return False

    def _start_error(self, what: str) -> EngineStartError:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-_TAIL_LINES:]) or "(empty)"
        return EngineStartError(
            f"engine {self.spec.expert_id!r} {what}; the end of {self.log_path}:\n{tail}"
        )


def _reserve_port() -> socket.socket:
    # Bound but not listening, it gets no connections; the child binds beside it.
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation
