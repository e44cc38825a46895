"""What all requests of a process share while they are carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from experts.base import Expects, nothing_known
from experts.cards import NO_CAPS, Caps, Privacy
from gateway.execution.health import Health
from gateway.execution.purse import Rules
from gateway.execution.reserve import UNLIMITED, Reservation
from gateway.execution.retries import RetryBudget
from gateway.execution.silence import Silence
from gateway.execution.slots import Slots
from gateway.residency.residents import NOBODY_LIVES_HERE, Residents
from gateway.settings.cards import CalledSettings
from gateway.settings.composed import CompositionSettings
from gateway.settings.execution import ExecutionSettings
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
        silence: How long a silent expert is waited for while others could be asked.
        hedge_s: Expert id to the silence after which a second one is asked.
        purses: How many calls a composition may come to, and how long their answers may be.
        rng: For jitter only; no decision depends on it.
        residents: Whose engines are awake.
        own_limits: Expert id to its limits, for those that have some of their own.
    """

    limits: LimitSettings
    rules: ExecutionSettings
    health: Health
    slots: Slots
    retries: RetryBudget
    silence: Silence
    hedge_s: Mapping[str, float]
    purses: Rules
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    residents: Residents = NOBODY_LIVES_HERE
    own_limits: Mapping[str, LimitSettings] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: Settings,
        seed: int | None = None,
        residents: Residents = NOBODY_LIVES_HERE,
    ) -> Traffic:
        """What `settings` ask for, with everybody in service."""
        rules = settings.execution
        return cls(
            settings.limits,
            rules,
            Health(settings.breaker.rules(), residents=residents),
            Slots(_slots(settings), rules.queue, rules.queue_s),
            RetryBudget(rules.retry_ratio, rules.retries_per_s),
            Silence(settings.limits),
            _hedging(settings),
            _purses(settings),
            np.random.default_rng(seed),
            residents,
            _own_limits(settings),
        )

    def admit_now(self, expert_id: str) -> int | None:
        """A ticket of its breaker for a call that waits for nothing; None: it would have to."""
        if expert_id in self.residents.barred:
            return None
        return self.health.admit(expert_id)

    def waits_s(self) -> Mapping[str, float]:
        """Expert to expected seconds until a call of it can begin, where that is not at once."""
        resting, queued = self.residents.waits_s(), self.slots.waits_s()
        return {**resting, **queued} if queued else resting

    def limits_of(self, expert_id: str) -> LimitSettings:
        """How long that expert is waited for; counts are the same for all."""
        return self.own_limits.get(expert_id, self.limits)

    def renewed(self, before: Settings, settings: Settings) -> Traffic:
        """The same traffic under other settings: who is in service stays so, slots stay taken.

        Breakers and retries start afresh only if their own rules have changed.
        """
        rules = settings.execution
        fresh = Traffic.of(settings, residents=self.residents)
        retries = (before.execution.retry_ratio, before.execution.retries_per_s)
        return replace(
            fresh,
            health=self.health if before.breaker == settings.breaker else fresh.health,
            slots=Slots(_slots(settings), rules.queue, rules.queue_s, self.slots),
            retries=self.retries
            if retries == (rules.retry_ratio, rules.retries_per_s)
            else fresh.retries,
            silence=Silence(settings.limits, self.silence),
            rng=self.rng,
        )


def _own_limits(settings: Settings) -> dict[str, LimitSettings]:
    own = [entry for entry in settings.experts if isinstance(entry, CalledSettings)]
    return {e.id: e.limits.within(settings.limits) for e in own if e.limits.model_fields_set}


def _purses(settings: Settings) -> Rules:
    limits, access = settings.limits, settings.access
    return Rules(
        limits.composed_calls,
        limits.composed_depth,
        access.default_max_tokens,
        access.min_answer_tokens,
    )


def _slots(settings: Settings) -> dict[str, int]:
    own = [entry for entry in settings.experts if isinstance(entry, CalledSettings)]
    return {entry.id: entry.max_concurrency for entry in own if entry.max_concurrency}


def _hedging(settings: Settings) -> dict[str, float]:
    found = {}
    for entry in settings.experts:
        if isinstance(entry, CompositionSettings):
            # It is silent for as long as its drafts take.
            continue
        own = entry.hedge_after_s if isinstance(entry, CalledSettings) else None
        if after_s := own or settings.execution.hedge_after_s:
            found[entry.id] = after_s
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which one request is carried out.

    Attributes:
        deadline: On anyio's clock; bounds the whole chain.
        stream_more_s: What a stream that its client has begun to read gets beyond that.
        who: Whose request it is, for fair shares.
        session: The client's name for the conversation, for prompt caches.
        fallbacks: Experts configured to stand in for the chosen one, in order; they are asked
            before the others that the decision weighed.
        reservation: Where its money comes from.
        hurried: The deadline is the client's wish, and sooner than `limits.total_s`.
        recall: Set for calls that nobody waits for: they take slots that are free, give them back
            when this is called because a request wants one, and say nothing of an expert's health.
        caps: What the calls that compositions make for it may come to.
        expects: What the router expects of experts, for compositions that choose among them.
        privacy: The class of its data: nobody is called who may not be sent it.
    """

    deadline: float
    who: str = ""
    session: str | None = None
    fallbacks: tuple[str, ...] = ()
    reservation: Reservation = UNLIMITED
    hurried: bool = False
    recall: Callable[[], None] | None = None
    caps: Caps = NO_CAPS
    expects: Expects = nothing_known
    privacy: Privacy = "public"
    stream_more_s: float = 0.0
