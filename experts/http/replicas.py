"""Several endpoints that serve the same model: which one gets the next call. No I/O."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

from experts.engines.load import EngineLoad
from experts.errors import ExpertCallError
from experts.http.breaker import Breaker, BreakerRules
from experts.messages import ChatRequest
from experts.taxonomy import OF_A_PLACE, PAUSING, handling

_SESSIONS = 10_000
_MAX_PREFIX_CHARS = 2_000
_SILENT = 5
_SPENT = -1
"""A ticket of no era: what is reported with it changes nothing."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How calls are spread over endpoints, by `Endpoint.busy`.

    Attributes:
        session_margin: A session stays with the endpoint that has its prompt cached while that
            endpoint is at most this much busier than the idlest: what a cold cache is worth.
        prefix_margin: The same for conversations that only begin alike.
        prefix_chars: A beginning (up to the first question) shorter than this is not worth it.
        headroom: No endpoint is preferred for its cache beyond this multiple of the mean,
            unless it is within the margin, >= 1.
    """

    session_margin: int = 8
    prefix_margin: int = 2
    prefix_chars: int = 512
    headroom: float = 1.25


class Endpoint:
    """One URL of an expert.

    Attributes:
        url: Its base URL, `/v1` included.
        load: Calls of ours under way.
        others: Requests of others under way there, as it said last.
        waiting: Requests that it had accepted and not begun then, ours among them.
        salt: What tells it apart in hashes.
    """

    __slots__ = ("_silent", "breaker", "load", "others", "salt", "url", "waiting")

    def __init__(self, url: str, breaker: Breaker | None) -> None:
        self.url = url
        self.load = 0
        self.others = 0
        self.waiting = 0
        self._silent = 0
        self.salt = blake2b(url.encode(), digest_size=16).digest()
        self.breaker = breaker

    @property
    def busy(self) -> int:
        """Requests under way; those that wait count twice, since a new one would wait as well."""
        return self.load + self.others + self.waiting

    def told(self, load: EngineLoad | None) -> None:
        """It says how busy it is; None: it does not answer.

        It may have too much to do for that, so what it said holds until it was silent five times.
        """
        self._silent = 0 if load else self._silent + 1
        if load or self._silent == _SILENT:
            self.others = max(0, load.under_way - self.load) if load else 0
            self.waiting = load.waiting if load else 0

    @property
    def in_service(self) -> bool:
        """Whether it may be called now."""
        return self.breaker is None or self.breaker.sound or self.breaker.wait_s() <= 0

    @property
    def wait_s(self) -> float:
        """Seconds until it may be called."""
        return self.breaker.wait_s() if self.breaker else 0.0


class Lease:
    """One call's place at an endpoint; `end` or `abandon` gives it back, the first of them counts.

    An endpoint that was too slow for its caller sees only that the call was given up: the caller
    says so with `blame`.

    Args:
        endpoint: Where.
        ticket: Of its breaker.
        others: Whether calls could go elsewhere. One that refuses what others may not is then left
            alone, or as the idlest it would get most of them.
    """

    __slots__ = ("_open", "_others", "_ticket", "endpoint")

    def __init__(
        self, endpoint: Endpoint, ticket: int, others: Callable[[], bool] = lambda: False
    ) -> None:
        self.endpoint = endpoint
        self._others = others
        self._ticket = ticket
        self._open = True
        endpoint.load += 1

    def end(self, error: ExpertCallError | None) -> None:
        """The call came through, or failed with `error`."""
        if not self._give_back():
            return
        if error is not None:
            self.blame(error)
        elif self.endpoint.breaker is not None:
            self.endpoint.breaker.succeeded(self._ticket)

    def abandon(self) -> None:
        """The call ended without telling anything about the endpoint."""
        if self._give_back() and self.endpoint.breaker is not None:
            self.endpoint.breaker.abandoned(self._ticket)

    def blame(self, error: ExpertCallError) -> None:
        """The call failed with `error`; said by the call and by its caller, it counts once."""
        breaker = self.endpoint.breaker
        if breaker is None:
            return
        if isinstance(error, PAUSING) and error.retry_after_s:
            breaker.cool(error.retry_after_s)
        if handling(error).counts or (error.kind in OF_A_PLACE and self._others()):
            breaker.failed(self._ticket)
        else:
            breaker.succeeded(self._ticket)
        self._ticket = _SPENT

    def _give_back(self) -> bool:
        was_open, self._open = self._open, False
        self.endpoint.load -= was_open
        return was_open


class Replicas:
    """Chooses among the endpoints of one expert.

    In this order: the endpoint that answered this session before, the one that conversations
    beginning like this one go to (rendezvous hashing, so that an endpoint more or less moves only
    its own share), the idlest one. The first two are left when they are too busy, see `Balance`.

    Source: Thaler & Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998
    (rendezvous hashing); Mirrokni, Thorup & Zadimoghaddam, "Consistent Hashing with Bounded
    Loads", 2018 (the headroom).

    Args:
        urls: One or more base URLs. A single one has no breaker: its expert's is enough.
    """

    def __init__(
        self,
        urls: Sequence[str],
        balance: Balance | None = None,
        rules: BreakerRules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        several = len(urls) > 1
        self.endpoints = tuple(
            Endpoint(url, Breaker(rules, clock) if several else None) for url in urls
        )
        self._balance = balance or Balance()
        self._sessions: OrderedDict[str, Endpoint] = OrderedDict()
        self._turn = 0

    def pick(
        self, request: ChatRequest, session: str | None = None, avoid: Collection[Endpoint] = ()
    ) -> Lease | None:
        """A place at the best endpoint, or None when all of them are out of service.

        Args:
            request: What is asked; its beginning decides about prefix affinity.
            session: The client's name for the conversation, if it gave one.
            avoid: Endpoints that failed this request; asked again only if there is no other.
        """
        if len(self.endpoints) == 1:
            return Lease(self.endpoints[0], 0)
        ready = [one for one in self.endpoints if one.in_service]
        if avoid:
            ready = [one for one in ready if one not in avoid] or ready
        if not ready:
            return None
        chosen = self._chosen(ready, request, session)
        ticket = chosen.breaker.admit() if chosen.breaker else 0
        if session is not None:
            self._remember(session, chosen)
        if ticket is None:
            return None
        return Lease(chosen, ticket, partial(self.spare, (chosen,)))

    def wait_s(self) -> float:
        """Seconds until some endpoint may be called."""
        return min(one.wait_s for one in self.endpoints)

    def spare(self, used: Collection[Endpoint]) -> bool:
        """Whether an endpoint in service has not been used yet."""
        return any(one not in used and one.in_service for one in self.endpoints)

    def _chosen(
        self, ready: Sequence[Endpoint], request: ChatRequest, session: str | None
    ) -> Endpoint:
        lowest = min(one.busy for one in ready)
        if session is not None:
            kept = self._sessions.get(session)
            allowed = lowest + self._balance.session_margin
            if kept is not None and kept in ready and kept.busy <= allowed:
                return kept
        key = session or prefix_of(request)
        if session is None and len(key) < self._balance.prefix_chars:
            return self._idlest(ready, lowest)
        return self._preferred(ready, key, lowest)

    def _preferred(self, ready: Sequence[Endpoint], key: str, lowest: int) -> Endpoint:
        """The first in the key's own order of endpoints that is not too busy; one always is not."""
        mean = (1 + sum(one.busy for one in ready)) / len(ready)
        most = max(
            math.ceil(self._balance.headroom * mean) - 1, lowest + self._balance.prefix_margin
        )
        open_ = [one for one in ready if one.busy <= most]
        digest = blake2b(key.encode(), digest_size=16).digest()
        # The built-in hash differs from process to process; workers must agree.
        return max(open_, key=lambda one: blake2b(one.salt + digest, digest_size=8).digest())

    def _idlest(self, ready: Sequence[Endpoint], lowest: int) -> Endpoint:
        idle = [one for one in ready if one.busy == lowest]
        self._turn += 1
        return idle[self._turn % len(idle)]

    def _remember(self, session: str, endpoint: Endpoint) -> None:
        self._sessions[session] = endpoint
        self._sessions.move_to_end(session)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)


def prefix_of(request: ChatRequest) -> str:
    """What a conversation begins with, the same for all of its turns: up to the first question."""
    parts: list[str] = []
    for message in request.messages:
        parts.append(message.text)
        if message.role == "user":
            break
    return "\n".join(parts)[:_MAX_PREFIX_CHARS]
