"""What all requests of a process share while they are carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.execution.health import Health
from gateway.execution.reserve import UNLIMITED, Reservation
from gateway.execution.retries import RetryBudget
from gateway.execution.slots import Slots
from gateway.settings.execution import ExecutionSettings
from gateway.settings.experts import UrlExpert
from gateway.settings.limits import LimitSettings
from gateway.settings.root import Settings


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rules, and the state of the experts that they are applied to.

    Attributes:
        limits: Seconds and counts.
        rules: How failures are handled.
        health: Who is in service.
        slots: Who may be called just now.
        retries: How many extra calls may be made.
        hedge_s: Expert id to the silence after which a second one is asked.
        rng: For jitter only; no decision depends on it.
    """

    limits: LimitSettings
    rules: ExecutionSettings
    health: Health
    slots: Slots
    retries: RetryBudget
    hedge_s: Mapping[str, float]
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    @classmethod
    def of(cls, settings: Settings, seed: int | None = None) -> Traffic:
        """What `settings` ask for, with everybody in service."""
        rules = settings.execution
        slots, hedge_s = {}, {}
        for entry in settings.experts:
            own = entry if isinstance(entry, UrlExpert) else None
            if own and own.max_concurrency:
                slots[entry.id] = own.max_concurrency
            after_s = own.hedge_after_s if own and own.hedge_after_s else rules.hedge_after_s
            if after_s:
                hedge_s[entry.id] = after_s
        return cls(
            settings.limits,
            rules,
            Health(settings.breaker.rules(), settings.breaker.max_pause_s),
            Slots(slots, rules.queue, rules.queue_s),
            RetryBudget(rules.retry_ratio, rules.retries_per_s),
            hedge_s,
            np.random.default_rng(seed),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which one request is carried out.

    Attributes:
        deadline: On anyio's clock; bounds the whole chain.
        who: Whose request it is, for fair shares.
        session: The client's name for the conversation, for prompt caches.
        fallbacks: Experts configured to stand in for the chosen one, in order; they are asked
            before the others that the decision weighed.
        reservation: Where its money comes from.
    """

    deadline: float
    who: str = ""
    session: str | None = None
    fallbacks: tuple[str, ...] = ()
    reservation: Reservation = UNLIMITED
