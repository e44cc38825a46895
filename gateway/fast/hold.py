"""What one call holds while it runs: a slot, leave of its breaker, a place, its money."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from experts.base import Call, Expert
from experts.errors import ExpertCallError, ExpertOutOfServiceError
from experts.http.expert import HttpExpert
from experts.http.replicas import Lease
from experts.messages import ChatRequest, Event, Usage
from gateway.access.passes import Cover, Pass
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.execution.attempt import is_spare
from gateway.execution.traffic import Traffic


class Hold:
    """Taken as a whole or not at all; given back once, by `ok`, `failed` or `abandon`."""

    __slots__ = ("_name", "_ticket", "_traffic", "call", "cover", "lease")

    def __init__(
        self, traffic: Traffic, name: str, ticket: int, call: Call, lease: Lease, cover: Cover
    ) -> None:
        self._traffic = traffic
        self._name = name
        self._ticket = ticket
        self.call = call
        self.lease = lease
        self.cover = cover

    @classmethod
    def take(cls, traffic: Traffic, expert: HttpExpert, ask: Ask, passed: Pass) -> Hold | None:
        """All that a call to `expert` needs; None when some of it would have to be waited for."""
        name = expert.card.expert_id
        if not traffic.slots.try_acquire(name):
            return None
        ticket = traffic.admit_now(name)
        if ticket is not None:
            call = Call(alone, ask.wishes.session)
            try:
                lease = expert.pick(ask.request, call)
                try:
                    cover = passed.cover_now(expert.card, ask.request)
                except ApiError:
                    lease.abandon()
                    raise
            except (ApiError, ExpertOutOfServiceError):
                # The ordinary path comes to the same, and knows what to say or whom else to ask.
                traffic.health.abandon(name, ticket)
            else:
                return cls(traffic, name, ticket, call, lease, cover)
        traffic.slots.release(name)
        return None

    def ok(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        """The call came through."""
        self.lease.end(None)
        self._traffic.health.record(self._name, None, self._ticket)
        self._give_back(cost_nanousd, usage)

    def failed(self, error: ExpertCallError, cost_nanousd: int | None, usage: Usage | None) -> None:
        """The call failed."""
        self.lease.end(error)
        error.spare = is_spare(self.call, error)
        if error.spare:
            # One endpoint of several failed, and that one's own breaker knows.
            self._traffic.health.abandon(self._name, self._ticket)
        else:
            self._traffic.health.record(self._name, error, self._ticket)
        self._give_back(cost_nanousd, usage)

    def abandon(self, cost_nanousd: int | None = 0, usage: Usage | None = None) -> None:
        """It ended without telling anything of the expert."""
        self.lease.abandon()
        self._traffic.health.abandon(self._name, self._ticket)
        self._give_back(cost_nanousd, usage)

    def _give_back(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        self.cover.spent(cost_nanousd, usage)
        self._traffic.slots.release(self._name)


def alone(
    child: Expert, request: ChatRequest, at_most_usd: float | None = None, /
) -> AsyncGenerator[Event, None]:
    """For calls of those who ask nobody else."""
    raise NotImplementedError("only compositions ask others, and they take the ordinary path")
