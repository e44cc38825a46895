"""What a local engine is doing, and how long its moves took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ENDED = 3
"""The deepest level of sleep: no process, the weights are on disk."""


class EngineStatus(StrEnum):
    """What an engine is doing."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It ends the calls that it has and is to get no others: it goes to sleep or stops."""
    ASLEEP = "asleep"
    WAKING = "waking"
    DOWN = "down"
    """It ended, hung or failed to start, and waits to be started again."""
    STOPPED = "stopped"
    """Somebody stopped it: only `start` brings it back."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine at one moment, for health pages and for who plans what is awake.

    Attributes:
        expert_id: Whose engine it is.
        base_url: Where it answers; the same over restarts.
        status: What it is doing.
        restarts: How often it was started again.
        wakes: How often it was woken.
        last_error: Why it was last down, "" if it never was.
        serves: All experts that it answers for: its own, and one for each adapter.
        pid: Its process, None while it has none or if it is not ours.
        level: How deeply it sleeps: 0 awake, 1 its weights are in the host's memory, 2 they are
            dropped but the process lives, 3 (`ENDED`) there is no process.
        faults: Experts of `serves` that it can't answer for though it is ready, and why.
        start_s: What its last start took, from nothing to the first token; None before one did.
        sleep_s: What going to sleep last took, draining not counted.
        wake_s: What waking last took, from level 1 or 2 to the first token.
    """

    expert_id: str
    base_url: str
    status: EngineStatus = EngineStatus.STARTING
    restarts: int = 0
    wakes: int = 0
    last_error: str = ""
    serves: tuple[str, ...] = ()
    pid: int | None = None
    level: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)
    start_s: float | None = None
    sleep_s: float | None = None
    wake_s: float | None = None
