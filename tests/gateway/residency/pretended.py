"""Two engines that only pretend to be, and memory for one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from experts.engines.load import EngineLoad
from experts.engines.states import ENDED, EngineState, EngineStatus
from experts.errors import EngineMoveError, EngineStartError
from gateway.residency.desk import Desk, desk_for
from gateway.residency.first import steward_of
from gateway.settings.root import Settings

MOVE_S = 0.03


class FakeEngines:
    """Two engines with memory for one, that sleep and wake in moments."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.moves: list[str] = []
        self.broken: set[str] = set()
        self.loads: dict[str, Callable[[], EngineLoad]] = {}
        self._lock = threading.Lock()
        self._states = {
            name: EngineState(name, "", EngineStatus.ASLEEP, serves=(name,), level=ENDED)
            for name in ("a", "b")
        }

    def states(self) -> tuple[EngineState, ...]:
        return tuple(self._states.values())

    def load(self, expert_id: str) -> EngineLoad | None:
        return self.loads[expert_id]() if expert_id in self.loads else None

    def wake(self, expert_id: str) -> None:
        self._rise(expert_id)

    def start(self, expert_id: str) -> None:
        self._rise(expert_id)

    def sleep(self, expert_id: str, level: int = 1) -> None:
        self._fall(expert_id, EngineStatus.ASLEEP)

    def stop(self, expert_id: str) -> None:
        self._fall(expert_id, EngineStatus.STOPPED)

    def put(self, name: str, status: EngineStatus, error: str = "") -> None:
        with self._lock:
            before = self._states[name]
            self._states[name] = state = replace(
                before,
                status=status,
                last_error=error,
                level=ENDED if status != "ready" else 0,
                wakes=before.wakes + (status == "waking"),
            )
            awake = [n for n, s in self._states.items() if s.status not in ("asleep", "stopped")]
            assert len(awake) <= 1, awake
            self.desk.told(state)

    def _rise(self, name: str) -> None:
        self.moves.append(f"{name} wakes")
        self.put(name, EngineStatus.WAKING)
        time.sleep(MOVE_S)
        if name in self.broken:
            self.put(name, EngineStatus.ASLEEP)
            raise EngineStartError(f"{name} is broken")
        self.put(name, EngineStatus.READY)

    def _fall(self, name: str, status: EngineStatus) -> None:
        if self._states[name].status is EngineStatus.STOPPED:
            raise EngineMoveError(f"{name} was stopped")
        if self._states[name].status is EngineStatus.READY:
            self.put(name, EngineStatus.DRAINING)
            self.desk.drain(name, 5.0)
        self.moves.append(f"{name} sleeps")
        self.put(name, status)


@contextmanager
def owner(**residency: object) -> Iterator[FakeEngines]:
    experts = {"a": {"memory_gb": 1}, "b": {"memory_gb": 1}}
    section = {"memory_gb": 1, "experts": experts, "stay": 0.0, "wake_s": 0.1, **residency}
    packages = [{"kind": "packaged", "package": "gemma-3-270m", "id": name} for name in experts]
    settings = Settings.model_validate({"experts": packages, "residency": section})
    with desk_for(steward_of(settings)) as desk:
        engines = FakeEngines(desk)
        with desk.looking_after(engines):
            yield engines
