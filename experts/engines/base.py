"""What an engine is, whatever serves the model: the one seam between supervisor and engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from experts.engines.load import EngineLoad


class EngineSpec(Protocol):
    """What to serve, and how."""

    @property
    def expert_id(self) -> str:
        """Whose engine it is."""
        ...

    @property
    def serves(self) -> tuple[str, ...]:
        """All experts that it answers for, its own first."""
        ...

    @property
    def adapters(self) -> Mapping[str, str]:
        """Those of them that come and go while it runs, with what each is loaded from."""
        ...

    @property
    def lazy(self) -> bool:
        """Whether it is only started when somebody wakes it."""
        ...

    @property
    def optional(self) -> bool:
        """Whether everything else starts without it."""
        ...

    @property
    def ready_s(self) -> float:
        """How long it may take from start to first token."""
        ...

    def engine(self, log_dir: Path) -> Engine:
        """The engine that serves it; nothing is started yet."""
        ...


class Engine(Protocol):
    """One local model behind one URL.

    Its methods block. `stop` may come from another thread at any time, and ends whatever waits.
    """

    @property
    def spec(self) -> EngineSpec: ...

    @property
    def base_url(self) -> str:
        """Where it answers, `http://…/v1`; the same over restarts."""
        ...

    @property
    def api_key(self) -> str | None:
        """What it wants to be told as a bearer token, if anything."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process, running or not; None if it never had one of ours."""
        ...

    @property
    def levels(self) -> frozenset[int]:
        """Levels of sleep that leave its process alive, of 1 and 2; see `EngineState.level`."""
        ...

    @property
    def mends(self) -> bool:
        """Whether what ended comes back by itself, so that nothing of it is to be cleared away."""
        ...

    @property
    def faults(self) -> Mapping[str, str]:
        """Experts of `serves` that it can't answer for though it is ready, and why."""
        ...

    def start(self) -> None:
        """Start the process; it is not ready before `wait_ready` returns.

        Raises:
            EngineStartError: There can be none just now.
        """
        ...

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model has written a token.

        Raises:
            EngineStartError: It ended, or did not answer in time; with the end of its log.
        """
        ...

    def wait_end(self, timeout_s: float | None = None) -> str | None:
        """Block until the process ends; what became of it, None if it still runs or never ran."""
        ...

    def answers(self, timeout_s: float) -> bool:
        """Whether it still does its work; cheap enough to be asked every few seconds.

        Raises:
            EngineStartError: Another server is at its address.
        """
        ...

    def load(self) -> EngineLoad | None:
        """How busy it is; None if it did not say."""
        ...

    def sleep(self, level: int) -> None:
        """Go to sleep with the process alive; `level` is one of `levels`.

        Raises:
            EngineMoveError: It refused.
        """
        ...

    def wake(self) -> None:
        """The way back from `sleep`; it is not ready before `wait_ready` returns.

        Raises:
            EngineMoveError: It refused.
        """
        ...

    def take(self, expert_id: str) -> None:
        """Answer for one more of `serves`, while ready.

        Raises:
            EngineMoveError: It can't.
        """
        ...

    def drop(self, expert_id: str) -> None:
        """Answer no more for one of `serves`, but for its own, until it is taken again.

        Raises:
            EngineMoveError: It refused.
        """
        ...

    def serve(self, adapters: Mapping[str, str], *, awake: bool) -> None:
        """Answer for these adapters in place of those of its spec, at once or when it wakes.

        Raises:
            EngineMoveError: It can't load one; then nothing has changed.
        """
        ...

    def stop(self) -> None:
        """End the process; calling it twice is fine.

        Raises:
            EngineMoveError: It may run on.
        """
        ...

    def close(self) -> None:
        """Stop the process and give back what it was reached by."""
        ...
