"""One GGUF model in a llama.cpp server of its own, on a loopback port of this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from experts.engines.load import EngineLoad, read_load
from experts.engines.process import ServerProcess
from experts.engines.readiness import await_token
from experts.errors import EngineMoveError
from experts.http.connecting import tls

_CHILD = Path(__file__).with_name("llama_child.py")
_LOAD_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class LlamaSpec:
    """What to serve, and with how much of the machine.

    Attributes:
        expert_id: Also the model's name on the wire.
        model_path: A GGUF file.
        threads: CPU threads of one engine. Two serve one request sooner than one, but several
            engines side by side get more done with one thread each.
        context_tokens: Longest prompt and answer together, per slot.
        slots: Requests answered at once; more wait their turn.
        lazy: It is only started when somebody wakes it.
        ready_s: How long it may take from start to first token.
        optional: Everything else starts without it.
    """

    expert_id: str
    model_path: Path
    threads: int = 1
    context_tokens: int = 4096
    slots: int = 2
    lazy: bool = False
    ready_s: float = 120.0
    optional: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "context_tokens", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"engine {self.expert_id!r}: {name} must be at least 1")

    @property
    def adapters(self) -> Mapping[str, str]:
        """It takes none."""
        return {}

    @property
    def serves(self) -> tuple[str, ...]:
        """Its own expert and no other."""
        return (self.expert_id,)

    def engine(self, log_dir: Path) -> LlamaEngine:
        """The engine that serves it; nothing is started yet."""
        return LlamaEngine(self, log_dir)


class LlamaEngine:
    """A child process that serves one model; it dies with us, however we die.

    It starts within seconds, so it has no lighter sleep than to end.
    """

    levels: frozenset[int] = frozenset()
    api_key: str | None = None
    mends = False

    def __init__(self, spec: LlamaSpec, log_dir: Path) -> None:
        self.spec = spec
        self.process = ServerProcess(spec.expert_id, log_dir)
        self._client = httpx2.Client(trust_env=False, verify=tls())

    @property
    def base_url(self) -> str:
        return f"{self._root}/v1"

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def faults(self) -> Mapping[str, str]:
        """None: one model, nothing beside it."""
        return {}

    def start(self) -> None:
        """Start the process; it is not ready before `wait_ready` returns.

        Raises:
            EngineStartError: There can be none just now.
        """
        self.process.start(self._command())

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model has written a token.

        Raises:
            EngineStartError: It ended, or did not answer in time; with the end of its log.
        """
        failure = self.process.start_error
        await_token(self._writes_a_token, self.wait_end, failure, timeout_s)

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        """Block until the process ends; what became of it, None if it still runs or never ran."""
        return self.process.wait_end(timeout_s)

    def answers(self, timeout_s: float) -> bool:
        """Whether its server still does; a token would wait for all that was asked before."""
        try:
            return self._client.get(f"{self._root}/health", timeout=timeout_s).is_success
        except httpx2.TransportError:
            return False

    def load(self) -> EngineLoad | None:
        """How busy it is; None if it did not say."""
        try:
            page = self._client.get(f"{self._root}/metrics", timeout=_LOAD_TIMEOUT_S)
        except httpx2.TransportError:
            return None
        return read_load(page.text) if page.is_success else None

    def sleep(self, level: int) -> None:
        """Refused: it has no level of sleep with a process."""
        raise EngineMoveError(f"engine {self.spec.expert_id!r} can't sleep at level {level}")

    def wake(self) -> None:
        """Refused, since it never sleeps."""
        raise EngineMoveError(f"engine {self.spec.expert_id!r} does not sleep")

    def take(self, expert_id: str) -> None:
        """Nothing to do: it serves its own expert and no other."""

    def drop(self, expert_id: str) -> None:
        """Nothing to do: it serves its own expert and no other."""

    def serve(self, adapters: Mapping[str, str], *, awake: bool) -> None:
        """Nothing to do: it takes no adapters."""

    def stop(self) -> None:
        """End the process. Calling it twice is fine."""
        self.process.stop()

    def close(self) -> None:
        """Stop the process and give the port back."""
        self.process.close()
        self._client.close()

    @property
    def _root(self) -> str:
        return f"http://127.0.0.1:{self.process.port}"

    def _command(self) -> list[str]:
        spec = self.spec
        options = {
            "model": spec.model_path,
            "alias": spec.expert_id,
            "port": self.process.port,
            "threads": spec.threads,
            "context": spec.context_tokens,
            "slots": spec.slots,
        }
        # By path and with -P: whatever lies in the working directory can't get in between.
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", str(_CHILD), *flags]

    def _writes_a_token(self, timeout_s: float) -> bool:
        body = {"model": self.spec.expert_id, "prompt": "Hi", "max_tokens": 1}
        url = f"{self.base_url}/completions"
        try:
            return self._client.post(url, json=body, timeout=timeout_s).is_success
        except httpx2.TransportError:
            return False
