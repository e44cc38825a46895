"""Keeps local engines running: starts them together, moves them when told, ends them all."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from experts.engines.base import EngineSpec
from experts.engines.keeper import Drain, Keeper, Listener, Timing
from experts.engines.load import EngineLoad
from experts.engines.states import EngineState
from experts.errors import EngineMoveError


class Supervisor:
    """Runs engines for as long as the `with` block lasts.

    Entering starts all engines at once, but for lazy ones, and returns when each has written its
    first token. From then on an engine that ends or hangs is started again at the same place.

    `start`, `stop`, `sleep` and `wake` may be called from any thread and return when it is done.
    They name an engine by any expert that it serves: moving one moves them all, but an adapter
    can be stopped and started by itself.

    Args:
        specs: The engines to run.
        log_dir: Where each engine's output goes, one file per engine.
        on_change: Told every new state, from various threads, one at a time; it must neither
            raise, nor take long, nor call the supervisor.
        timing: Waits and clock.
        drain: Keeps calls away from an engine that is to sleep or to stop; the engine's own
            figures are waited for in any case, as far as it has some.

    Raises:
        EngineStartError: On entering, when an engine does not come up; none is left running then.
    """

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        log_dir: Path,
        *,
        on_change: Listener | None = None,
        timing: Timing | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._timing = timing or Timing()
        self._tell = _one_at_a_time(on_change, threading.Lock())
        self._drain = drain
        self._keepers = tuple(map(self._keeper_of, specs))

    def __enter__(self) -> Self:
        _begin(self._keepers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, specs: Sequence[EngineSpec]) -> None:
        """Run more engines; returns when all are ready, but for lazy ones.

        Raises:
            EngineStartError: One did not come up; none of them is left running then.
        """
        added = tuple(map(self._keeper_of, specs))
        _begin(added)
        self._keepers += added

    def remove(self, expert_id: str) -> None:
        """End an engine when its calls are done, and forget it."""
        keeper = self._keeper(expert_id)
        keeper.stop()
        self._keepers = tuple(one for one in self._keepers if one is not keeper)
        _end([keeper])

    def serve(self, expert_id: str, adapters: Mapping[str, str]) -> None:
        """Let an engine answer for these adapters and no others; one that rests does so once awake.

        Args:
            expert_id: Whose engine.
            adapters: Expert id to what it is loaded from; of one that it has, that stays the same.

        Raises:
            EngineMoveError: One can't be loaded; then nothing has changed.
        """
        self._keeper(expert_id).serve(adapters)

    def start(self, expert_id: str) -> None:
        """Make an engine ready, also one that was stopped; load an adapter that it lacks.

        Raises:
            EngineStartError: It did not come up; it is then what it was before.
            EngineMoveError: It refused to wake, and is started afresh; or it can't load the
                adapter; or there is no such engine.
        """
        self._keeper(expert_id).start(expert_id)

    def stop(self, expert_id: str) -> None:
        """End an engine when its calls are done, or unload an adapter; only `start` brings it back.

        Raises:
            EngineMoveError: It is not ready, so no adapter can be unloaded; or there is no such
                engine.
        """
        keeper = self._keeper(expert_id)
        if expert_id == keeper.state.expert_id:
            keeper.stop()
        else:
            keeper.drop(expert_id)

    def sleep(self, expert_id: str, level: int = 1) -> None:
        """Put a ready engine to sleep when its calls are done; one that sleeps so already is fine.

        Args:
            expert_id: Whose engine.
            level: How deeply at least, see `EngineState.level`. It gets the lightest level that it
                has; one that sleeps less deeply is ended.

        Raises:
            EngineMoveError: It is neither ready nor asleep, or refused; or there is no such engine.
        """
        self._keeper(expert_id).sleep(level)

    def wake(self, expert_id: str) -> None:
        """Make an engine ready that sleeps or is down; one that is ready is fine.

        Raises:
            EngineStartError: It did not come up. If it has a process, it is started afresh.
            EngineMoveError: It was stopped, or refused; or there is no such engine.
        """
        self._keeper(expert_id).wake()

    def base_url(self, expert_id: str) -> str:
        """Where that engine answers, `http://…/v1`."""
        return self.state(expert_id).base_url

    def api_key(self, expert_id: str) -> str | None:
        """What that engine wants to be told as a bearer token, if anything."""
        return self._keeper(expert_id).engine.api_key

    def load(self, expert_id: str) -> EngineLoad | None:
        """How busy that engine is; None if it does not say, because it sleeps, for instance."""
        return self._keeper(expert_id).engine.load()

    def state(self, expert_id: str) -> EngineState:
        """That engine's state now.

        Raises:
            EngineMoveError: There is no such engine.
        """
        return self._keeper(expert_id).state

    def states(self) -> tuple[EngineState, ...]:
        """The engines' states now, in the order of their specs."""
        return tuple(keeper.state for keeper in self._keepers)

    def specs(self) -> tuple[EngineSpec, ...]:
        """What is served now, in the order of the states."""
        return tuple(keeper.engine.spec for keeper in self._keepers)

    def close(self) -> None:
        """End every engine and thread, without waiting for calls; calling it twice is fine."""
        _end(self._keepers)

    def _keeper_of(self, spec: EngineSpec) -> Keeper:
        return Keeper(spec.engine(self._log_dir), self._timing, self._tell, self._drain)

    def _keeper(self, expert_id: str) -> Keeper:
        by_expert = {name: keeper for keeper in self._keepers for name in keeper.state.serves}
        try:
            return by_expert[expert_id]
        except KeyError:
            known = ", ".join(by_expert) or "none"
            raise EngineMoveError(
                f"no local engine serves {expert_id!r}; there are: {known}"
            ) from None


def _begin(keepers: Sequence[Keeper]) -> None:
    """Start these together; none is left if one does not come up."""
    try:
        for keeper in keepers:
            keeper.begin()
        for keeper in keepers:
            keeper.await_first_start()
    except BaseException:
        _end(keepers)
        raise


def _end(keepers: Sequence[Keeper]) -> None:
    for keeper in keepers:
        keeper.shut()
    for keeper in keepers:
        keeper.join()


def _one_at_a_time(listener: Listener | None, lock: threading.Lock) -> Listener:
    def tell(state: EngineState) -> None:
        if listener:
            with lock:
                listener(state)

    return tell
